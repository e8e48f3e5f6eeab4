//! VeRA: `W + diag(b)·B·diag(d)·A`, of projections that all modules share and vectors of each, on linear layers; and PVeRA, whose `d` is the mean of a
//! distribution.
//!
//! Source: Kopiczko et al. 2023 (arXiv:2310.11454), equation 2; Bertram et al. 2025 (arXiv:2512.07703). PEFT: `vera/layer.py` and `pvera/layer.py`, `get_delta_weight`
//! (peft-methods.md 4.2, 4.3): the first rows and columns of the projections are taken, as many as the layer has; there is no scale. PVeRA's `d`
//! and `A` have means first, and behind them what merges leave out. Both factors are made first, rounded to f32 as in PEFT. Projections that were not saved are drawn again: `A` first,
//! then `B`, for the most inputs and outputs that a module of the file has (peft-methods.md 9.2).

use crate::adapters::claim::Claim;
use crate::adapters::claim::context::ClaimContext;
use crate::adapters::claim::findings::Findings;
use crate::adapters::claim::lycoris::claim_whole_modules;
use crate::adapters::claim::made_product::{DerivedProduct, axes, by_outputs, shared, size_by_outputs};
use crate::adapters::parts::Tail;
use crate::adapters::peft::config::Field;
use crate::error::Result;
use crate::ops::derived::Derivation;
use crate::ops::derived::drawn_rows::DrawnRows;
use crate::ops::derived::scaled_rows::ScaledRows;
use crate::ops::factor::Factor;

/// Shared projections with vectors.
pub(crate) struct Vera;
/// The same with means of vectors.
pub(crate) struct Pvera;

const FIELDS: &[(&str, Field)] = &[
    ("r", Field::Fine),
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

/// The most ranks that projections are drawn for: what they take is told by no file.
const MOST_RANK: u64 = 1 << 16;

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
        claim_all(&VERA, context, findings);
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
        claim_all(&PVERA, context, findings);
    }
}

fn claim_all(names: &ProjectionNames, context: &mut ClaimContext<'_>, findings: &mut Findings<'_>) {
    let largest = names.largest(context);
    claim_whole_modules(context, findings, &names.tails, |context, findings, module, tensors| {
        claim_module((names, largest), context, findings, module, tensors)
    });
}

impl ProjectionNames {
    /// The most outputs and the most inputs of all modules.
    fn largest(&self, context: &ClaimContext<'_>) -> (u64, u64) {
        let mut largest = (0, 0);
        for (i, path) in context.paths().enumerate() {
            let Some(target) = self.tails[0].module(path).and_then(|module| context.lookup(module, "weight"))
            else {
                continue;
            };
            let out = context.tensor(i).tensor.shape.elements();
            if let Some((out, input)) = by_outputs(context, target, out) {
                largest = (largest.0.max(out), largest.1.max(input));
            }
        }
        largest
    }

    /// The projection that the file holds, if it is said to hold any: its place.
    fn saved(
        &self,
        context: &ClaimContext<'_>,
        findings: &mut Findings<'_>,
        (which, beside): (usize, usize),
    ) -> Result<Option<usize>> {
        let name = self.projections[which];
        let is_saved = context.at_path(name).is_some() || context.adapter.word("save_projection")? == "true";
        is_saved.then(|| shared(context, findings, (name, beside), NO_PROJECTION)).transpose()
    }
}

fn claim_module(
    (names, largest): (&ProjectionNames, (u64, u64)),
    context: &mut ClaimContext<'_>,
    findings: &mut Findings<'_>,
    module: &str,
    [by_out, by_rank]: [usize; 2],
) -> Result<()> {
    // Both are taken, whichever is missing.
    let [a, b] = [(0, by_rank), (1, by_out)].map(|which| names.saved(context, findings, which));
    let (a, b) = (a?, b?);
    let [out] = axes(context, by_out, "[out]")?;
    let used: Vec<usize> = [Some(by_rank), Some(by_out), a, b].into_iter().flatten().collect();
    let Some((out, input)) = size_by_outputs(context, findings, (module, &used), (by_out, out))? else {
        return Ok(());
    };
    let [of_d] = axes(context, by_rank, "[rank]")?;
    let rank = of_d / names.parts;
    if rank * names.parts != of_d || rank > MOST_RANK {
        let expected = format!("{} values for each of up to {MOST_RANK} ranks", names.parts);
        return Err(context.factor_shape(by_rank, expected));
    }
    let seed = context.adapter.number("projection_prng_key")? as i64 as u32;
    let of_a = Projection { saved: a, by_rank, rank_axis: 0, size: [of_d, largest.1], before: 0, seed };
    let (size, before) = ([largest.0, rank], of_d * largest.1);
    let of_b = Projection { saved: b, by_rank, rank_axis: 1, size, before, seed };
    let factors = [
        Factor::derived(of_a.times(context, by_rank, [of_d, input])?, [rank, input], |a| {
            Factor::along(1, a, 1, rank, input)
        }),
        Factor::derived(of_b.times(context, by_out, [out, rank])?, [out, rank], |b| {
            Factor::along(0, b, rank, rank, 1)
        }),
    ];
    let (method, scale) = (names.method, context.adapter.weight_of(module));
    DerivedProduct { method, module, used: &used, size: (out, input), factors, scale }
        .claim(context, findings)
}

/// A projection that modules share.
struct Projection {
    /// The tensor that holds it; else it is drawn.
    saved: Option<usize>,
    /// The tensor that tells its ranks.
    by_rank: usize,
    /// Which of its axes is that of ranks; the other may be longer than a layer's.
    rank_axis: usize,
    /// Rows and columns of what is drawn.
    size: [u64; 2],
    /// Numbers that are drawn before it.
    before: u64,
    /// What it is drawn by.
    seed: u32,
}

impl Projection {
    /// Its rows times a vector's values, as far as a layer has them.
    fn times(&self, context: &ClaimContext<'_>, by: usize, wanted: [u64; 2]) -> Result<Derivation> {
        let values = context.tensor(by).tensor.clone();
        let Some(saved) = self.saved else {
            let recipe = DrawnRows { seed: self.seed, before: self.before, width: self.size[1] }.into();
            return Ok(Derivation { recipe, sources: vec![values] });
        };
        let found: [u64; 2] = axes(context, saved, "a matrix")?;
        let (shared, own) = (1 - self.rank_axis, self.rank_axis);
        if found[own] != wanted[own] || found[shared] < wanted[shared] {
            let (ranks, least, by) = (wanted[own], wanted[shared], &context.tensor(self.by_rank).key);
            let expected = format!("{ranks} on axis {own}, by `{by}`, and at least {least} on the other");
            return Err(context.factor_shape(saved, expected));
        }
        let sources = vec![context.tensor(saved).tensor.clone(), values];
        Ok(Derivation { recipe: ScaledRows.into(), sources })
    }
}
