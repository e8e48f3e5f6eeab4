//! Pairs of factors as ops: the tensor that a pair is for, and what is added to it.

use crate::adapters::adapter::Keys;
use crate::adapters::claim::context::ClaimContext;
use crate::adapters::claim::edits::ClaimedModule;
use crate::adapters::claim::findings::Findings;
use crate::adapters::claim::layers::{Layer, layer_of};
use crate::adapters::claim::pairs::Pair;
use crate::adapters::claim::placing::{Placed, place};
use crate::error::Result;
use crate::model::outline::Target;
use crate::ops::low_rank::LowRank;
use crate::ops::op::Op;
use crate::tensor::name::Name;

/// A pair of factors and the op that adds their product.
pub(crate) struct PairOp {
    /// Module path as the adapter spells it.
    pub(crate) module: Name,
    /// The keys it uses.
    pub(crate) keys: Keys,
    /// The tensor it is for.
    pub(crate) target: Target,
    /// Outputs of the delta.
    pub(crate) out: u64,
    /// Whether the tensor is stored as `[in, out]`.
    pub(crate) is_transposed: bool,
    /// What it does to the tensor: `A` and `B` are its first factors.
    pub(crate) op: Op,
}

impl PairOp {
    /// Records it as a claim of a method, with another op if there is one.
    pub(crate) fn claim(self, findings: &mut Findings<'_>, method: &'static str, more: Option<Op>) {
        let PairOp { module, keys, target, op, .. } = self;
        let ops = std::iter::once(op).chain(more).collect();
        findings.claim(ClaimedModule::change(method, module, keys, target, ops));
    }
}

/// Finds the tensor of a pair and checks its shapes; `None` if what is wrong is recorded already.
pub(crate) fn resolve(
    context: &mut ClaimContext<'_>,
    findings: &mut Findings<'_>,
    pair: &Pair<'_>,
) -> Result<Option<PairOp>> {
    let layer = match pair.parameter.as_deref() {
        Some((module, parameter)) => Layer { module: module.clone(), parameter: parameter.clone() },
        None => layer_of(context, findings, &pair.module),
    };
    let Some(placed) = place(context, findings, pair, &layer)? else { return Ok(None) };
    let scale = context.adapter.scale(&pair.module, Some(placed.rank))?;
    let op = Op::new(LowRank::ADDED, placed.placement(), placed.factors(), scale as f32);
    let (module, keys) = (context.tensor(pair.a).part_of_path(&pair.module), placed.keys());
    let Placed { target, out, is_transposed, .. } = placed;
    Ok(Some(PairOp { module, keys, target, out, is_transposed, op }))
}
