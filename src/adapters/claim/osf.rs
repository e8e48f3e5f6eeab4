//! OSF: other values in place of the part of a linear layer's smallest singular values, `W − U₀·S₀·V₀ + U·diag(S)·V`.
//!
//! Source: Nayak et al. 2025 (arXiv:2504.07097). PEFT: `osf/layer.py`, `get_delta_weight` (peft-methods.md 7). The file holds `U`, `S` and `V`; what they began as is made of
//! the base, and rounded to its type, as PEFT does. The rows of `V` times their values of `S` are made first, and rounded to f32.

use crate::adapters::claim::Claim;
use crate::adapters::claim::base_part::part_op;
use crate::adapters::claim::context::ClaimContext;
use crate::adapters::claim::edits::ClaimedModule;
use crate::adapters::claim::findings::Findings;
use crate::adapters::claim::lycoris::{claim_whole_modules, expect};
use crate::adapters::claim::made_product::plain_weight;
use crate::adapters::claim::placing::{Product, factor_b, matrix, orientation};
use crate::adapters::parts::Tail;
use crate::adapters::peft::config::Field;
use crate::error::Result;
use crate::ops::derived::Derivation;
use crate::ops::derived::base_part::PartOf;
use crate::ops::derived::scaled_rows::ScaledRows;
use crate::ops::factor::Factor;
use crate::ops::low_rank::LowRank;
use crate::ops::op::Op;
use crate::ops::placement::Placement;

/// Other values in place of the smallest singular values.
pub(crate) struct Osf;

const TAILS: [Tail; 3] = [
    Tail::bare(".osf_svd_params.U_low"),
    Tail::bare(".osf_svd_params.S_low"),
    Tail::bare(".osf_svd_params.V_low"),
];

const FIELDS: &[(&str, Field)] = &[
    ("effective_rank", Field::Fine),
    ("rank_pattern", Field::Fine),
    ("init_weights", Field::Fine),
    ("target_svd_config", Field::Fine),
];

impl Claim for Osf {
    fn peft_types(&self) -> &'static [&'static str] {
        &["OSF"]
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
    [u, s, v]: [usize; 3],
) -> Result<()> {
    let (out, rank) = factor_b(context, u)?;
    let (_, input) = matrix(context, v, "[rank, in], both above zero")?;
    expect(context, v, &[rank, input], u)?;
    expect(context, s, &[rank], u)?;
    let used = [u, s, v];
    let Some(target) = context.target(findings, &used, module, "weight") else { return Ok(()) };
    let weight = plain_weight(context, target, u)?;
    let size = out.min(input);
    let product = Product { out, input, a: context.tensor(v), b: context.tensor(u) };
    let is_transposed = orientation(context, findings, target, module, &product)?;
    if *weight.shape.axes() != [out, input] || is_transposed || rank >= size {
        let expected = format!(
            "[out, fewer than all] of a linear layer that is stored as [out, in], and `{module}` is {}",
            weight.shape
        );
        return Err(context.factor_shape(u, expected));
    }
    let scale = context.adapter.weight_of(module) as f32;
    let tensor = |i: usize| context.tensor(i).tensor.clone();
    let made = Derivation { recipe: ScaledRows.into(), sources: vec![tensor(v), tensor(s)] };
    let along_in = Factor::derived(made, [rank, input], |v| Factor::along(1, v, 1, rank, input));
    let factors = [along_in, Factor::along(0, tensor(u), rank, rank, 1)];
    let op = Op::new(LowRank::ADDED, Placement::matrix(out, input, false), factors, scale);
    let (first, count) = ((size - rank) as usize, rank as usize);
    let began = PartOf::SingularValues { first, count, rounded: Some(weight.dtype) };
    let keys = used.iter().map(|&i| context.tensor(i).key.clone());
    let ops = vec![op, part_op(&weight, began, -scale)];
    findings.claim(ClaimedModule::change("osf", module, keys, target, ops));
    Ok(())
}
