//! KaSA: `W` without the part of its smallest singular values, as many as the rank, and `s·B·diag(D)·A`, on linear layers.
//!
//! Source: Wang et al. 2024 (arXiv:2412.06071), equations 5 to 7. PEFT: `lora/variants.py`, `KasaLinearVariant` (peft-methods.md 3.9), which truncates the base when it loads
//! the adapter. The rows of `A` times their values of `D` are made first, and rounded to f32.

use crate::adapters::claim::Claim;
use crate::adapters::claim::base_part::with_part;
use crate::adapters::claim::context::ClaimContext;
use crate::adapters::claim::findings::Findings;
use crate::adapters::claim::lycoris::{claim_whole_modules, expect};
use crate::adapters::claim::pair_op::resolve;
use crate::adapters::claim::pairs::{A, B, Pair};
use crate::adapters::parts::Tail;
use crate::adapters::peft::config::Field;
use crate::adapters::peft::methods::lora::TakenPart;
use crate::error::Result;
use crate::ops::derived::Derivation;
use crate::ops::derived::scaled_rows::ScaledRows;
use crate::ops::factor::Factor;

/// A LoRA with a diagonal in place of what is smallest of the base.
pub(crate) struct Kasa;

const TAILS: [Tail; 3] = [A, B, Tail::bare(".lora_diag")];

const FIELDS: &[(&str, Field)] = &[("kasa_config", Field::Fine)];

impl Claim for Kasa {
    fn peft_types(&self) -> &'static [&'static str] {
        &["LORA"]
    }

    fn fields(&self) -> &'static [(&'static str, Field)] {
        FIELDS
    }

    fn claim(&self, context: &mut ClaimContext<'_>, findings: &mut Findings<'_>) {
        if context.adapter.options.methods.lora.base_part() == Some(TakenPart::SmallestValues) {
            claim_whole_modules(context, findings, &TAILS, claim_module);
        }
    }
}

fn claim_module(
    context: &mut ClaimContext<'_>,
    findings: &mut Findings<'_>,
    module: &str,
    [a, b, diagonal]: [usize; 3],
) -> Result<()> {
    let pair = Pair { module: module.into(), a, b, is_embedding: false, parameter: None };
    let Some(found) = resolve(context, findings, &pair)? else { return Ok(()) };
    let Some((mut found, part)) = with_part(context, &pair, found)? else { return Ok(()) };
    let rank = found.op.factors[0].inner;
    expect(context, diagonal, &[rank], a)?;
    let sources = [a, diagonal].map(|i| context.tensor(i).tensor.clone()).to_vec();
    let input = found.op.placement.axes[1].count;
    let made = Derivation { recipe: ScaledRows.into(), sources };
    found.op.factors[0] = Factor::derived(made, [rank, input], |a| Factor::along(1, a, 1, rank, input));
    found.keys.push(context.tensor(diagonal).key.clone());
    found.claim(findings, "kasa", part);
    Ok(())
}
