//! DEFT: `W + L·(s·R − GᵀW)`, the part of a weight that lies in a few directions taken out, and another put in, on linear layers.
//!
//! Source: PEFT, `deft/layer.py`, `_merge_factor` and `_delta_from_factor` (peft-methods.md 4.14). `L` and `G` are `P` and `max(P, 0)`, or both the `Q` of `P`. The
//! input factor is made of the base's weight ([`Projected`]), so that several adapters do not see one another, as in PEFT; its sums are
//! in f64, by rows of the weight, and rounded to f32 once, where PEFT sums in f32.

use crate::adapters::claim::Claim;
use crate::adapters::claim::context::ClaimContext;
use crate::adapters::claim::findings::Findings;
use crate::adapters::claim::lycoris::{claim_modules, expect};
use crate::adapters::claim::made_product::{DerivedProduct, axes, plain_weight, size_by_outputs};
use crate::adapters::claim::placing::{Product, orientation};
use crate::adapters::parts::Tail;
use crate::adapters::peft::config::Field;
use crate::error::Result;
use crate::ops::derived::Derivation;
use crate::ops::derived::orthonormal::Orthonormal;
use crate::ops::derived::projected::Projected;
use crate::ops::factor::Factor;

/// A projection that is taken out of a weight.
pub(crate) struct Deft;

const TAILS: [Tail; 2] = [Tail::bare(".deft_P"), Tail::bare(".deft_R")];

const FIELDS: &[(&str, Field)] = &[
    ("r", Field::Fine),
    ("decomposition_method", Field::Fine),
    ("init_scale", Field::Fine),
    ("alpha", Field::Fine),
    // Files of it have no `R`.
    ("para", Field::Flag),
    ("fan_in_fan_out", Field::Flag),
    ("deft_dropout", Field::Fine),
    ("init_weights", Field::Fine),
    ("bias", Field::Only(&["none", "all", "deft_only"], "is none of `none`, `all`, `deft_only`")),
];

impl Claim for Deft {
    fn peft_types(&self) -> &'static [&'static str] {
        &["DEFT"]
    }

    fn fields(&self) -> &'static [(&'static str, Field)] {
        FIELDS
    }

    fn claim(&self, context: &mut ClaimContext<'_>, findings: &mut Findings<'_>) {
        claim_modules(context, findings, &TAILS, claim_module);
    }
}

fn claim_module(
    context: &mut ClaimContext<'_>,
    findings: &mut Findings<'_>,
    module: &str,
    tensors: [Option<usize>; 2],
) -> Result<()> {
    let used: Vec<usize> = tensors.into_iter().flatten().collect();
    let is_para = context.adapter.word("para")? == "true";
    let (p, r) = match tensors {
        [Some(p), r] if r.is_none() == is_para => (p, r),
        [p, r] => {
            let missing = if p.is_none() { TAILS[0] } else { TAILS[1] };
            match r.filter(|_| p.is_some()) {
                Some(r) => findings.refuse_tensor(r, "the config says by `para` that nothing is put in"),
                None => findings.lacks_partner(used[0], &missing.key(module)),
            }
            return Ok(());
        }
    };
    let [out, rank] = axes(context, p, "[out, rank]")?;
    let Some((out, input)) = size_by_outputs(context, findings, (module, &used), (p, out))? else {
        return Ok(());
    };
    if let Some(r) = r {
        expect(context, r, &[rank, input], p)?;
    }
    if rank > out {
        return Err(context.factor_shape(p, "no more columns than rows".to_owned()));
    }
    let Some(target) = context.target(findings, &used, module, "weight") else { return Ok(()) };
    let weight = plain_weight(context, target, p)?;
    let product = Product { out, input, a: context.tensor(used[used.len() - 1]), b: context.tensor(p) };
    let is_transposed = orientation(context, findings, target, module, &product)?;
    let alpha = context.adapter.number("alpha")?;
    let scale = if alpha == 0.0 { 1.0 } else { alpha / rank as f64 };
    context.adapter.own_scale(module, "alpha", scale)?;
    let is_orthonormal = context.adapter.word("decomposition_method")? == "qr";
    let tensor = |i: usize| context.tensor(i).tensor.clone();
    let recipe = Projected {
        rank: rank as usize,
        inputs: input as usize,
        is_transposed,
        is_orthonormal,
        scale: r.map(|_| scale.to_bits()),
    };
    let sources = std::iter::once(tensor(p)).chain(r.map(tensor)).chain([weight]).collect();
    let made = Derivation { recipe: recipe.into(), sources };
    let along_out = |b| Factor::along(0, b, rank, rank, 1);
    let b = if is_orthonormal {
        let recipe = Orthonormal { columns: rank as usize }.into();
        Factor::derived(Derivation { recipe, sources: vec![tensor(p)] }, [out, rank], along_out)
    } else {
        along_out(tensor(p))
    };
    let factors = [Factor::derived(made, [rank, input], |a| Factor::along(1, a, 1, rank, input)), b];
    let used: Vec<usize> = r.into_iter().chain([p]).collect();
    let scale = context.adapter.weight_of(module);
    let product = DerivedProduct { method: "deft", module, used: &used, size: (out, input), factors, scale };
    product.claim(context, findings)
}
