//! HiRA: `W + W₀∘(B·A)`, the low-rank product times the original weight, element by element; there is no alpha.
//!
//! Source: Huang et al. 2025 (HiRA: Parameter-Efficient Hadamard High-Rank Adaptation, ICLR). PEFT:
//! `hira/layer.py`, `HiraLayer._merge` and `get_delta_weight`. Factors are placed as LoRA's are, on linear layers, embeddings
//! and convolutions. `W₀` is what the tensor starts from: adapters that are merged together do not see one another
//! (`W₀∘(1 + Σ B·A)`).
//!
//! Rounding: the product in f32, times the adapter's weight, `t` = that times the original, then `value + t`, each in f32;
//! the result is rounded once, where PEFT rounds the product, `t` and the sum to the base's type (peft-methods.md 2.5).

use crate::adapters::claim::context::Claiming;
use crate::adapters::claim::edits::{Change, Claimed};
use crate::adapters::claim::layers::Layer;
use crate::adapters::peft::config::Field;
use crate::adapters::peft::keys::Tail;
use crate::error::Result;

use crate::adapters::claim::Method;
use crate::adapters::claim::lora;
use crate::adapters::claim::lora::Pair;
use crate::ops::block::Block;

/// A low-rank share of the original weight.
pub(crate) struct Hira;

const A: Tail = Tail { role: ".hira_A", ending: "" };
const B: Tail = Tail { role: ".hira_B", ending: "" };
const EMBEDDING_A: Tail = Tail { role: ".hira_embedding_A", ending: "" };
const EMBEDDING_B: Tail = Tail { role: ".hira_embedding_B", ending: "" };

/// No scale depends on the rank, so that the factors' own is taken: PEFT 0.21 gives a first adapter `r` whatever its
/// `rank_pattern` says.
const FIELDS: &[(&str, Field)] = &[
    ("r", Field::Fine),
    ("rank_pattern", Field::Fine),
    ("fan_in_fan_out", Field::Flag),
    ("hira_dropout", Field::Fine),
    ("init_weights", Field::Fine),
];

impl Method for Hira {
    fn name(&self) -> &'static str {
        "hira"
    }

    fn peft_types(&self) -> &'static [&'static str] {
        &["HIRA"]
    }

    fn fields(&self) -> &'static [(&'static str, Field)] {
        FIELDS
    }

    fn claim(&self, claiming: &mut Claiming<'_>) {
        let mut pairs = lora::take_tails(claiming, A, B, false, |_| true);
        pairs.extend(lora::take_tails(claiming, EMBEDDING_A, EMBEDDING_B, true, |_| true));
        for pair in pairs {
            if let Err(error) = claim_module(claiming, &pair) {
                claiming.refuse(error);
            }
        }
    }

    fn apply(&self, block: &mut Block<'_>) {
        block.product_of(0, 1);
        block.add_share();
    }
}

fn claim_module(claiming: &mut Claiming<'_>, pair: &Pair) -> Result<()> {
    let layer = Layer { module: pair.module.clone(), parameter: "weight".to_owned() };
    let Some(placed) = lora::place(claiming, pair, &layer)? else { return Ok(()) };
    let scale = claiming.adapter.weight as f32;
    let change =
        Change { original: true, ..Change::new("hira", placed.placement(), placed.factors(), scale) };
    claiming.claim(Claimed::change("hira", &pair.module, placed.keys(), placed.target, vec![change]));
    Ok(())
}
