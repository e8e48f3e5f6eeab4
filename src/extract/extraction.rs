//! The difference of two checkpoints, written as an adapter of PEFT.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use regex::Regex;

use crate::cancel::Cancel;
use crate::diff::compare::snapshot;
use crate::diff::pairs::{TensorPair, incomparable, pairs};
use crate::diff::pieces::{Watched, add_pieces};
use crate::diff::sums::DifferenceSums;
use crate::error::Result;
use crate::error::plan::PlanError;
use crate::extract::extracted::Extracted;
use crate::extract::factored::{sketch_size, thread_bytes};
use crate::extract::parts::{begin_output, write};
use crate::extract::selection::{DifferenceSelection, Others};
use crate::hub::resolved::Origin;
use crate::merge::at_once::at_once;
use crate::merge::request::Request;
use crate::merge::values::CheckpointValues;
use crate::model::heads::is_lookup;
use crate::plan::out_tensor::Plan;
use crate::report::event::{Event, Reporter};
use crate::storage::location::Location;

/// What is to be extracted.
pub(crate) struct Extraction {
    /// The base, and the checkpoint that was tuned.
    pub(crate) origins: [Origin; 2],
    /// The rank of the adapter.
    pub(crate) rank: usize,
    /// Names of tensors that may be left out.
    pub(crate) skip: Vec<Regex>,
    /// Whether modules that are no linear layers are saved whole.
    pub(crate) save_others: bool,
    /// Where the adapter goes.
    pub(crate) output: Location,
}

impl Extraction {
    /// Opens the checkpoints.
    ///
    /// # Errors
    /// As [`CheckpointValues::open`].
    pub(crate) fn open(&self, request: &Request) -> Result<CheckpointValues> {
        let bytes = |plan: &Plan| {
            let weights = plan.shards[0].tensors.iter().filter(|tensor| !is_lookup(&tensor.name));
            let sizes = weights.filter_map(|tensor| sketch_size(&tensor.shape, self.rank));
            sizes.map(thread_bytes).max().unwrap_or(0)
        };
        CheckpointValues::open(request, &self.origins, &bytes)
    }

    /// Extracts the adapter.
    ///
    /// # Errors
    /// [`PlanError::NoDifference`]; as [`DifferenceSelection::of`], reading and writing.
    pub(crate) fn run(&self, values: &CheckpointValues, reporter: &mut dyn Reporter) -> Result<Extracted> {
        let fresh = begin_output(&self.output, values)?;
        let pairs = pairs(values);
        let differs = differing(values, &pairs, reporter)?;
        let others = Others { skip: &self.skip, save: self.save_others };
        let selection = DifferenceSelection::of(values, (&pairs, &differs), self.rank, others)?;
        if selection.modules.is_empty() && selection.saved.is_empty() {
            let [base, tuned] = [0, 1].map(|i| values.names[i].clone());
            return Err(PlanError::NoDifference { base, tuned }.into());
        }
        write(values, selection, (fresh, &self.output), reporter)
    }
}

/// Whether the tensors of each pair differ, read up to the first difference.
fn differing(
    values: &CheckpointValues,
    pairs: &[TensorPair],
    reporter: &mut dyn Reporter,
) -> Result<Vec<bool>> {
    let bytes_of = |pair: &TensorPair| pair.both().map_or(0, |both| values.tensor(both[0]).bytes);
    let total_bytes = 2 * pairs.iter().map(bytes_of).sum::<u64>();
    reporter.event(&Event::Reading { what: "comparing", total_bytes });
    let (read, found) = (AtomicU64::new(0), Mutex::new(vec![true; pairs.len()]));
    let work = |i: usize, stop: &Cancel| {
        let Some(both) = pairs[i].both() else { return Ok(()) };
        let shapes = both.map(|place| &values.tensor(place).shape);
        if shapes[0] == shapes[1] && incomparable(values, both).is_none() {
            let mut sums = DifferenceSums::default();
            add_pieces(values, both, Watched { stop, read: &read }, (&mut sums, true))?;
            found.lock().unwrap_or_else(PoisonError::into_inner)[i] = sums.differing > 0;
        }
        Ok(())
    };
    at_once((pairs.len(), values.threads), values.cancel(), &work, &mut || {
        reporter.event(&Event::Progress(&snapshot(total_bytes, read.load(Ordering::Relaxed))));
    })?;
    Ok(found.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// The greatest rank: the work of the small decomposition grows with its cube.
pub(crate) const MOST_RANK: usize = 1024;
