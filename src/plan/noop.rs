//! Adapters that change nothing, as far as that shows before a run: deltas that are nothing whatever the weights are, and
//! values put in place of the same values. A run finds the rest.

use std::collections::HashMap;

use smallvec::SmallVec;

use crate::adapters::adapter::Adapter;
use crate::adapters::claim::edits::{ClaimedModule, Edit};
use crate::adapters::scan::{Contents, TensorContents};
use crate::checkpoint::discover::Checkpoint;
use crate::error::no_effect::NoEffectReason;
use crate::error::plan::PlanError;
use crate::error::{Error, Result};
use crate::note::plan::PlanNote;
use crate::tensor::reference::TensorRef;

use crate::checkpoint::compare::holds;
use crate::model::outline::Target;
use crate::ops::DeltaKind;
use crate::ops::factor::FactorValues;
use crate::ops::op::Op;

/// How much of an adapter does nothing.
pub(crate) enum Noop {
    /// No more than is usual.
    Nothing,
    /// A part, which is worth saying.
    Some(PlanNote),
    /// All: the reason.
    All(NoEffectReason),
}

/// What a claim does, as far as it takes to see whether that is anything: claims themselves become ops before the adapters'
/// files are read.
pub(crate) struct ClaimEffect {
    module: String,
    what: What,
}

enum What {
    Replaces(Target, TensorRef),
    Changes(Vec<Factors>),
}

/// One op: its delta, and its factors by their offsets.
struct Factors {
    kind: DeltaKind,
    scale: f32,
    offsets: SmallVec<[u64; 2]>,
}

impl ClaimEffect {
    /// What `claimed` does.
    pub(crate) fn of(claimed: &ClaimedModule) -> ClaimEffect {
        let factors = |op: &Op| Factors {
            kind: op.kind.clone(),
            scale: op.scale,
            offsets: op.factors.iter().map(|factor| factor.tensor.offset).collect(),
        };
        let what = match &claimed.edit {
            Edit::Replace { value } => What::Replaces(claimed.target, value.clone()),
            Edit::Change(ops) => What::Changes(ops.iter().map(factors).collect()),
        };
        ClaimEffect { module: claimed.module.clone(), what }
    }

    fn adds(&self) -> bool {
        matches!(self.what, What::Changes(_))
    }

    /// Why it changes nothing, if it does not whatever the weights are.
    fn reason(&self, holds: &HashMap<u64, TensorContents>) -> Option<&'static str> {
        let What::Changes(changes) = &self.what else { return None };
        let reason = |change: &Factors| {
            let factors = change.offsets.iter().map(|offset| {
                let TensorContents { zero, one, .. } = *holds.get(offset)?;
                Some(FactorValues { all_zero: zero, all_one: one })
            });
            change.kind.delta().no_effect(change.scale, &factors.collect::<Option<Vec<_>>>()?)
        };
        changes.iter().map(reason).collect::<Option<Vec<_>>>()?.first().copied()
    }
}

/// What of an adapter's claims changes nothing.
///
/// # Errors
/// As [`crate::storage::source::Source::read_at`]: where nothing but replacements is left, they are compared with the base.
pub(crate) fn noop(
    base: &Checkpoint,
    adapter: &Adapter,
    contents: &Contents,
    claims: &[ClaimEffect],
) -> Result<Noop> {
    let changes = claims.iter().filter(|claim| claim.adds()).count();
    if adapter.weight == 0.0 && changes == claims.len() {
        return Ok(Noop::All(NoEffectReason::ZeroWeight));
    }
    let holds = contents_by_offset(adapter, contents);
    let found: Vec<(&ClaimEffect, &'static str)> =
        claims.iter().filter_map(|claim| Some((claim, claim.reason(&holds)?))).collect();
    if found.len() == changes && replaces_the_same(base, adapter, claims)? {
        return Ok(Noop::All(match found.first() {
            Some(&(first, why)) => NoEffectReason::ZeroDeltas { module: first.module.clone(), why },
            None => NoEffectReason::SameValues,
        }));
    }
    Ok(match found.first() {
        None => Noop::Nothing,
        Some(&(first, why)) => Noop::Some(PlanNote::PartlyNoEffect {
            adapter: adapter.name.clone(),
            count: found.len(),
            of: changes,
            module: first.module.clone(),
            why,
        }),
    })
}

/// What each tensor that has values holds, by its offset.
fn contents_by_offset(adapter: &Adapter, contents: &Contents) -> HashMap<u64, TensorContents> {
    let tensors = adapter.tensors.iter().map(|tensor| &tensor.tensor).zip(&contents.tensors);
    tensors.filter(|(tensor, _)| tensor.bytes() > 0).map(|(tensor, holds)| (tensor.offset, *holds)).collect()
}

/// Whether every replacement, if there is any, is of a tensor of the base that has the same values.
fn replaces_the_same(base: &Checkpoint, adapter: &Adapter, claims: &[ClaimEffect]) -> Result<bool> {
    for claim in claims {
        let What::Replaces(target, value) = &claim.what else { continue };
        let Target::Base(place) = *target else { return Ok(false) };
        if !holds(base, place, (adapter.source.as_ref(), value))? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The refusal of an adapter that changes nothing.
pub(crate) fn no_effect(adapter: &Adapter, why: NoEffectReason) -> Error {
    PlanError::NoEffect { adapter: adapter.name.clone(), why }.into()
}
