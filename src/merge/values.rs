//! [`CheckpointValues`]: the values of checkpoints, read piece by piece in the buffers of a merge. Nothing is written.

use std::sync::Arc;
use std::thread::available_parallelism;

use crate::cancel::Cancel;
use crate::checkpoint::catalogue::StoredAs;
use crate::checkpoint::discover::Checkpoint;
use crate::checkpoint::header_room::HeaderRoom;
use crate::checkpoint::quantized::Weights;
use crate::checkpoint::single_file;
use crate::encodings;
use crate::error::{Error, Result};
use crate::hub::resolved::Origin;
use crate::kernels::dispatch::Kernels;
use crate::merge::io::io_settings;
use crate::merge::planned::PlannedMerge;
use crate::merge::prepare::schedule;
use crate::merge::reader::MergedReader;
use crate::merge::request::Request;
use crate::merge::resolve::explained;
use crate::note::Note;
use crate::note::input::InputNote;
use crate::plan::build::Planned;
use crate::plan::out_tensor::{OutTensor, Plan};
use crate::plan::values::values;
use crate::storage::io::settings::Unchanged;
use crate::storage::location::Location;
use crate::storage::source::Source;
use crate::storage::store::Store;
use crate::tensor::reference::FileId;

/// The values of checkpoints, which are the shards of one plan.
pub(crate) struct CheckpointValues {
    /// The checkpoints, without the sources that the reader has, and what of their tensors is quantized.
    pub(crate) checkpoints: Vec<(Checkpoint, Weights)>,
    /// Where they are, as one would type it.
    pub(crate) names: Vec<String>,
    /// The directories.
    pub(crate) places: Vec<Location>,
    /// Things worth saying.
    pub(crate) notes: Vec<Note>,
    /// What reads them.
    reader: MergedReader,
    /// Threads that read values at once.
    pub(crate) threads: usize,
    kernels: Kernels,
    cancel: Cancel,
}

/// Checkpoints that are open, without their sources.
pub(crate) struct OpenedCheckpoints {
    /// They, and what of their tensors is quantized.
    pub(crate) checkpoints: Vec<(Checkpoint, Weights)>,
    /// What they are called.
    pub(crate) names: Vec<String>,
    /// Where they are.
    pub(crate) places: Vec<Location>,
    /// Things worth saying.
    pub(crate) notes: Vec<Note>,
}

/// A tensor of one of the checkpoints: the number of the checkpoint, and the tensor's place in its shard of the plan.
pub(crate) type ValuePlace = (usize, usize);

impl CheckpointValues {
    /// Opens checkpoints as `merge` opens a base, with the hub, the budget and the threads of `request`. `thread_bytes` says what each
    /// thread that reads values holds beside the run.
    ///
    /// # Errors
    /// As opening a base; [`RequestError::Budget`](crate::error::request::RequestError::Budget).
    pub(crate) fn open(
        request: &Request,
        origins: &[Origin],
        thread_bytes: &dyn Fn(&Plan) -> u64,
    ) -> Result<CheckpointValues> {
        let room = HeaderRoom::of(request.max_ram.as_ref());
        let (mut checkpoints, mut places, mut notes) = (Vec::new(), Vec::new(), Vec::new());
        let mut names = Vec::new();
        for origin in origins {
            let (checkpoint, name, of_hub) = open(request, origin, &room)?;
            names.push(name);
            let (weights, errors) = Weights::of(&checkpoint);
            Error::all(errors)?;
            notes.extend(of_hub);
            notes.extend(checkpoint.notes.iter().cloned());
            places.push(checkpoint.location.clone());
            checkpoints.push((checkpoint, weights));
        }
        let plan = values(&checkpoints)?;
        let mut sources = Vec::new();
        for (checkpoint, _) in &mut checkpoints {
            sources.append(&mut checkpoint.sources);
        }
        let opened = OpenedCheckpoints { checkpoints, names, places, notes };
        CheckpointValues::of(request, opened, (plan, sources), thread_bytes)
    }

    /// The values that a plan has of checkpoints that are open, of these files.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub(crate) fn of(
        request: &Request,
        opened: OpenedCheckpoints,
        (plan, sources): (Plan, Vec<Box<dyn Source>>),
        thread_bytes: &dyn Fn(&Plan) -> u64,
    ) -> Result<CheckpointValues> {
        let OpenedCheckpoints { checkpoints, names, places, notes } = opened;
        let plan = Arc::new(plan);
        let planned = Planned { plan, digest: String::new(), notes: Vec::new(), decisions: Vec::new() };
        let library = checkpoints[0].0.config.library();
        let (folders, base_name) = (places[1..].to_vec(), String::new());
        let merge = PlannedMerge { planned, sources, folders, base_name, library };
        let (threads, beside) = threads(request, thread_bytes(&merge.planned.plan));
        let request = Request { output_memory: request.output_memory + beside, ..request.clone() };
        let prepared = schedule(&request, merge, places[0].clone())?;
        let settings = io_settings(&prepared.io, &prepared.schedule, Unchanged::Copy);
        places.iter().for_each(|place| place.use_io(settings));
        let (kernels, cancel) = (prepared.kernels, request.cancel);
        let reader = MergedReader::of(prepared)?;
        Ok(CheckpointValues { checkpoints, names, places, notes, reader, threads, kernels, cancel })
    }

    /// A file of the plan.
    pub(crate) fn source(&self, file: FileId) -> &dyn Source {
        self.reader.source(file)
    }

    /// What is read: a shard of each checkpoint.
    pub(crate) fn plan(&self) -> &Plan {
        self.reader.plan()
    }

    /// The tensors of a checkpoint, by the names of the running model.
    pub(crate) fn tensors(&self, checkpoint: usize) -> &[OutTensor] {
        &self.plan().shards[checkpoint].tensors
    }

    /// What a tensor is.
    pub(crate) fn tensor(&self, (checkpoint, tensor): ValuePlace) -> &OutTensor {
        &self.tensors(checkpoint)[tensor]
    }

    /// What a tensor is in its file, where that is not what the model has.
    pub(crate) fn stored(&self, place: ValuePlace) -> Option<&StoredAs> {
        let (checkpoint, weights) = &self.checkpoints[place.0];
        let position = weights.position(&checkpoint.catalogue, &self.tensor(place).name)?;
        checkpoint.catalogue.stored(position)
    }

    /// What runs until it is cancelled.
    pub(crate) fn cancel(&self) -> &Cancel {
        &self.cancel
    }

    /// Fills `to` with bytes of a tensor, from byte `at` on.
    ///
    /// # Errors
    /// As reading.
    pub(crate) fn read(&self, place: ValuePlace, at: u64, to: &mut [u8]) -> Result<()> {
        let range = at..at + to.len() as u64;
        self.reader.read_at(place, std::slice::from_ref(&range), to, &self.cancel)
    }

    /// Fills `to` with values of a tensor of plain floats, from element `at` on; true if all are finite. `bytes` is made as long as
    /// what is read.
    ///
    /// # Errors
    /// As reading.
    pub(crate) fn read_values(
        &self,
        place: ValuePlace,
        at: u64,
        (bytes, to): (&mut Vec<u8>, &mut [f32]),
    ) -> Result<bool> {
        let dtype = self.tensor(place).dtype;
        let encoding = encodings::plain(dtype).expect("only plain floats are read as values");
        let size = dtype.bitsize() / 8;
        bytes.resize(to.len() * size, 0);
        self.read(place, at * size as u64, bytes)?;
        Ok(encoding.decode_flat(self.kernels, bytes, to))
    }

    /// Fails if files that a tensor is made of changed since they were opened.
    ///
    /// # Errors
    /// As [`MergedReader::check_files`].
    pub(crate) fn check_unchanged(&self, place: ValuePlace) -> Result<()> {
        self.reader.check_files(self.tensor(place))
    }
}

/// The most threads that read values at once: with more, the disk has too many places to be at.
const MOST_THREADS: usize = 2;

/// How many threads read values at once, and what they hold: one where several would take a quarter of the budget.
fn threads(request: &Request, thread_bytes: u64) -> (usize, u64) {
    let cpus = available_parallelism().map_or(1, usize::from);
    let wanted = request.threads.unwrap_or(cpus).min(MOST_THREADS);
    let all = thread_bytes.saturating_mul(wanted as u64);
    let is_much = request.max_ram.as_ref().is_some_and(|budget| all > budget.bytes() / 4);
    if is_much { (1, thread_bytes) } else { (wanted, all) }
}

/// Opens one checkpoint: it, what it is called, and a note if it is read from the hub.
fn open(
    request: &Request,
    origin: &Origin,
    room: &HeaderRoom<'_>,
) -> Result<(Checkpoint, String, Option<Note>)> {
    let place = request.hub.clone().stopped_by(&request.cancel).resolve(origin)?;
    let name = place.label().unwrap_or_else(|| place.location.to_string());
    let refused = |error| explained(&place, &[], error);
    let (mut directory, variant) = single_file::directory_of(place.clone()).map_err(refused)?;
    directory.location = directory.location.stopped_by(&request.cancel);
    let note = directory.on_hub().map(|what| InputNote::ReadFromHub { what }.into());
    let checkpoint = Checkpoint::open(&directory, variant.as_deref(), room).map_err(refused)?;
    Ok((checkpoint, name, note))
}
