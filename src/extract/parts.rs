//! An adapter written: the factors of its modules, made a few at once and written in order, tensors that it holds whole, and its config.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::cancel::Cancel;
use crate::checkpoint::discover::Checkpoint;
use crate::diff::compare::snapshot;
use crate::diff::pieces::{PIECE, Watched};
use crate::error::Result;
use crate::extract::extracted::{Extracted, KeptModule};
use crate::extract::factors::{FactoredModule, MatrixOf, ModuleFactors};
use crate::extract::lora_file::{self, FileTensor, LoraConfig, RankedModule, write_values};
use crate::extract::selection::{DifferenceSelection, WholeTensor};
use crate::extract::turn::Turn;
use crate::memory::process::process;
use crate::merge::at_once::at_once;
use crate::merge::execute::check_outside;
use crate::merge::values::CheckpointValues;
use crate::model::heads::predicts_tokens;
use crate::publish::fresh::FreshDir;
use crate::report::event::{Event, Reporter};
use crate::storage::location::Location;
use crate::storage::sink::Sink;

/// Begins the directory of an adapter, outside of what is read.
///
/// # Errors
/// As [`check_outside`] and [`FreshDir::begin`].
pub(crate) fn begin_output(output: &Location, values: &CheckpointValues) -> Result<FreshDir> {
    for place in &values.places {
        check_outside(output, values.plan(), std::slice::from_ref(place))?;
    }
    FreshDir::begin(output)
}

/// Makes factors, writes the adapter's files and shows them as `output`.
///
/// # Errors
/// As reading and writing.
pub(crate) fn write(
    values: &CheckpointValues,
    selection: DifferenceSelection,
    (fresh, output): (FreshDir, &Location),
    reporter: &mut dyn Reporter,
) -> Result<Extracted> {
    let mut sink = lora_file::begin(fresh.dir(), &file_tensors(values, &selection))?;
    let modules = write_factors(values, &selection.modules, sink.as_mut(), reporter)?;
    write_whole(values, &selection.saved, sink.as_mut())?;
    sink.commit()?;
    config(values, &selection).write(fresh.dir())?;
    fresh.publish(values.cancel())?;
    Ok(Extracted {
        output: output.to_string(),
        modules,
        saved: selection.saved.into_iter().map(|tensor| tensor.name).collect(),
        skipped: selection.skipped,
        equal: selection.equal,
        peak_rss: process().peak,
    })
}

/// The tensors of the adapter's file, in their order.
fn file_tensors(values: &CheckpointValues, selection: &DifferenceSelection) -> Vec<FileTensor> {
    let mut tensors: Vec<FileTensor> = selection.modules.iter().flat_map(FactoredModule::tensors).collect();
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

/// Makes the factors of all modules and writes them in order.
fn write_factors(
    values: &CheckpointValues,
    modules: &[FactoredModule],
    sink: &mut dyn Sink,
    reporter: &mut dyn Reporter,
) -> Result<Vec<KeptModule>> {
    let bytes = |module: &FactoredModule| match &module.of {
        MatrixOf::Values(places) => places.iter().map(|place| values.tensor(*place).bytes).sum::<u64>(),
        MatrixOf::Products(_) => 0,
    };
    let total_bytes = 2 * modules.iter().map(bytes).sum::<u64>();
    reporter.event(&Event::Reading { what: "factoring", total_bytes });
    let read = AtomicU64::new(0);
    let (turn, written) = (Turn::default(), Mutex::new((sink, Vec::with_capacity(modules.len()))));
    let work = |i: usize, stop: &Cancel| {
        let ModuleFactors { a, b, squares } = modules[i].factors(values, Watched { stop, read: &read })?;
        turn.take(i, stop, || {
            let mut written = written.lock().unwrap_or_else(PoisonError::into_inner);
            let (sink, kept) = &mut *written;
            write_values(&mut **sink, &a)?;
            write_values(&mut **sink, &b)?;
            let RankedModule { path, rank, .. } = modules[i].ranked();
            kept.push(KeptModule { path, rank, squares });
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

/// What the adapter's config says.
fn config(values: &CheckpointValues, selection: &DifferenceSelection) -> LoraConfig {
    let (base, _) = &values.checkpoints[0];
    let mut saved: Vec<String> =
        selection.saved.iter().filter_map(|tensor| module_of(&tensor.name)).collect();
    saved.dedup();
    LoraConfig {
        base: base.name.clone().unwrap_or_else(|| values.names[0].clone()),
        modules: selection.modules.iter().map(FactoredModule::ranked).collect(),
        targets: targets(base, &selection.modules),
        saved,
        is_turned: selection.modules.iter().any(|module| module.is_turned),
        task: task_of(base),
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

/// What `target_modules` says: the last segment of paths where every weight of such a name is factored, else whole paths.
fn targets(base: &Checkpoint, modules: &[FactoredModule]) -> Vec<String> {
    let leaf = |path: &str| path.rsplit('.').next().unwrap_or_default().to_owned();
    let tensors = base.catalogue.tensors.iter();
    let weights = tensors.filter_map(|tensor| tensor.name.strip_suffix(".weight"));
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
