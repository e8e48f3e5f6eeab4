//! What an adapter saved a second time for a head that is tied to the embedding: checked to be the same, and left aside.
//!
//! With `ensure_weight_tying` PEFT trains one set of factors and saves it twice, for the head turned round
//! (`lora_A = lora_embedding_Bᵀ`), and then merges it twice (peft-methods.md 2.7, a defect). Modules that are saved whole,
//! and rows of tokens, that are equal at both ends are one tensor too. The head follows the embedding, applied once. Where
//! the two differ each end was trained on its own, whatever the config says: on a base in 16 bit PEFT casts tied factors to
//! F32 one by one, and so parts them (measured with 0.21.2).

use crate::adapters::claim::context::Claiming;
use crate::error::Result;
use crate::model::outline::{Target, Tied};

use crate::adapters::claim::Method;
use crate::ops::block::Block;

/// Copies for a tied head.
pub(crate) struct TiedCopy;

/// Rows of tokens, and what they stand in, as the method of its own and as LoRA saves them.
const TOKENS: [(&str, &str); 2] = [
    ("trainable_tokens_delta", "base_layer.weight"),
    ("token_adapter.trainable_tokens_delta", "token_adapter.base_layer.weight"),
];

impl Method for TiedCopy {
    fn name(&self) -> &'static str {
        "tied_copy"
    }

    fn peft_types(&self) -> &'static [&'static str] {
        &[]
    }

    fn claim(&self, claiming: &mut Claiming<'_>) {
        if claiming.adapter.options.ensure_weight_tying {
            claiming.trains_ends_as_one();
        }
        if let Some((head, embedding)) = ends(claiming)
            && let Err(error) = claim_copies(claiming, &head, &embedding)
        {
            claiming.refuse(error);
        }
    }

    fn apply(&self, _: &mut Block<'_>) {
        unreachable!("a copy that is left aside makes no op")
    }
}

/// The module paths of the tied head and of the embedding, as the adapter spells them.
fn ends(claiming: &Claiming<'_>) -> Option<(String, String)> {
    let source = claiming.outline.head.as_ref()?.source;
    Some((claiming.head_module()?, claiming.module_at(Target::Base(source))?))
}

fn claim_copies(claiming: &mut Claiming<'_>, head: &str, embedding: &str) -> Result<()> {
    let pair = |claiming: &Claiming<'_>, of_embedding: &str, of_head: &str| {
        let first = claiming.at_path(&format!("{embedding}.{of_embedding}"))?;
        Some((first, claiming.at_path(&format!("{head}.{of_head}"))?))
    };
    let leave_copy = |claiming: &mut Claiming<'_>, of_embedding: &str, of_head: &str| -> Result<bool> {
        let Some((first, second)) = pair(claiming, of_embedding, of_head) else { return Ok(false) };
        let is_same = claiming.are_equal(first, second)?;
        if is_same {
            leave_aside(claiming, second);
        }
        Ok(is_same)
    };
    let leave_same = |claiming: &mut Claiming<'_>, same: &str| leave_copy(claiming, same, same);
    leave_same(claiming, "weight")?;
    // What both ends started from is one tensor, if they stay one.
    for (rows, start) in TOKENS {
        if leave_same(claiming, rows)? || claiming.outline.tied == Tied::Fold {
            leave_same(claiming, start)?;
        }
    }
    if claiming.outline.tied == Tied::Fold {
        leave_copy(claiming, "base_layer.weight", "weight")?;
        leave_copy(claiming, "weight", "base_layer.weight")?;
    }
    let factors = [("lora_embedding_B", "lora_A.weight"), ("lora_embedding_A", "lora_B.weight")];
    let factors = factors.map(|(of_embedding, of_head)| pair(claiming, of_embedding, of_head));
    let [Some(a), Some(b)] = factors else { return Ok(()) };
    if !claiming.are_transposed(a.0, a.1)? || !claiming.are_transposed(b.0, b.1)? {
        if claiming.adapter.options.ensure_weight_tying {
            claiming.notice(format!(
                "`ensure_weight_tying` is set, but the factors of `{head}` and `{embedding}` differ: each end was trained on \
                 its own"
            ));
        }
        return Ok(());
    }
    leave_aside(claiming, a.1);
    leave_aside(claiming, b.1);
    if claiming.outline.tied == Tied::Untie {
        leave_same(claiming, "base_layer.weight")?;
    }
    Ok(())
}

fn leave_aside(claiming: &mut Claiming<'_>, copy: usize) {
    claiming.ignore(copy, "the head is tied to the embedding, whose copy of the same values is used once");
    claiming.head_follows();
}
