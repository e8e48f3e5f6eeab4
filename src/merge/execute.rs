//! A prepared merge carried out: staged, run, completed with its other files, published.

use std::time::Instant;

use crate::error::exit::Code;
use crate::error::kind::ErrorKind;
use crate::error::output::OutputError;
use crate::error::storage::StorageError;
use crate::error::{Error, Result};
use crate::merge::memory::file_limit;
use crate::merge::prepare::Prepared;
use crate::note::Note;
use crate::note::run::RunNote;
use crate::pipeline::repack::write_repacked;
use crate::pipeline::run::Run;
use crate::pipeline::writer::ShardDone;
use crate::plan::output_files::CARD;
use crate::publish::finished::Wanted;
use crate::publish::model_card::model_card;
use crate::publish::provenance::{PROVENANCE, Provenance};
use crate::publish::staging::Staging;
use crate::publish::target::{OutputTarget, Probed, probe};
use crate::report::event::{Event, Reporter};
use crate::report::summary::{Summary, lost};
use crate::schedule::repack::scratch_bytes;
use crate::storage::files::{copy_file, write_small};
use crate::storage::location::Location;
use crate::storage::source::Source;
use crate::storage::store::Store;
use crate::tensor::size::show_size;

/// An output in memory that takes less than this part of what is free is not worth a note.
const SMALL_PART: u64 = 16;

impl Prepared {
    /// Merges into `output`, or finds that it is done already.
    ///
    /// # Errors
    /// Whatever went wrong first; `output` is then as it was.
    pub fn merge(&self, output: &Location, reporter: &mut dyn Reporter) -> Result<Summary> {
        let started = Instant::now();
        let target = match self.probe(output, reporter)? {
            Probed::AlreadyDone => {
                let summary = self.summary(output);
                reporter.event(&Event::Finished(&summary));
                return Ok(summary);
            }
            Probed::Ready(target) => target,
        };
        for decision in &self.decisions {
            reporter.event(&Event::Note(decision));
        }
        reporter.event(&Event::Budget { schedule: &self.schedule, reason: &self.reason });
        if let Some(note) = self.check_memory(&target.dir())? {
            reporter.event(&Event::Note(&note));
        }
        self.cancel.check()?;
        let mut staging = target.begin(&self.digest)?;
        let filled = self.fill(&target, &mut staging, reporter, started);
        match filled.and_then(|filled| self.check_inputs().map(|()| filled)) {
            Ok((summary, files)) => {
                target.publish(staging, &files)?;
                reporter.event(&Event::Finished(&summary));
                Ok(summary)
            }
            Err(error) => {
                // What is staged serves a later run only if that run can do better from the same inputs.
                let is_changed =
                    |error: &Error| matches!(error.kind(), ErrorKind::Storage(StorageError::Changed { .. }));
                let is_same = !error.each().iter().any(is_changed);
                let is_kept = staging.is_shared() && matches!(error.exit_code(), Code::Io | Code::Stopped);
                if !(is_same && is_kept) {
                    staging.discard();
                }
                Err(error)
            }
        }
    }

    /// Looks at `output` and decides what is to be done about it. Writes nothing.
    ///
    /// # Errors
    /// [`OutputError::InsideInput`]; as [`probe`].
    pub(crate) fn probe(&self, output: &Location, reporter: &mut dyn Reporter) -> Result<Probed> {
        if let Some(input) = self.places.iter().find(|place| output.lies_in(place)) {
            let error = OutputError::InsideInput { path: output.path(), input: input.path() };
            return Err(Error::new(error).hint("name an output elsewhere"));
        }
        let wanted =
            Wanted { plan: &self.plan, digest: &self.digest, copied: &self.copied, cancel: &self.cancel };
        let mut is_begun = false;
        probe(output, &wanted, &mut |now| {
            let began = Event::Checking { total_bytes: now.total_bytes };
            let event = if is_begun { Event::Progress(now) } else { began };
            reporter.event(&event);
            is_begun = true;
        })
    }

    /// Fails if an input is not any more what it was when the plan was made: then nobody knows what was merged.
    fn check_inputs(&self) -> Result<()> {
        let inputs = self.sources.iter().chain(&self.copied);
        Error::all(inputs.filter_map(|source| source.check_unchanged().err()).collect())
    }

    /// Runs the plan into the staging directory and adds all other files.
    fn fill(
        &self,
        target: &OutputTarget,
        staging: &mut Staging,
        reporter: &mut dyn Reporter,
        started: Instant,
    ) -> Result<(Summary, Vec<(String, u64)>)> {
        self.check_room(&target.dir())?;
        let store = staging.dir().clone();
        store.limit_unwritten(self.schedule.window_bytes as u64);
        let scratch = write_repacked(&self.repacks, &self.sources, &store, &self.cancel)?;
        let inputs = self.sources.iter().map(|source| source.as_ref());
        let sources: Vec<&dyn Source> =
            inputs.chain(scratch.as_ref().map(|file| -> &dyn Source { file.as_ref() })).collect();
        let run = Run {
            plan: &self.plan,
            schedule: &self.schedule,
            sources: &sources,
            store: &store,
            kernels: self.kernels,
            cancel: &self.cancel,
            allow_noop: self.allow_noop,
        };
        let mut read_bytes = 0;
        let applied = run.run(&mut |shard| staging.shard_done(shard), &mut |now| {
            read_bytes = now.read_bytes;
            reporter.event(&Event::Progress(now));
        })?;
        for note in lost(&applied) {
            reporter.event(&Event::Note(&note));
        }
        let files = self.write_others(&store, staging)?;
        Ok((self.summary(target.output()).done(applied, read_bytes, started.elapsed()), files))
    }

    fn summary(&self, output: &Location) -> Summary {
        Summary::already_done(&self.plan, &self.digest, &self.schedule, &output.path())
    }

    /// Where the output takes memory that a limit counts: a note, or an error if the limit cannot hold it beside the run.
    fn check_memory(&self, dir: &Location) -> Result<Option<Note>> {
        if !dir.is_in_memory("") {
            return Ok(None);
        }
        let Some(limit) = file_limit() else { return Ok(None) };
        let needed = self.plan.disk_bytes() + scratch_bytes(&self.repacks);
        let with_run = needed + self.schedule.budget.total.bytes();
        if limit.free < with_run {
            let path = dir.path();
            let error = OutputError::OutputInMemory { path, needed: with_run, limit: limit.to_string() };
            return Err(Error::new(error).hint("name an output on a disk"));
        }
        // A small result in memory is nothing to worry about.
        let note = RunNote::OutputInMemory {
            output: dir.to_string(),
            needed: show_size(needed),
            limit: limit.to_string(),
        };
        Ok((needed > limit.free / SMALL_PART).then(|| note.into()))
    }

    fn check_room(&self, dir: &Location) -> Result<()> {
        let needed = self.plan.disk_bytes() + scratch_bytes(&self.repacks);
        match dir.free_bytes("") {
            Some(free) if free < needed => {
                Err(StorageError::DiskFull { path: dir.path(), needed, free }.into())
            }
            // A store that does not tell is found out by writing.
            _ => Ok(()),
        }
    }

    /// Writes the files beside the shards: those that are copied, the index, the card, the record. Returns all files of the
    /// output with their lengths.
    fn write_others(&self, store: &Location, staging: &Staging) -> Result<Vec<(String, u64)>> {
        let mut done = Vec::new();
        let mut buf = vec![0; 1 << 18];
        for (file, source) in self.plan.copied.iter().zip(&self.copied) {
            let hash = copy_file(source.as_ref(), store, &file.name, &mut buf, &self.cancel)?;
            done.push(ShardDone { name: file.name.clone(), bytes: source.len(), hash });
        }
        let card = model_card(&self.plan, &self.base_name, self.library);
        let own = self.plan.files.iter().map(|file| (file.name.as_str(), file.content.as_str()));
        for (name, text) in own.chain([(CARD, card.as_str())]) {
            write_small(store, name, text.as_bytes())?;
            let hash = blake3::hash(text.as_bytes()).to_hex().to_string();
            done.push(ShardDone { name: name.to_owned(), bytes: text.len() as u64, hash });
        }
        let shards = staging.shards();
        let mut files: Vec<(String, u64)> =
            shards.iter().chain(&done).map(|file| (file.name.clone(), file.bytes)).collect();
        let record = Provenance::new(&self.plan, &self.digest, shards, done).to_json();
        write_small(store, PROVENANCE, record.as_bytes())?;
        files.push((PROVENANCE.to_owned(), record.len() as u64));
        Ok(files)
    }
}
