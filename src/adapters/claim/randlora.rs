//! RandLoRA: a sum of random bases of low rank, each scaled by trained diagonals, on linear layers.
//!
//! Source: Albert et al. 2025 (arXiv:2502.00987), equation 3. PEFT: `randlora/layer.py`, `get_scaled_bases` and `get_delta_weight` (peft-methods.md 4.4); `s = alpha /
//! rank`. As many bases are summed as the rank needs for the smaller side of the layer; the trained factor ([`Bases`]) runs along that side, the
//! shared `B [widest, bases, rank]` along the other. Files hold both projections again for every module.

use crate::adapters::claim::Claim;
use crate::adapters::claim::context::ClaimContext;
use crate::adapters::claim::findings::Findings;
use crate::adapters::claim::lycoris::claim_whole_modules;
use crate::adapters::claim::made_product::{DerivedProduct, axes, shared};
use crate::adapters::parts::Tail;
use crate::adapters::peft::config::Field;
use crate::error::Result;
use crate::ops::derived::Derivation;
use crate::ops::derived::bases::Bases;
use crate::ops::factor::Factor;

/// A sum of random bases.
pub(crate) struct RandLora;

const TAILS: [Tail; 2] = [Tail::bare(".randlora_lambda"), Tail::bare(".randlora_gamma")];
/// What every module has again of what all share.
const COPIES: [&str; 2] = [".randlora_A", ".randlora_B"];

const FIELDS: &[(&str, Field)] = &[
    ("r", Field::Fine),
    ("randlora_alpha", Field::Fine),
    // Only for files without projections, which are refused.
    ("projection_prng_key", Field::Fine),
    ("save_projection", Field::Fine),
    // What the projections are drawn from: they are in the file.
    ("sparse", Field::Fine),
    ("very_sparse", Field::Fine),
    ("randlora_dropout", Field::Fine),
    ("fan_in_fan_out", Field::Flag),
    ("bias", Field::Only(&["none", "all", "randlora_only"], "is none of `none`, `all`, `randlora_only`")),
    ("init_weights", Field::Fine),
];

const NO_PROJECTION: (&str, &str) = (
    "the projections that it scales are not in the file, and how they were drawn depends on the machine and its torch",
    "save the adapter again with `save_projection=True` in its config",
);

impl Claim for RandLora {
    fn peft_types(&self) -> &'static [&'static str] {
        &["RANDLORA"]
    }

    fn fields(&self) -> &'static [(&'static str, Field)] {
        FIELDS
    }

    fn claim(&self, context: &mut ClaimContext<'_>, findings: &mut Findings<'_>) {
        let is_copy = |path: &str| COPIES.iter().any(|tail| Tail::bare(tail).module(path).is_some());
        findings.ignore_where(context, is_copy, "a module's copy of projections that all share");
        claim_whole_modules(context, findings, &TAILS, claim_module);
    }
}

fn claim_module(
    context: &mut ClaimContext<'_>,
    findings: &mut Findings<'_>,
    module: &str,
    [lambda, gamma]: [usize; 2],
) -> Result<()> {
    // Both are taken, whichever is missing.
    let [a, b] =
        ["randlora_A", "randlora_B"].map(|name| shared(context, findings, (name, lambda), NO_PROJECTION));
    let (a, b) = (a?, b?);
    let used = [lambda, gamma, a, b];
    let Some(target) = context.target(findings, &used, module, "weight") else { return Ok(()) };
    let weight = context.weight(target);
    // Stored as [in, out] or not, the trained factor runs along the smaller side; only of a square weight it matters which is which.
    let &[out, input] = weight.shape.axes() else {
        return Err(
            context.factor_shape(lambda, format!("those of a linear layer, which `{}` is not", weight.name))
        );
    };
    let (least, most) = (out.min(input), out.max(input));
    let [rank, count] = axes(context, lambda, "[rank, bases]")?;
    let [of_gamma, width] = axes(context, gamma, "[bases, width]")?;
    let [of_a, one, widest] = axes(context, a, "[rank, 1, width]")?;
    let [height, all, of_b] = axes(context, b, "[height, bases, rank]")?;
    let bases = least.div_ceil(rank);
    let of = format!("as a layer of {out} outputs and {input} inputs has {bases} bases of rank {rank}");
    for (i, is_one, expected) in [
        (lambda, count == bases, format!("[{rank}, {bases}]")),
        (gamma, (of_gamma, width) == (bases, least), format!("[{bases}, {least}]")),
        (a, (of_a, one) == (rank, 1) && widest >= least, format!("[{rank}, 1, {least} or more]")),
        (
            b,
            height >= most && all >= bases && of_b == rank,
            format!("[{most} or more, {bases} or more, {rank}]"),
        ),
    ] {
        if !is_one {
            return Err(context.factor_shape(i, format!("{expected}, {of}")));
        }
    }
    let tensor = |i: usize| context.tensor(i).tensor.clone();
    let recipe = Bases { count: count as usize, widest: widest as usize }.into();
    let made = Derivation { recipe, sources: [lambda, gamma, a].map(tensor).into() };
    let inner = count * rank;
    let (small, large) = if input <= out { (1, 0) } else { (0, 1) };
    let trained = Factor::derived(made, [inner, least], |a| Factor::along(small, a, 1, inner, least));
    let fixed = Factor::along(large, tensor(b), all * rank, inner, 1);
    let factors = if small == 1 { [trained, fixed] } else { [fixed, trained] };
    let alpha = context.adapter.number("randlora_alpha")?;
    let scale = context.adapter.own_scale(module, "randlora_alpha", alpha / rank as f64)?;
    let product =
        DerivedProduct { method: "randlora", module, used: &used, size: (out, input), factors, scale };
    product.claim(context, findings)
}
