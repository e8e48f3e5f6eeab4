//! [`MergedReader`]: the tensors of a merge, made as they are read. Nothing is written.
//!
//! A tensor that no adapter changes is read from where it is. Of one that is merged the least rows that hold what is asked for
//! are made, by the stages and in the buffers of a merge, and go straight to the caller's memory: so its bytes are those of the
//! written merge, and the budget holds whatever the size of a tensor. The pool is mapped once and kept between reads; a read
//! starts the threads of a run, which takes less than a millisecond.
//!
//! ```
//! use std::path::Path;
//!
//! use shardfold::{Cancel, MergedReader, Request};
//!
//! # fn main() -> shardfold::Result<()> {
//! let demo = Path::new("fixtures/demo");
//! let reader = MergedReader::open(&Request {
//!     base: Some(demo.join("base").into()),
//!     adapters: vec![(demo.join("adapter").into(), 1f64.into())],
//!     ..Request::default()
//! })?;
//! let first = reader.plan().tensors().next().expect("a checkpoint has tensors");
//! let mut bytes = vec![0; first.bytes as usize];
//! reader.read(&first.name, &[0..first.bytes], &mut bytes, &Cancel::default())?;
//! // Some of its bytes only:
//! let mut some = [0; 6];
//! reader.read(&first.name, &[2..4, 8..12], &mut some, &Cancel::default())?;
//! assert_eq!(some, [&bytes[2..4], &bytes[8..12]].concat()[..]);
//! # Ok(())
//! # }
//! ```

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use crate::cancel::Cancel;
use crate::checkpoint::header::metadata_of;
use crate::error::checkpoint::CheckpointError;
use crate::error::request::RequestError;
use crate::error::{Error, Result};
use crate::formats::header_bytes::HeaderBytes;
use crate::memory::pool::PoolMemory;
use crate::merge::io::io_settings;
use crate::merge::prepare::{Prepared, prepare};
use crate::merge::request::Request;
use crate::note::Note;
use crate::ops::factor::Factor;
use crate::pipeline::clock::Clocks;
use crate::pipeline::fill::{FillSpan, check_filled};
use crate::pipeline::repack::write_repacked;
use crate::pipeline::run::Run;
use crate::pipeline::shared::SharedInputs;
use crate::plan::out_tensor::{Content, OutHeader, OutTensor, Plan};
use crate::schedule::extent::{Extent, OutPlace};
use crate::schedule::repack::repack_factors;
use crate::storage::discard::Discard;
use crate::storage::io::settings::Unchanged;
use crate::storage::sink::Scratch;
use crate::storage::source::Source;
use crate::storage::store::Store;
use crate::tensor::name::Name;
use crate::tensor::reference::{FileId, TensorRef};

/// Fails for the components of a pipeline, whose tensors have the same names.
fn refuse_pipeline(prepared: &Prepared) -> Result<()> {
    let directories = prepared.plan.shards.iter().filter_map(|shard| shard.name.split_once('/'));
    let mut components: Vec<String> = directories.map(|(directory, _)| format!("`{directory}`")).collect();
    components.dedup();
    let Some(first) = components.first() else { return Ok(()) };
    let hint = format!("name one of them as the base, such as {first}");
    let path = prepared.places[0].path();
    Err(Error::new(CheckpointError::Pipeline { path, components }).hint(hint))
}

/// Bytes that are copied between two looks whether to stop.
const STEP: usize = 16 << 20;

/// The tensors of a merge, made as they are read. Calls from several threads are served one after the other.
pub struct MergedReader {
    prepared: Prepared,
    /// Shard and place in it, by name.
    places: HashMap<Name, (usize, usize)>,
    memory: Mutex<PoolMemory>,
    /// Factors that no file holds.
    made: Option<Box<dyn Scratch>>,
}

impl MergedReader {
    /// Plans the merge of `request` and opens its inputs.
    ///
    /// # Errors
    /// As [`prepare`].
    pub fn open(request: &Request) -> Result<MergedReader> {
        let prepared = prepare(request)?;
        refuse_pipeline(&prepared)?;
        MergedReader::of(prepared)
    }

    /// Of a merge that is prepared.
    pub(crate) fn of(mut prepared: Prepared) -> Result<MergedReader> {
        // Factors are read where the plan says, but for those that no file holds: there is no output that they could be repacked
        // beside.
        let (scratch, locations) = repack_factors(&prepared.plan, u64::MAX);
        prepared.schedule.locations = locations;
        let inputs = (&*prepared.plan, &prepared.sources[..]);
        let made = write_repacked(&scratch, inputs, &Discard::default(), &prepared.cancel)?;
        prepared.places[0].use_io(io_settings(&prepared.io, &prepared.schedule, Unchanged::Copy));
        let shards = prepared.plan.shards.iter().enumerate();
        let places = shards.flat_map(|(i, shard)| {
            shard.tensors.iter().enumerate().map(move |(j, tensor)| (tensor.name.clone(), (i, j)))
        });
        let places = places.collect();
        let memory = Mutex::new(PoolMemory::new(prepared.schedule.cut)?);
        Ok(MergedReader { prepared, places, memory, made })
    }

    /// What is merged: its tensors in the order of the output, with names, types and shapes.
    pub fn plan(&self) -> &Plan {
        &self.prepared.plan
    }

    /// Things worth saying about the merge, and what was decided beyond adding deltas.
    pub fn notes(&self) -> impl Iterator<Item = &Note> {
        self.prepared.notes.iter().chain(&self.prepared.decisions)
    }

    /// What the header of a shard says beside its tensors.
    ///
    /// # Errors
    /// As reading the base.
    pub fn metadata(&self, shard: usize) -> Result<Vec<(String, String)>> {
        let Some(shard) = self.prepared.plan.shards.get(shard) else { return Ok(Vec::new()) };
        let path = Path::new(&shard.name);
        match &shard.header {
            OutHeader::Made(header) => metadata_of(header, path),
            OutHeader::Copied { from, bytes } => {
                let mut header = vec![0; *bytes as usize];
                self.prepared.sources[from.0 as usize].read_at(&mut header, 0)?;
                metadata_of(&HeaderBytes::new(header), path)
            }
        }
    }

    /// The tensor `name`, if there is one.
    pub fn tensor(&self, name: &str) -> Option<&OutTensor> {
        let &(shard, tensor) = self.places.get(name)?;
        Some(&self.prepared.plan.shards[shard].tensors[tensor])
    }

    /// Fills `to` with these bytes of the tensor `name`, one range after the other. Beside `to` it takes the memory of the
    /// budget, however much is read.
    ///
    /// # Errors
    /// [`RequestError::UnknownTensor`]; [`RequestError::NoSuchBytes`] for ranges that are not in order, touch each other or go
    /// past the tensor's end, and where `to` has not as many bytes as they; as a merge, but for writing; stopped by `cancel`.
    pub fn read(&self, name: &str, ranges: &[Range<u64>], to: &mut [u8], cancel: &Cancel) -> Result<()> {
        let Some(&place) = self.places.get(name) else {
            return Err(RequestError::UnknownTensor { tensor: name.to_owned() }.into());
        };
        let tensor = &self.prepared.plan.shards[place.0].tensors[place.1];
        check_ranges(tensor, ranges, to.len() as u64)?;
        if to.is_empty() {
            return Ok(());
        }
        self.read_at(place, ranges, to, cancel)?;
        self.check_files(tensor)
    }

    /// Fills `to` with bytes of the tensor at `place`, which are known to be ranges of it. Whether files changed is not looked at.
    ///
    /// # Errors
    /// As reading; stopped by `cancel`.
    pub(crate) fn read_at(
        &self,
        place: (usize, usize),
        ranges: &[Range<u64>],
        to: &mut [u8],
        cancel: &Cancel,
    ) -> Result<()> {
        let tensor = &self.prepared.plan.shards[place.0].tensors[place.1];
        match &tensor.content {
            Content::Copy { from, .. } => self.copy(from, ranges, to, cancel),
            Content::Compute { .. } => self.merge((place, tensor), ranges, to, cancel),
        }
    }

    /// A file of the plan.
    pub(crate) fn source(&self, file: FileId) -> &dyn Source {
        self.prepared.sources[file.0 as usize].as_ref()
    }

    /// Fails if a file that the tensor is made of is not any more what it was when the merge was planned.
    ///
    /// # Errors
    /// As [`Source::check_unchanged`].
    pub(crate) fn check_files(&self, tensor: &OutTensor) -> Result<()> {
        let mut files: Vec<FileId> = match &tensor.content {
            Content::Copy { from, .. } => vec![from.file],
            Content::Compute { start, ops, .. } => {
                let factors = ops.iter().flat_map(|op| &op.factors).flat_map(Factor::stored);
                start.parts().iter().chain(factors).map(|tensor| tensor.file).collect()
            }
        };
        files.sort_unstable();
        files.dedup();
        let sources = files.iter().map(|file| &self.prepared.sources[file.0 as usize]);
        Error::all(sources.filter_map(|source| source.check_unchanged().err()).collect())
    }

    /// Reads bytes of a tensor that is copied.
    fn copy(
        &self,
        from: &TensorRef,
        ranges: &[Range<u64>],
        mut to: &mut [u8],
        cancel: &Cancel,
    ) -> Result<()> {
        let source = &self.prepared.sources[from.file.0 as usize];
        for range in ranges {
            let (part, rest) = to.split_at_mut((range.end - range.start) as usize);
            let mut at = from.offset + range.start;
            for step in part.chunks_mut(STEP) {
                cancel.check()?;
                source.read_at(step, at)?;
                at += step.len() as u64;
                source.done_before(at);
            }
            to = rest;
        }
        Ok(())
    }

    /// Makes bytes of a tensor that is merged.
    fn merge(
        &self,
        (place, tensor): ((usize, usize), &OutTensor),
        ranges: &[Range<u64>],
        mut to: &mut [u8],
        cancel: &Cancel,
    ) -> Result<()> {
        let (plan, wanted) = (&self.prepared.plan, to.len() as u64);
        let mut spans = Vec::with_capacity(ranges.len());
        for range in ranges {
            let (part, rest) = to.split_at_mut((range.end - range.start) as usize);
            spans.push(FillSpan { range: tensor.offset + range.start..tensor.offset + range.end, to: part });
            to = rest;
        }
        let places = ranges.iter().map(|range| OutPlace::holding(plan, place, range));
        let extent = Extent::of(plan, together(places));
        let made = self.made.iter().map(|file| -> &dyn Source { file.as_ref() });
        let sources: Vec<&dyn Source> = self.prepared.sources.iter().map(AsRef::as_ref).chain(made).collect();
        let run = Run {
            plan,
            schedule: &self.prepared.schedule,
            sources: &sources,
            store: &Discard::default(),
            kernels: self.prepared.kernels,
            clocks: &Clocks::default(),
            cancel,
            allow_noop: true,
            accept_loss: true,
            extent: &extent,
            kept: &[],
            stride: u64::MAX,
            shared: SharedInputs::default(),
            undo: None,
        };
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let filled = run.fill(&mut memory, &mut spans)?;
        check_filled(&tensor.name, filled, wanted)
    }
}

/// Fails unless these are ranges of the tensor, apart and in order, with as many bytes as there is memory.
fn check_ranges(tensor: &OutTensor, ranges: &[Range<u64>], memory: u64) -> Result<()> {
    let (mut behind, mut bytes) = (0, 0);
    for (i, &Range { start, end }) in ranges.iter().enumerate() {
        let is_apart = i == 0 || start > behind;
        if !is_apart || end < start || end > tensor.bytes {
            return Err(no_such_bytes(tensor, start, end));
        }
        (behind, bytes) = (end, bytes + (end - start));
    }
    if bytes == memory { Ok(()) } else { Err(no_such_bytes(tensor, 0, memory)) }
}

fn no_such_bytes(tensor: &OutTensor, start: u64, end: u64) -> Error {
    RequestError::NoSuchBytes { tensor: tensor.name.to_string(), start, end, bytes: tensor.bytes }.into()
}

/// Places of one tensor, in order, those that meet as one.
fn together(places: impl Iterator<Item = OutPlace>) -> Vec<OutPlace> {
    let mut all: Vec<OutPlace> = Vec::new();
    for place in places {
        match all.last_mut().filter(|last| place.start <= last.end) {
            Some(last) => last.end = last.end.max(place.end),
            None => all.push(place),
        }
    }
    all
}
