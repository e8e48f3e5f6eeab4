//! Adapters that change nothing, as far as that shows before a run: deltas that are nothing whatever the weights are, and
//! values put in place of the same values. A run finds the rest.

use std::collections::HashMap;

use crate::adapters::{Adapter, Change, Claimed, Contents, Effect, TensorContents, find};
use crate::checkpoint::Checkpoint;
use crate::error::{Error, ErrorKind, Result};

use super::Target;
use super::same::holds;

/// How much of an adapter does nothing.
pub(super) enum Idle {
    /// No more than is usual.
    Nothing,
    /// A part, which is worth saying.
    Some(String),
    /// All: the reason.
    All(String),
}

/// What of `claimed` changes nothing.
///
/// # Errors
/// As [`crate::storage::Source::read_at`]: where nothing but replacements is left, they are compared with the base.
pub(super) fn idle(
    base: &Checkpoint,
    adapter: &Adapter,
    contents: &Contents,
    claimed: &[Claimed],
) -> Result<Idle> {
    let adds = |claimed: &&Claimed| matches!(claimed.effect, Effect::Change(_));
    if adapter.weight == 0.0 && claimed.iter().all(|claimed| adds(&claimed)) {
        return Ok(Idle::All("its weight is 0".to_owned()));
    }
    let holds = contents_by_offset(adapter, contents);
    let reason = |change: &Change| {
        let factor = |factor: &crate::plan::Factor| holds.get(&factor.tensor.offset).copied();
        let factors: Vec<TensorContents> = change.factors.iter().map(factor).collect::<Option<_>>()?;
        find(change.method)?.idle(change.scale, &factors)
    };
    let reason = |claimed: &Claimed| match &claimed.effect {
        Effect::Replace { .. } => None,
        Effect::Change(changes) => changes.iter().map(reason).collect::<Option<Vec<_>>>()?.first().copied(),
    };
    let found: Vec<(&Claimed, &str)> =
        claimed.iter().filter_map(|claimed| Some((claimed, reason(claimed)?))).collect();
    let changes = claimed.iter().filter(adds).count();
    if found.len() == changes && replaces_the_same(base, adapter, claimed)? {
        return Ok(Idle::All(match found.first() {
            Some((first, why)) => {
                format!("each of its deltas is nothing, as that of `{}`: {why}", first.module)
            }
            None => "all that it replaces has these values in the base".to_owned(),
        }));
    }
    Ok(match found.first() {
        None => Idle::Nothing,
        Some((first, why)) => Idle::Some(format!(
            "{} of {changes} deltas of `{}` change nothing, as that of `{}`: {why}",
            found.len(),
            adapter.name,
            first.module
        )),
    })
}

/// What each tensor that has values holds, by its offset.
fn contents_by_offset(adapter: &Adapter, contents: &Contents) -> HashMap<u64, TensorContents> {
    let tensors = adapter.tensors.iter().map(|tensor| &tensor.tensor).zip(&contents.tensors);
    tensors.filter(|(tensor, _)| tensor.bytes() > 0).map(|(tensor, holds)| (tensor.offset, *holds)).collect()
}

/// Whether every replacement, if there is any, is of a tensor of the base that has the same values.
fn replaces_the_same(base: &Checkpoint, adapter: &Adapter, claimed: &[Claimed]) -> Result<bool> {
    for claimed in claimed {
        let Effect::Replace { value } = &claimed.effect else { continue };
        let Target::Base(place) = claimed.target else { return Ok(false) };
        if !holds(base, place, (adapter.source.as_ref(), value))? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The refusal of an adapter that changes nothing.
pub(super) fn no_effect(adapter: &Adapter, why: String) -> Error {
    ErrorKind::NoEffect { adapter: adapter.name.clone(), why }.into()
}
