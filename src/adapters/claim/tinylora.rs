//! TinyLoRA: `W + B·R·A`, of frozen factors around a small matrix that a few trained numbers make, on linear layers and embeddings.
//!
//! Source: Morris et al. 2026 (arXiv:2602.04118). PEFT: `tinylora/layer.py`, `_compute_R` and `get_delta_weight` (peft-methods.md 4.8); there is no scale. `R·A` is made first
//! ([`Turned`]). Which modules share numbers is told by their order in the model, which no file holds: so only files of one group are merged.

use crate::adapters::claim::Claim;
use crate::adapters::claim::context::ClaimContext;
use crate::adapters::claim::findings::Findings;
use crate::adapters::claim::lycoris::{claim_whole_modules, expect};
use crate::adapters::claim::made_product::{DerivedProduct, axes, shared};
use crate::adapters::parts::Tail;
use crate::adapters::peft::config::Field;
use crate::error::Result;
use crate::ops::derived::Derivation;
use crate::ops::derived::turned::Turned;
use crate::ops::factor::Factor;

/// Frozen factors around a small matrix.
pub(crate) struct Tinylora;

const TAILS: [Tail; 3] = [Tail::bare(".tinylora_A"), Tail::bare(".tinylora_B"), Tail::bare(".tinylora_P")];
const NUMBERS: &str = "tinylora_v.";

const FIELDS: &[(&str, Field)] = &[
    ("r", Field::Fine),
    ("u", Field::Fine),
    // The groups are counted in the file.
    ("weight_tying", Field::Fine),
    // Only for files without fixed matrices, which are refused.
    ("projection_seed", Field::Fine),
    ("save_projection", Field::Fine),
    ("init_v_bound", Field::Fine),
    ("tinylora_dropout", Field::Fine),
    ("fan_in_fan_out", Field::Flag),
    ("bias", Field::Only(&["none", "all", "tinylora_only"], "is none of `none`, `all`, `tinylora_only`")),
    ("init_weights", Field::Fine),
];

impl Claim for Tinylora {
    fn peft_types(&self) -> &'static [&'static str] {
        &["TINYLORA"]
    }

    fn fields(&self) -> &'static [(&'static str, Field)] {
        FIELDS
    }

    fn claim(&self, context: &mut ClaimContext<'_>, findings: &mut Findings<'_>) {
        let mut groups = context.paths().enumerate().filter(|(_, path)| path.starts_with(NUMBERS));
        let (_, second) = (groups.next(), groups.next().map(|(i, _)| i));
        if let Some(second) = second {
            let why = "is of one of several groups of modules, and which modules those are depends on their order in the model";
            let cure = "train with `weight_tying=1.0`, or convert the adapter with PEFT's `save_as_lora`";
            findings.refuse_with(second, why, cure);
            findings.untaken();
            return;
        }
        claim_whole_modules(context, findings, &TAILS, claim_module);
    }
}

const NO_NUMBERS: (&str, &str) = (
    "the numbers that it is multiplied by are not in the file",
    "save the adapter again, or get the whole file",
);

fn claim_module(
    context: &mut ClaimContext<'_>,
    findings: &mut Findings<'_>,
    module: &str,
    [a, b, p]: [usize; 3],
) -> Result<()> {
    let v = shared(context, findings, ("tinylora_v.0", a), NO_NUMBERS)?;
    let [rank, input] = axes(context, a, "[rank, in]")?;
    let [out, _] = axes(context, b, "[out, rank]")?;
    let [count] = axes(context, v, "[numbers]")?;
    for (i, axes) in [(b, &[out, rank][..]), (p, &[count, rank, rank])] {
        expect(context, i, axes, a)?;
    }
    let tensor = |i: usize| context.tensor(i).tensor.clone();
    let recipe = Turned { rank: rank as usize }.into();
    let made = Derivation { recipe, sources: [v, p, a].map(tensor).into() };
    let factors = [
        Factor::derived(made, [rank, input], |a| Factor::along(1, a, 1, rank, input)),
        Factor::along(0, tensor(b), rank, rank, 1),
    ];
    let (used, scale) = ([a, b, p, v], context.adapter.weight_of(module));
    let product =
        DerivedProduct { method: "tinylora", module, used: &used, size: (out, input), factors, scale };
    product.claim(context, findings)
}
