//! The difference of two checkpoints, written as an adapter of PEFT.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use regex::Regex;

use crate::cancel::Cancel;
use crate::checkpoint::discover::Checkpoint;
use crate::diff::compare::snapshot;
use crate::diff::pairs::{TensorPair, incomparable, pairs};
use crate::diff::pieces::{PIECE, Watched, add_pieces};
use crate::diff::sums::DifferenceSums;
use crate::error::Result;
use crate::error::plan::PlanError;
use crate::extract::extracted::{Extracted, KeptModule};
use crate::extract::factored::{factored, sketch_size, thread_bytes};
use crate::extract::lora_file::{self, FileTensor, LoraConfig, write_values};
use crate::extract::selection::{DifferenceSelection, LinearModule, Others, WholeTensor};
use crate::extract::turn::Turn;
use crate::hub::resolved::Origin;
use crate::memory::process::process;
use crate::merge::at_once::at_once;
use crate::merge::execute::check_outside;
use crate::merge::request::Request;
use crate::merge::values::CheckpointValues;
use crate::model::heads::{is_lookup, predicts_tokens};
use crate::plan::out_tensor::Plan;
use crate::publish::fresh::FreshDir;
use crate::report::event::{Event, Reporter};
use crate::storage::location::Location;
use crate::storage::sink::Sink;

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
        for place in &values.places {
            check_outside(&self.output, values.plan(), std::slice::from_ref(place))?;
        }
        let fresh = FreshDir::begin(&self.output)?;
        let pairs = pairs(values);
        let differs = differing(values, &pairs, reporter)?;
        let others = Others { skip: &self.skip, save: self.save_others };
        let selection = DifferenceSelection::of(values, (&pairs, &differs), self.rank, others)?;
        if selection.modules.is_empty() && selection.saved.is_empty() {
            let [base, tuned] = [0, 1].map(|i| values.names[i].clone());
            return Err(PlanError::NoDifference { base, tuned }.into());
        }
        let tensors = file_tensors(values, &selection, self.rank as u64);
        let mut sink = lora_file::begin(fresh.dir(), &tensors)?;
        let modules = write_factors(values, &selection.modules, sink.as_mut(), reporter)?;
        write_whole(values, &selection.saved, sink.as_mut())?;
        sink.commit()?;
        self.config(values, &selection).write(fresh.dir())?;
        fresh.publish(values.cancel())?;
        Ok(Extracted {
            output: self.output.to_string(),
            rank: self.rank,
            modules,
            saved: selection.saved.into_iter().map(|tensor| tensor.name).collect(),
            skipped: selection.skipped,
            equal: selection.equal,
            peak_rss: process().peak,
        })
    }

    /// What the adapter's config says.
    fn config(&self, values: &CheckpointValues, selection: &DifferenceSelection) -> LoraConfig {
        let (base, _) = &values.checkpoints[0];
        let mut saved: Vec<String> =
            selection.saved.iter().filter_map(|tensor| module_of(&tensor.name)).collect();
        saved.dedup();
        LoraConfig {
            base: base.name.clone().unwrap_or_else(|| values.names[0].clone()),
            rank: self.rank,
            targets: targets(values, &selection.modules),
            saved,
            is_turned: selection.modules.iter().any(|module| module.is_turned),
            task: task_of(base),
        }
    }
}

/// PEFT's type of the task of a checkpoint, where its class says that it predicts the next token.
fn task_of(base: &Checkpoint) -> Option<&'static str> {
    let is_one = |class: &str| class.ends_with("ForCausalLM") && predicts_tokens(class);
    base.config.class().is_some_and(is_one).then_some("CAUSAL_LM")
}

/// The path of the module that a parameter is of.
fn module_of(parameter: &str) -> Option<String> {
    parameter.rsplit_once('.').map(|(module, _)| module.to_owned())
}

/// Whether the tensors of each pair differ, read up to the first difference.
fn differing(
    values: &CheckpointValues,
    pairs: &[TensorPair],
    reporter: &mut dyn Reporter,
) -> Result<Vec<bool>> {
    let bytes_of = |pair: &TensorPair| values.tensor(pair.both().map_or((0, 0), |both| both[0])).bytes;
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

/// The tensors of the adapter's file, in their order.
fn file_tensors(values: &CheckpointValues, selection: &DifferenceSelection, rank: u64) -> Vec<FileTensor> {
    let mut tensors = Vec::new();
    for module in &selection.modules {
        let [rows, cols] = [module.size.rows as u64, module.size.cols as u64];
        let sides = if module.is_turned { [rows, cols] } else { [cols, rows] };
        tensors.extend(FileTensor::factors(&module.path, sides, rank));
    }
    for WholeTensor { name, place } in &selection.saved {
        let tensor = values.tensor(*place);
        tensors.push(FileTensor {
            name: name.clone(),
            dtype: tensor.dtype,
            axes: tensor.shape.axes().to_vec(),
        });
    }
    tensors
}

/// Factors all modules, a few at once, and writes their factors in order.
fn write_factors(
    values: &CheckpointValues,
    modules: &[LinearModule],
    sink: &mut dyn Sink,
    reporter: &mut dyn Reporter,
) -> Result<Vec<KeptModule>> {
    let bytes =
        |module: &LinearModule| module.places.map(|place| values.tensor(place).bytes).iter().sum::<u64>();
    let total_bytes = 2 * modules.iter().map(bytes).sum::<u64>();
    reporter.event(&Event::Reading { what: "factoring", total_bytes });
    let read = AtomicU64::new(0);
    let (turn, written) = (Turn::default(), Mutex::new((sink, Vec::with_capacity(modules.len()))));
    let work = |i: usize, stop: &Cancel| {
        let LinearModule { path, places, size, is_turned } = &modules[i];
        let (factors, square) = factored(values, *places, *size, Watched { stop, read: &read })?;
        places.iter().try_for_each(|place| values.check_unchanged(*place))?;
        turn.take(i, stop, || {
            let mut written = written.lock().unwrap_or_else(PoisonError::into_inner);
            let (sink, kept) = &mut *written;
            write_values(&mut **sink, &if *is_turned { factors.tall_across() } else { factors.wide() })?;
            write_values(&mut **sink, &if *is_turned { factors.wide_across() } else { factors.tall() })?;
            kept.push(KeptModule { path: path.clone(), square, kept: factors.square() });
            Ok(())
        })
    };
    at_once((modules.len(), values.threads), values.cancel(), &work, &mut || {
        reporter.event(&Event::Progress(&snapshot(total_bytes, read.load(Ordering::Relaxed))));
    })?;
    Ok(written.into_inner().unwrap_or_else(PoisonError::into_inner).1)
}

/// Copies tensors that are held whole.
fn write_whole(values: &CheckpointValues, saved: &[WholeTensor], sink: &mut dyn Sink) -> Result<()> {
    for WholeTensor { place, .. } in saved {
        let (bytes, mut at) = (values.tensor(*place).bytes, 0);
        let mut room = vec![0; bytes.min(PIECE as u64) as usize];
        while at < bytes {
            values.cancel().check()?;
            let piece = &mut room[..(bytes - at).min(PIECE as u64) as usize];
            values.read(*place, at, piece)?;
            sink.write(piece)?;
            at += piece.len() as u64;
        }
        values.check_unchanged(*place)?;
    }
    Ok(())
}

/// What `target_modules` says: the last segment of paths where every weight of such a name is factored, else whole paths.
fn targets(values: &CheckpointValues, modules: &[LinearModule]) -> Vec<String> {
    let leaf = |path: &str| path.rsplit('.').next().unwrap_or_default().to_owned();
    let weights = values.tensors(0).iter().filter_map(|tensor| tensor.name.strip_suffix(".weight"));
    let mut all: Vec<String> = weights.map(leaf).collect();
    let mut own: Vec<String> = modules.iter().map(|module| leaf(&module.path)).collect();
    all.sort_unstable();
    own.sort_unstable();
    let count = |of: &[String], leaf: &String| {
        of.partition_point(|other| other <= leaf) - of.partition_point(|other| other < leaf)
    };
    let mut targets: Vec<String> = modules
        .iter()
        .map(|module| {
            let leaf = leaf(&module.path);
            if count(&all, &leaf) == count(&own, &leaf) { leaf } else { module.path.clone() }
        })
        .collect();
    targets.sort_unstable();
    targets.dedup();
    targets
}

/// The greatest rank: the work of the small decomposition grows with its cube.
pub(crate) const MOST_RANK: usize = 1024;
