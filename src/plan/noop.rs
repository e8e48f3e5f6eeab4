//! Adapters that change nothing, as far as that shows before a run: deltas that are nothing whatever the weights are, and
//! values put in place of the same values. A run finds the rest.

use std::ops::Range;

use smallvec::SmallVec;

use crate::adapters::adapter::Adapter;
use crate::adapters::scan::{Contents, TensorContents};
use crate::checkpoint::discover::Checkpoint;
use crate::error::no_effect::NoEffectReason;
use crate::error::plan::PlanError;
use crate::error::{Error, Result};
use crate::note::plan::PlanNote;
use crate::tensor::reference::TensorRef;

use crate::checkpoint::compare::holds;
use crate::model::outline::Target;
use crate::ops::factor_values::FactorValues;
use crate::ops::op::Op;
use crate::plan::out_tensor::{ClaimRecord, Content, OutShard};

/// How much of an adapter does nothing.
pub(crate) enum Noop {
    /// No more than is usual.
    Nothing,
    /// A part, which is worth saying.
    Some(PlanNote),
    /// All: the reason.
    All(NoEffectReason),
}

/// What an adapter's claims do, as far as it takes to see whether that is anything: their ops are the output's by the time
/// that the adapters' files are read.
pub(crate) struct AdapterEffect {
    /// Its claims, which follow each other.
    pub(crate) claims: Range<usize>,
    /// Those of them that put a value in a tensor's place.
    pub(crate) replaces: Vec<(Target, TensorRef)>,
}

/// What is known of the ops of one claim.
#[derive(Clone, Copy)]
enum OpsEffect {
    /// None was seen.
    Unseen,
    /// None of those seen changes anything, and why the first does not.
    Nothing(&'static str),
    /// One may change something.
    Some,
}

/// Why the claims of an adapter change nothing that do not, whatever the weights are, by their place among its claims.
fn nothings(
    adapter: &Adapter,
    contents: &Contents,
    claims: &Range<usize>,
    shards: &[OutShard],
) -> Vec<(usize, &'static str)> {
    let mut effects = vec![OpsEffect::Unseen; claims.len()];
    for tensor in shards.iter().flat_map(|shard| &shard.tensors) {
        let Content::Compute { ops, .. } = &tensor.content else { continue };
        for op in ops {
            let place = (op.claim.0 as usize).checked_sub(claims.start);
            let Some(effect) = place.and_then(|place| effects.get_mut(place)) else { continue };
            *effect = match (*effect, reason(op, adapter, contents)) {
                (OpsEffect::Unseen, Some(why)) => OpsEffect::Nothing(why),
                (OpsEffect::Nothing(first), Some(_)) => OpsEffect::Nothing(first),
                _ => OpsEffect::Some,
            };
        }
    }
    let nothing = |(place, effect)| match effect {
        OpsEffect::Nothing(why) => Some((place, why)),
        _ => None,
    };
    effects.into_iter().enumerate().filter_map(nothing).collect()
}

/// Why an op changes nothing, if it does not.
fn reason(op: &Op, adapter: &Adapter, contents: &Contents) -> Option<&'static str> {
    let values = |tensor: &TensorRef| {
        // Of another adapter's tensors nothing is known here.
        adapter.tensors.first().filter(|own| own.tensor.file == tensor.file)?;
        let TensorContents { zero, one, .. } = contents_at(adapter, contents, tensor.offset)?;
        Some(FactorValues { all_zero: zero, all_one: one })
    };
    let mut factors = SmallVec::<[_; 4]>::new();
    for factor in &op.factors {
        let Some(derivation) = &factor.derivation else {
            factors.push(values(&factor.tensor)?);
            continue;
        };
        let sources = derivation.sources.iter().map(values).collect::<Option<SmallVec<[_; 4]>>>()?;
        factors.push(FactorValues { all_zero: derivation.recipe().is_zero(&sources), all_one: false });
    }
    op.delta().no_effect(op.scale, &factors)
}

/// What the tensor that has its values from `offset` on holds.
fn contents_at(adapter: &Adapter, contents: &Contents, offset: u64) -> Option<TensorContents> {
    let tensors = &adapter.tensors;
    let first = tensors.partition_point(|tensor| tensor.tensor.offset < offset);
    let here = tensors[first..].iter().take_while(|tensor| tensor.tensor.offset == offset);
    let place = here.zip(first..).find(|(tensor, _)| tensor.tensor.bytes() > 0)?.1;
    contents.tensors.get(place).copied()
}

/// What of an adapter's claims changes nothing. `shards` are the output's, with the ops of `claims`.
///
/// # Errors
/// As [`crate::storage::source::Source::read_at`]: where nothing but replacements is left, they are compared with the base.
pub(crate) fn noop(
    base: &Checkpoint,
    adapter: &Adapter,
    contents: &Contents,
    (effect, claims, shards): (&AdapterEffect, &[ClaimRecord], &[OutShard]),
) -> Result<Noop> {
    // What has weight 0 is left out on purpose.
    let counted =
        claims[effect.claims.clone()].iter().filter(|claim| adapter.weight_of(&claim.module) != 0.0);
    let changes = counted.count() - effect.replaces.len();
    if changes == 0 && effect.replaces.is_empty() {
        return Ok(Noop::All(NoEffectReason::ZeroWeight));
    }
    let found = nothings(adapter, contents, &effect.claims, shards);
    let module = |place: usize| claims[effect.claims.start + place].module.to_string();
    if found.len() == changes && replaces_the_same(base, adapter, &effect.replaces)? {
        return Ok(Noop::All(match found.first() {
            Some(&(first, why)) => NoEffectReason::ZeroDeltas { module: module(first), why },
            None => NoEffectReason::SameValues,
        }));
    }
    Ok(match found.first() {
        None => Noop::Nothing,
        Some(&(first, why)) => Noop::Some(PlanNote::PartlyNoEffect {
            adapter: adapter.name.clone(),
            count: found.len(),
            of: changes,
            module: module(first),
            why,
        }),
    })
}

/// Whether every replacement, if there is any, is of a tensor of the base that has the same values.
fn replaces_the_same(base: &Checkpoint, adapter: &Adapter, replaces: &[(Target, TensorRef)]) -> Result<bool> {
    for (target, value) in replaces {
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
