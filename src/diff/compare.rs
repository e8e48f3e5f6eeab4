//! Pairs of tensors read piece by piece and compared, a few of them at once.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::cancel::Cancel;
use crate::diff::differences::{Differences, Likeness, TensorDifference};
use crate::diff::pairs::{TensorPair, incomparable, pairs, stored_type};
use crate::diff::pieces::{BUFFER_BYTES, Watched, add_pieces};
use crate::diff::sums::DifferenceSums;
use crate::error::Result;
use crate::hub::resolved::Origin;
use crate::memory::process::process;
use crate::merge::at_once::at_once;
use crate::merge::request::Request;
use crate::merge::values::{CheckpointValues, ValuePlace};
use crate::pipeline::progress::Snapshot;
use crate::report::event::{Event, Reporter};

/// Opens two checkpoints to compare them.
///
/// # Errors
/// As [`CheckpointValues::open`].
pub(crate) fn open(request: &Request, origins: &[Origin; 2]) -> Result<CheckpointValues> {
    CheckpointValues::open(request, origins, &|_| BUFFER_BYTES)
}

/// Compares two checkpoints.
///
/// # Errors
/// As reading; [`ErrorKind::Stopped`](crate::error::kind::ErrorKind::Stopped).
pub(crate) fn compare(values: &CheckpointValues, reporter: &mut dyn Reporter) -> Result<Differences> {
    let pairs = pairs(values);
    let bytes_of = |pair: &TensorPair| {
        pair.both().map_or(0, |both| both.map(|place| values.tensor(place).bytes).iter().sum())
    };
    let total_bytes: u64 = pairs.iter().map(bytes_of).sum();
    reporter.event(&Event::Reading { what: "comparing", total_bytes });
    let (read, found) = (AtomicU64::new(0), Mutex::new(vec![None; pairs.len()]));
    let work = |i: usize, stop: &Cancel| {
        let difference = of_pair(values, &pairs[i], Watched { stop, read: &read })?;
        found.lock().unwrap_or_else(PoisonError::into_inner)[i] = Some(difference);
        Ok(())
    };
    let threads = values.threads;
    at_once((pairs.len(), threads), values.cancel(), &work, &mut || {
        reporter.event(&Event::Progress(&snapshot(total_bytes, read.load(Ordering::Relaxed))));
    })?;
    let found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    let paths = [0, 1].map(|i| values.names[i].clone());
    let tensors = found.into_iter().flatten().collect();
    Ok(Differences { paths, tensors, peak_rss: process().peak })
}

/// How far a reading is.
pub(crate) fn snapshot(total_bytes: u64, read_bytes: u64) -> Snapshot {
    Snapshot {
        total_bytes,
        read_bytes,
        written_bytes: read_bytes,
        shared_bytes: 0,
        shards: 1,
        shard: 0,
        held_bytes: 0,
    }
}

/// What a pair comes to.
fn of_pair(values: &CheckpointValues, pair: &TensorPair, watched: Watched<'_>) -> Result<TensorDifference> {
    let tensors = pair
        .places
        .iter()
        .zip([0, 1])
        .map(|(place, checkpoint)| place.map(|place| values.tensor((checkpoint, place))));
    let tensors: Vec<_> = tensors.collect();
    let types = [tensors[0].map(stored_type), tensors[1].map(stored_type)];
    let shapes = [tensors[0], tensors[1]].map(|tensor| tensor.map(|tensor| tensor.shape.clone()));
    let name = pair.either(values).name.clone();
    let (likeness, sums) = match pair.both() {
        None if pair.places[0].is_some() => (Likeness::OnlyFirst, DifferenceSums::default()),
        None => (Likeness::OnlySecond, DifferenceSums::default()),
        Some(_) if shapes[0] != shapes[1] => (Likeness::OtherShape, DifferenceSums::default()),
        Some(both) => match incomparable(values, both) {
            Some(why) => (Likeness::Incomparable(why), DifferenceSums::default()),
            None => compared(values, both, watched)?,
        },
    };
    Ok(TensorDifference { name, likeness, types, shapes, sums })
}

/// What two tensors of one shape come to.
fn compared(
    values: &CheckpointValues,
    both: [ValuePlace; 2],
    watched: Watched<'_>,
) -> Result<(Likeness, DifferenceSums)> {
    let mut sums = DifferenceSums::default();
    add_pieces(values, both, watched, (&mut sums, false))?;
    both.into_iter().try_for_each(|place| values.check_unchanged(place))?;
    let likeness = match (sums.differing, sums.is_moved) {
        (0, _) => Likeness::Equal,
        (_, false) => Likeness::Rounding,
        (_, true) => Likeness::Moved,
    };
    Ok((likeness, sums))
}
