//! VeRA: `W + diag(b)·B·diag(d)·A`, of projections that all modules share and vectors of each, on linear layers; and PVeRA, whose `d` is the mean of a
//! distribution.
//!
//! Source: Kopiczko et al. 2023 (arXiv:2310.11454), equation 2; Bertram et al. 2025 (arXiv:2512.07703). PEFT: `vera/layer.py` and `pvera/layer.py`, `get_delta_weight`
//! (peft-methods.md 4.2, 4.3): the first rows and columns of the projections are taken, as many as the layer has; there is no scale. PVeRA's `d`
//! and `A` have means first, and behind them what merges leave out. Both factors are made first, rounded to f32 as in PEFT.

use crate::adapters::claim::Claim;
use crate::adapters::claim::context::ClaimContext;
use crate::adapters::claim::findings::Findings;
use crate::adapters::claim::lycoris::{claim_modules, lacks_one};
use crate::adapters::claim::made_product::{DerivedProduct, axes, shared, size_by_outputs};
use crate::adapters::parts::Tail;
use crate::adapters::peft::config::Field;
use crate::error::Result;
use crate::ops::derived::Derivation;
use crate::ops::derived::scaled_rows::ScaledRows;
use crate::ops::factor::Factor;

/// Shared projections with vectors.
pub(crate) struct Vera;
/// The same with means of vectors.
pub(crate) struct Pvera;

const FIELDS: &[(&str, Field)] = &[
    ("r", Field::Fine),
    // Only for files without projections, which are refused.
    ("projection_prng_key", Field::Fine),
    ("save_projection", Field::Fine),
    ("vera_dropout", Field::Fine),
    ("pvera_dropout", Field::Fine),
    ("d_initial", Field::Fine),
    ("fan_in_fan_out", Field::Flag),
    (
        "bias",
        Field::Only(&["none", "all", "vera_only", "pvera_only"], "is none of `none`, `all`, `vera_only`"),
    ),
    ("init_weights", Field::Fine),
    // A merge has the mean, as PEFT's has.
    ("sample_at_inference", Field::Fine),
    ("generator_seed", Field::Fine),
];

/// Why vectors alone are nothing, and what helps.
const NO_PROJECTION: (&str, &str) = (
    "the projection that it is multiplied by is not in the file",
    "save the adapter again with `save_projection=True` in its config",
);

/// A method's names.
struct ProjectionNames {
    method: &'static str,
    tails: [Tail; 2],
    projections: [&'static str; 2],
    /// Parts of `d` and of the rows of `A`, of which the first is used.
    parts: u64,
}

const VERA: ProjectionNames = ProjectionNames {
    method: "vera",
    tails: [Tail::bare(".vera_lambda_b"), Tail::bare(".vera_lambda_d")],
    projections: ["vera_A", "vera_B"],
    parts: 1,
};
const PVERA: ProjectionNames = ProjectionNames {
    method: "pvera",
    tails: [Tail::bare(".pvera_lambda_b"), Tail::bare(".pvera_lambda_d")],
    projections: ["pvera_A", "pvera_B"],
    parts: 2,
};

impl Claim for Vera {
    fn peft_types(&self) -> &'static [&'static str] {
        &["VERA"]
    }

    fn fields(&self) -> &'static [(&'static str, Field)] {
        FIELDS
    }

    fn claim(&self, context: &mut ClaimContext<'_>, findings: &mut Findings<'_>) {
        claim_modules(context, findings, &VERA.tails, |context, findings, module, tensors| {
            claim_module(&VERA, context, findings, module, tensors)
        });
    }
}

impl Claim for Pvera {
    fn peft_types(&self) -> &'static [&'static str] {
        &["PVERA"]
    }

    fn fields(&self) -> &'static [(&'static str, Field)] {
        FIELDS
    }

    fn claim(&self, context: &mut ClaimContext<'_>, findings: &mut Findings<'_>) {
        claim_modules(context, findings, &PVERA.tails, |context, findings, module, tensors| {
            claim_module(&PVERA, context, findings, module, tensors)
        });
    }
}

fn claim_module(
    names: &ProjectionNames,
    context: &mut ClaimContext<'_>,
    findings: &mut Findings<'_>,
    module: &str,
    tensors: [Option<usize>; 2],
) -> Result<()> {
    let [Some(by_out), Some(by_rank)] = tensors else {
        lacks_one(findings, &names.tails, module, &tensors);
        return Ok(());
    };
    let a = shared(context, findings, (names.projections[0], by_rank), NO_PROJECTION)?;
    let b = shared(context, findings, (names.projections[1], by_out), NO_PROJECTION)?;
    let [out] = axes(context, by_out, "[out]")?;
    let used = [by_rank, by_out, a, b];
    let Some((out, input)) = size_by_outputs(context, findings, (module, &used), (by_out, out))? else {
        return Ok(());
    };
    let ([of_d], [rows, inputs]) = (axes(context, by_rank, "[rank]")?, axes(context, a, "[rank, in]")?);
    let [outputs, rank] = axes(context, b, "[out, rank]")?;
    if (of_d, rows) != (rank * names.parts, rank * names.parts) {
        return Err(context.factor_shape(by_rank, format!("[{}], by the shared factors", rank * names.parts)));
    }
    if inputs < input || outputs < out {
        let small = if inputs < input { a } else { b };
        return Err(context
            .factor_shape(small, format!("enough for `{module}`, of {out} outputs and {input} inputs")));
    }
    let tensor = |i: usize| context.tensor(i).tensor.clone();
    let made = |of: usize, by: usize| Derivation {
        recipe: ScaledRows.into(),
        sources: vec![tensor(of), tensor(by)],
    };
    let factors = [
        Factor::derived(made(a, by_rank), [rank, input], |a| Factor::along(1, a, 1, rank, input)),
        Factor::derived(made(b, by_out), [out, rank], |b| Factor::along(0, b, rank, rank, 1)),
    ];
    let (method, scale) = (names.method, context.adapter.weight_of(module));
    DerivedProduct { method, module, used: &used, size: (out, input), factors, scale }
        .claim(context, findings)
}
