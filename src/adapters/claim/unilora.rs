//! Uni-LoRA: `W + B·A`, of factors whose values are picked from one vector, on linear layers.
//!
//! Source: Li et al. 2025 (arXiv:2506.00799). PEFT: `unilora/layer.py`, `get_delta_weight` (peft-methods.md 4.7); there is no scale. Which value stands where is in the
//! file only if it was saved with `save_indices`: else it depends on the order of the model's modules, and not even their names are there.

use crate::adapters::claim::Claim;
use crate::adapters::claim::context::ClaimContext;
use crate::adapters::claim::findings::Findings;
use crate::adapters::claim::lycoris::{claim_whole_modules, expect};
use crate::adapters::claim::made_product::{DerivedProduct, axes, shared};
use crate::adapters::parts::Tail;
use crate::adapters::peft::config::{Field, Refused};
use crate::error::Result;
use crate::ops::derived::Derivation;
use crate::ops::derived::picked::Picked;
use crate::ops::factor::Factor;

/// Factors of one vector's values.
pub(crate) struct Unilora;

const TAILS: [Tail; 4] = [
    Tail::bare(".unilora_indices_A"),
    Tail::bare(".unilora_indices_B"),
    Tail::bare(".unilora_scales_A"),
    Tail::bare(".unilora_scales_B"),
];

const SAVE: &str = "save the adapter again with `save_indices=True` in its config";

const FIELDS: &[(&str, Field)] = &[
    ("r", Field::Fine),
    ("proj_seed", Field::Fine),
    ("theta_d_length", Field::Fine),
    ("unilora_dropout", Field::Fine),
    ("fan_in_fan_out", Field::Flag),
    ("bias", Field::Only(&["none", "all", "unilora_only"], "is none of `none`, `all`, `unilora_only`")),
    ("init_theta_d_bound", Field::Fine),
    ("init_weights", Field::Fine),
    ("save_indices", Field::Cured(&["true"], &[Refused { starts: "", why: "is no flag", cure: SAVE }])),
];

const NO_VECTOR: (&str, &str) =
    ("the vector that it picks from is not in the file", "save the adapter again, or get the whole file");

impl Claim for Unilora {
    fn peft_types(&self) -> &'static [&'static str] {
        &["UNILORA"]
    }

    fn fields(&self) -> &'static [(&'static str, Field)] {
        FIELDS
    }

    fn claim(&self, context: &mut ClaimContext<'_>, findings: &mut Findings<'_>) {
        claim_whole_modules(context, findings, &TAILS, claim_module);
        let vector = context.at_path("unilora_theta_d").filter(|&i| !findings.is_taken(i));
        if let Some(i) = vector {
            findings.take_one(i);
            let why =
                "where its values stand is not in the file, and depends on the order of the model's modules";
            findings.refuse_with(i, why, SAVE);
        }
    }
}

fn claim_module(
    context: &mut ClaimContext<'_>,
    findings: &mut Findings<'_>,
    module: &str,
    [at_a, at_b, by_a, by_b]: [usize; 4],
) -> Result<()> {
    let vector = shared(context, findings, ("unilora_theta_d", at_a), NO_VECTOR)?;
    let [_] = axes(context, vector, "[values]")?;
    let [rank, input] = axes(context, at_a, "[rank, in]")?;
    let [out, _] = axes(context, at_b, "[out, rank]")?;
    for (i, axes) in [(at_b, [out, rank]), (by_a, [rank, input]), (by_b, [out, rank])] {
        expect(context, i, &axes, at_a)?;
    }
    let tensor = |i: usize| context.tensor(i).tensor.clone();
    let made = |at: usize, by: usize| Derivation {
        recipe: Picked.into(),
        sources: [vector, at, by].map(tensor).into(),
    };
    let factors = [
        Factor::derived(made(at_a, by_a), [rank, input], |a| Factor::along(1, a, 1, rank, input)),
        Factor::derived(made(at_b, by_b), [out, rank], |b| Factor::along(0, b, rank, rank, 1)),
    ];
    let (used, scale) = ([at_a, at_b, by_a, by_b, vector], context.adapter.weight_of(module));
    let product =
        DerivedProduct { method: "unilora", module, used: &used, size: (out, input), factors, scale };
    product.claim(context, findings)
}
