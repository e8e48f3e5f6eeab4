//! DeLoRA: `W + B·diag(d)·A·diag(w)`, of factors whose lengths are taken out, times one trained number and the lengths of the base's
//! columns, on linear layers.
//!
//! Source: Bini et al. 2025 (arXiv:2503.18225), equation 8. PEFT: `delora/layer.py`, `_compute_delta` (peft-methods.md 4.5). The input factor is made
//! with all of it ([`UnitRows`]), in f64, and rounded to f32 once; PEFT rounds each step.

use crate::adapters::claim::Claim;
use crate::adapters::claim::context::ClaimContext;
use crate::adapters::claim::findings::Findings;
use crate::adapters::claim::lycoris::{claim_whole_modules, expect};
use crate::adapters::claim::made_product::{DerivedProduct, axes};
use crate::adapters::parts::Tail;
use crate::adapters::peft::config::Field;
use crate::error::Result;
use crate::ops::derived::Derivation;
use crate::ops::derived::unit_rows::UnitRows;
use crate::ops::factor::Factor;

/// Factors of unit length.
pub(crate) struct Delora;

const TAILS: [Tail; 4] = [
    Tail::bare(".delora_A"),
    Tail::bare(".delora_B"),
    Tail::bare(".delora_lambda"),
    Tail::bare(".delora_w_norm"),
];

/// Ranks and numbers are those of the file.
const FIELDS: &[(&str, Field)] = &[
    ("r", Field::Fine),
    ("delora_lambda", Field::Fine),
    ("module_dropout", Field::Fine),
    ("bias", Field::Only(&["none", "all", "delora_only"], "is none of `none`, `all`, `delora_only`")),
    ("init_weights", Field::Fine),
    ("rank_pattern", Field::Fine),
    ("lambda_pattern", Field::Fine),
];

impl Claim for Delora {
    fn peft_types(&self) -> &'static [&'static str] {
        &["DELORA"]
    }

    fn fields(&self) -> &'static [(&'static str, Field)] {
        FIELDS
    }

    fn claim(&self, context: &mut ClaimContext<'_>, findings: &mut Findings<'_>) {
        claim_whole_modules(context, findings, &TAILS, claim_module);
    }
}

fn claim_module(
    context: &mut ClaimContext<'_>,
    findings: &mut Findings<'_>,
    module: &str,
    [a, b, lambda, widths]: [usize; 4],
) -> Result<()> {
    let [rank, input] = axes(context, a, "[rank, in]")?;
    let [out, _] = axes(context, b, "[out, rank]")?;
    for (i, axes) in [(b, &[out, rank][..]), (lambda, &[1]), (widths, &[input])] {
        expect(context, i, axes, a)?;
    }
    let tensor = |i: usize| context.tensor(i).tensor.clone();
    let recipe = UnitRows { rank: rank as usize }.into();
    let made = Derivation { recipe, sources: [b, lambda, widths, a].map(tensor).into() };
    let factors = [
        Factor::derived(made, [rank, input], |a| Factor::along(1, a, 1, rank, input)),
        Factor::along(0, tensor(b), rank, rank, 1),
    ];
    let (used, scale) = ([a, b, lambda, widths], context.adapter.weight_of(module));
    let product =
        DerivedProduct { method: "delora", module, used: &used, size: (out, input), factors, scale };
    product.claim(context, findings)
}
