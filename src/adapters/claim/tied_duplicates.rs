//! What an adapter saved a second time for a head that is tied to the embedding: checked to be the same, and ignored.
//!
//! With `ensure_weight_tying` PEFT trains one set of factors and saves it twice, for the head turned round
//! (`lora_A = lora_embedding_Bᵀ`), and then merges it twice (peft-methods.md 2.7, a defect). Modules that are saved whole,
//! and rows of tokens, that are equal at both ends are one tensor too. The head follows the embedding, applied once. Where
//! the two differ each end was trained on its own, whatever the config says: on a base in 16 bit PEFT casts tied factors to
//! F32 one by one, and so parts them (measured with 0.21.2).

use crate::adapters::claim::Claim;
use crate::adapters::claim::context::ClaimContext;
use crate::adapters::claim::findings::Findings;
use crate::error::Result;
use crate::model::outline::Target;
use crate::note::claim::ClaimNote;

/// Copies for a tied head.
pub(crate) struct TiedDuplicates;

/// Rows of tokens, and what they stand in, as the method of its own and as LoRA saves them.
const TOKENS: [(&str, &str); 2] = [
    ("trainable_tokens_delta", "base_layer.weight"),
    ("token_adapter.trainable_tokens_delta", "token_adapter.base_layer.weight"),
];

impl Claim for TiedDuplicates {
    fn peft_types(&self) -> &'static [&'static str] {
        &[]
    }

    fn claim(&self, context: &mut ClaimContext<'_>, findings: &mut Findings<'_>) {
        if context.adapter.options.ensure_weight_tying {
            findings.trains_tied_as_one();
        }
        if let Some((head, embedding)) = ends(context)
            && let Err(error) =
                claim_copies(context, findings, &TiedPair { embedding: &embedding, head: &head })
        {
            findings.refuse(error);
        }
    }
}

/// The module paths of the tied head and of the embedding, as the adapter spells them.
fn ends(context: &ClaimContext<'_>) -> Option<(String, String)> {
    let source = context.outline.head.as_ref()?.source;
    Some((context.head_module()?, context.module_at(Target::Base(source))?))
}

/// Tensors of the embedding and of the head.
struct TiedPair<'e> {
    embedding: &'e str,
    head: &'e str,
}

impl TiedPair<'_> {
    /// The embedding's tensor and the head's of such keys, if both are there.
    fn pair(&self, context: &ClaimContext<'_>, of_embedding: &str, of_head: &str) -> Option<(usize, usize)> {
        let first = context.at_path(&format!("{}.{of_embedding}", self.embedding))?;
        Some((first, context.at_path(&format!("{}.{of_head}", self.head))?))
    }

    /// Ignores the head's tensor if it is the embedding's; says whether it is.
    fn ignore_copy(
        &self,
        context: &ClaimContext<'_>,
        findings: &mut Findings<'_>,
        of_embedding: &str,
        of_head: &str,
    ) -> Result<bool> {
        let Some((first, second)) = self.pair(context, of_embedding, of_head) else { return Ok(false) };
        let is_same = context.are_equal(first, second)?;
        if is_same {
            ignore(findings, second);
        }
        Ok(is_same)
    }

    /// The same for tensors of one key.
    fn ignore_same(
        &self,
        context: &ClaimContext<'_>,
        findings: &mut Findings<'_>,
        same: &str,
    ) -> Result<bool> {
        self.ignore_copy(context, findings, same, same)
    }
}

fn claim_copies(context: &ClaimContext<'_>, findings: &mut Findings<'_>, ends: &TiedPair<'_>) -> Result<()> {
    let stays_tied = context.outline.stays_tied();
    ends.ignore_same(context, findings, "weight")?;
    // What both ends started from is one tensor, if they stay one.
    for (rows, start) in TOKENS {
        if ends.ignore_same(context, findings, rows)? || stays_tied {
            ends.ignore_same(context, findings, start)?;
        }
    }
    if stays_tied {
        ends.ignore_copy(context, findings, "base_layer.weight", "weight")?;
        ends.ignore_copy(context, findings, "weight", "base_layer.weight")?;
    }
    claim_factors(context, findings, ends)
}

/// Ignores the head's factors if they are the embedding's turned round.
fn claim_factors(context: &ClaimContext<'_>, findings: &mut Findings<'_>, ends: &TiedPair<'_>) -> Result<()> {
    let Some(a) = ends.pair(context, "lora_embedding_B", "lora_A.weight") else { return Ok(()) };
    let Some(b) = ends.pair(context, "lora_embedding_A", "lora_B.weight") else { return Ok(()) };
    if !context.are_transposed(a.0, a.1)? || !context.are_transposed(b.0, b.1)? {
        if context.adapter.options.ensure_weight_tying {
            let (head, embedding) = (ends.head.to_string(), ends.embedding.to_string());
            findings.note(ClaimNote::TiedTrainedApart { head, embedding });
        }
        return Ok(());
    }
    ignore(findings, a.1);
    ignore(findings, b.1);
    if !context.outline.stays_tied() {
        ends.ignore_same(context, findings, "base_layer.weight")?;
    }
    Ok(())
}

fn ignore(findings: &mut Findings<'_>, copy: usize) {
    findings.ignore(copy, "the LM head is tied to the embedding, and the same values are used once");
    findings.head_follows();
}
