//! The deltas of an adapter, read as values: a merge into zeros, which is never written.

use crate::checkpoint::discover::Checkpoint;
use crate::checkpoint::header_room::HeaderRoom;
use crate::checkpoint::identity::Identity;
use crate::checkpoint::quantized::Weights;
use crate::error::claim::ClaimError;
use crate::error::{Error, Result};
use crate::merge::planned::plan_checkpoint;
use crate::merge::request::Request;
use crate::merge::resolve::Places;
use crate::merge::values::{CheckpointValues, OpenedCheckpoints};
use crate::plan::deltas::{NoDelta, deltas};
use crate::plan::out_tensor::{Content, Input, OutTensor, Plan, Role};
use crate::storage::source::Source;
use crate::tensor::name::Name;

/// A file of zeros.
struct Zeros(u64);

impl Source for Zeros {
    fn len(&self) -> u64 {
        self.0
    }

    fn read_at(&self, buf: &mut [u8], _: u64) -> Result<()> {
        buf.fill(0);
        Ok(())
    }

    fn done_before(&self, _: u64) {}
}

/// Opens what the one adapter of `request` adds to its base, of which headers are read alone. `is_skipped` tells the tensors that
/// may be left out; their names are returned.
///
/// # Errors
/// As planning a merge; [`ClaimError::NotExtracted`] for tensors that are changed otherwise.
pub(crate) fn open_deltas(
    request: &Request,
    is_skipped: &dyn Fn(&str) -> bool,
    thread_bytes: &dyn Fn(&Plan) -> u64,
) -> Result<(CheckpointValues, Vec<Name>)> {
    let room = HeaderRoom::of(request.max_ram.as_ref());
    let places = Places::find(request)?.stopped_by(&request.cancel);
    let mut merge = plan_checkpoint(request, &places, &room)?;
    let identity = Identity { bytes: 0, header: String::new(), content: String::new() };
    let zeros = Input { role: Role::Original, name: "zeros".to_owned(), identity };
    let adapter = places.adapters[0].location.to_string();
    let is_changed = |tensor: &&OutTensor| !matches!(tensor.content, Content::Copy { claim: None, .. });
    let skipped = merge.planned.plan.tensors().filter(is_changed).filter(|tensor| is_skipped(&tensor.name));
    let skipped = skipped.map(|tensor| tensor.name.clone()).collect();
    let (plan, longest, refused) = deltas(&merge.planned.plan, is_skipped, zeros);
    by_reason(&adapter, refused)?;
    merge.sources.push(Box::new(Zeros(longest)));
    let mut checkpoint = Checkpoint::open(&places.base, places.variant.as_deref(), &room)?;
    let (weights, errors) = Weights::of(&checkpoint);
    Error::all(errors)?;
    checkpoint.sources.clear();
    let name = places.base.label().unwrap_or_else(|| places.base.location.to_string());
    let mut notes = places.notes;
    notes.append(&mut merge.planned.notes);
    let all = [places.base.location, places.adapters[0].location.clone()];
    let opened = OpenedCheckpoints {
        checkpoints: vec![(checkpoint, weights)],
        names: vec![name, adapter],
        places: all.to_vec(),
        notes,
    };
    Ok((CheckpointValues::of(request, opened, (plan, merge.sources), thread_bytes)?, skipped))
}

/// Refuses tensors that a conversion cannot hold, by reason.
///
/// # Errors
/// [`ClaimError::NotConverted`] if there are any.
pub(crate) fn by_reason(adapter: &str, refused: Vec<NoDelta>) -> Result<()> {
    let mut by_reason: Vec<(&'static str, Vec<String>)> = Vec::new();
    for (name, why) in refused {
        match by_reason.iter_mut().find(|(other, _)| *other == why) {
            Some((_, names)) => names.push(name.to_string()),
            None => by_reason.push((why, vec![name.to_string()])),
        }
    }
    let errors = by_reason.into_iter().map(|(why, names)| {
        Error::new(ClaimError::NotConverted { adapter: adapter.to_owned(), names, why }).hint(
            "`--skip REGEX` leaves out tensors that it matches; or merge the adapter, and let `shardfold extract` make a LoRA of the difference",
        )
    });
    Error::all(errors.collect())
}
