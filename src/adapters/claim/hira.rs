//! HiRA: `W + W₀∘(B·A)`, the low-rank product times the original weight, element by element; there is no alpha.
//!
//! Source: Huang et al. 2025 (HiRA: Parameter-Efficient Hadamard High-Rank Adaptation, ICLR). PEFT:
//! `hira/layer.py`, `HiraLayer._merge` and `get_delta_weight`. Factors are placed as LoRA's are, on linear layers, embeddings
//! and convolutions. `W₀` is what the tensor starts from: adapters that are merged together do not see one another
//! (`W₀∘(1 + Σ B·A)`).
//!
//! The arithmetic is [`LowRank::SHARE`]'s, with the adapter's weight as its scale.

use crate::adapters::claim::Claim;
use crate::adapters::claim::context::ClaimContext;
use crate::adapters::claim::edits::ClaimedModule;
use crate::adapters::claim::findings::Findings;
use crate::adapters::claim::layers::Layer;
use crate::adapters::claim::pairs::{Pair, take_tails};
use crate::adapters::claim::placing::place;
use crate::adapters::parts::Tail;
use crate::adapters::peft::config::Field;
use crate::error::Result;
use crate::ops::low_rank::LowRank;
use crate::ops::op::Op;

/// A low-rank share of the original weight.
pub(crate) struct Hira;

const A: Tail = Tail::bare(".hira_A");
const B: Tail = Tail::bare(".hira_B");
const EMBEDDING_A: Tail = Tail::bare(".hira_embedding_A");
const EMBEDDING_B: Tail = Tail::bare(".hira_embedding_B");

/// No scale depends on the rank, so that the factors' own is taken: PEFT 0.21 gives a first adapter `r` whatever its
/// `rank_pattern` says.
const FIELDS: &[(&str, Field)] = &[
    ("r", Field::Fine),
    ("rank_pattern", Field::Fine),
    ("fan_in_fan_out", Field::Flag),
    ("hira_dropout", Field::Fine),
    ("init_weights", Field::Fine),
];

impl Claim for Hira {
    fn peft_types(&self) -> &'static [&'static str] {
        &["HIRA"]
    }

    fn fields(&self) -> &'static [(&'static str, Field)] {
        FIELDS
    }

    fn claim(&self, context: &mut ClaimContext<'_>, findings: &mut Findings<'_>) {
        let mut pairs = take_tails(context, findings, A, B, false, |_| true);
        pairs.extend(take_tails(context, findings, EMBEDDING_A, EMBEDDING_B, true, |_| true));
        for pair in pairs {
            if let Err(error) = claim_module(context, findings, &pair) {
                findings.refuse(error);
            }
        }
    }
}

fn claim_module(context: &mut ClaimContext<'_>, findings: &mut Findings<'_>, pair: &Pair) -> Result<()> {
    let layer = Layer { module: pair.module.to_string(), parameter: "weight".to_owned() };
    let Some(placed) = place(context, findings, pair, &layer)? else { return Ok(()) };
    let scale = context.adapter.weight_of(&pair.module) as f32;
    let op = Op::new(LowRank::SHARE, placed.placement(), placed.factors(), scale);
    findings.claim(ClaimedModule::change("hira", &*pair.module, placed.keys(), placed.target, vec![op]));
    Ok(())
}
