//! A prepared merge carried out: staged, run, completed with its other files, published.

use std::time::Instant;

use crate::adapters::open::has_directory;
use crate::cancel::Cancel;
use crate::checkpoint::weights_name::is_of_library;
use crate::error::exit::Code;
use crate::error::kind::ErrorKind;
use crate::error::output::OutputError;
use crate::error::storage::StorageError;
use crate::error::{Error, Result};
use crate::merge::inverse::Inverse;
use crate::merge::io::{io_settings, output_io};
use crate::merge::memory::file_limit;
use crate::merge::prepare::Prepared;
use crate::note::Note;
use crate::note::run::RunNote;
use crate::pipeline::clock::Clocks;
use crate::pipeline::milestone::Milestone;
use crate::pipeline::progress::Snapshot;
use crate::pipeline::repack::write_repacked;
use crate::pipeline::run::Run;
use crate::pipeline::tally::Applied;
use crate::plan::out_tensor::{Plan, Role};
use crate::publish::checksums::Checksums;
use crate::publish::finished::Wanted;
use crate::publish::journal::BaseStamp;
use crate::publish::kept::{Earlier, Lost};
use crate::publish::staging::Staging;
use crate::publish::target::{OutputTarget, Probed, drop_leftovers, probe};
use crate::report::event::{Event, Reporter};
use crate::report::summary::{Summary, lost};
use crate::schedule::extent::Extent;
use crate::storage::location::Location;
use crate::storage::source::Source;
use crate::storage::store::Store;
use crate::tensor::size::show_size;
use crate::undo::file::UndoFile;

/// An output in memory that takes less than this part of what is free is not worth a note.
const SMALL_PART: u64 = 16;

/// Whether what is staged serves a later run, after this error: only if that run can do better from the same inputs.
pub(crate) fn serves_later(error: &Error, staging: &Staging) -> bool {
    let is_changed = |error: &Error| matches!(error.kind(), ErrorKind::Storage(StorageError::Changed { .. }));
    let is_same = !error.each().iter().any(is_changed);
    let can_go_on = matches!(error.exit_code(), Code::Io | Code::Stopped);
    is_same && can_go_on && staging.is_found_again()
}

/// The error of a merge that had begun to write; to one that was interrupted, what becomes of the work.
pub(crate) fn with_way_on(error: Error) -> Error {
    if matches!(error.kind(), ErrorKind::Stopped) {
        return error.hint("OUTPUT was not created; run the same command again, it goes on where it stopped");
    }
    error
}

/// Begins to stage something, behind what an earlier run left of it.
pub(crate) type BeginStaging<'b> = dyn Fn(&Earlier<'_>, &mut dyn FnMut(&Snapshot)) -> Result<Staging> + 'b;

/// What a run came to.
pub(crate) struct Ran {
    /// What it counted; none where all was there.
    applied: Option<Applied>,
    /// Bytes that were kept, read, and shared.
    pub(crate) bytes: [u64; 3],
    /// What its threads spent their time on.
    pub(crate) clocks: Clocks,
}

/// Fails if `output` lies in the directory of an input of `plan`: in that of the base, which is the first of `places`, or in
/// that of an adapter. One of which only files with names of their own are read may hold anything else.
///
/// # Errors
/// [`OutputError::InsideInput`].
pub(crate) fn check_outside(output: &Location, plan: &Plan, places: &[Location]) -> Result<()> {
    let role = |place: usize| place.checked_sub(1).map_or(Role::Base, |i| Role::Adapter(i as u32));
    let is_by_file = |place: usize| {
        let mut own = plan.inputs.iter().filter(|input| input.role == role(place));
        let is_one = |name: &str| match role(place) {
            Role::Adapter(_) => !has_directory(&places[place], name),
            _ => !name.contains('/') && !is_of_library(name),
        };
        own.all(|input| is_one(&input.name))
    };
    let holding = places.iter().enumerate().find(|(i, place)| output.lies_in(place) && !is_by_file(*i));
    let Some((_, input)) = holding else { return Ok(()) };
    let error = OutputError::InsideInput { path: output.path(), input: input.path() };
    Err(Error::new(error).hint("name an output elsewhere"))
}

impl Prepared {
    /// Merges into `output`, or finds that it is done already.
    ///
    /// # Errors
    /// Whatever went wrong first; `output` is then as it was.
    pub fn merge(&self, output: &Location, reporter: &mut dyn Reporter) -> Result<Summary> {
        let started = Instant::now();
        if let Some(part) = &self.part {
            return self.merge_part(part, output, reporter);
        }
        let target = match self.probe(output, reporter)? {
            Probed::AlreadyDone(record) => {
                drop_leftovers(output, &self.digest);
                let result = record.digest_of_files();
                self.completion().check_result(&result)?;
                let summary = self.summary(output).of_result(result);
                reporter.event(&Event::Finished(&summary));
                return Ok(summary);
            }
            Probed::Ready(target) => target,
        };
        for decision in &self.decisions {
            reporter.event(&Event::Note(decision));
        }
        if let Some(note) = self.check_memory(&target.dir())? {
            reporter.event(&Event::Note(&note));
        }
        self.cancel.check()?;
        let mut staging = self.begin(&target, reporter)?;
        let (schedule, reason) = (&self.schedule, &self.reason);
        reporter.event(&Event::Budget { schedule, reason, io: &self.io });
        let filled = self.fill(&target, &mut staging, reporter, started);
        match filled.and_then(|filled| self.check_inputs().map(|()| filled)) {
            Ok((summary, files)) => {
                target.publish(staging, (&files, self.access()), &self.cancel)?;
                reporter.event(&Event::Finished(&summary));
                Ok(summary)
            }
            Err(error) => {
                if serves_later(&error, &staging) {
                    target.leave(staging);
                } else {
                    target.discard(staging);
                }
                Err(with_way_on(error))
            }
        }
    }

    /// What others may do with each file that is read: no more with the result. Its owner may always read and write it.
    pub(crate) fn access(&self) -> u32 {
        const OWNER: u32 = 0o600;
        const ALL: u32 = 0o666;
        let inputs = self.sources.iter().chain(&self.copied);
        inputs.filter_map(|source| source.access()).fold(ALL, |all, access| all & access) | OWNER
    }

    /// Begins to stage the result, behind what an earlier run left of it.
    fn begin(&self, target: &OutputTarget, reporter: &mut dyn Reporter) -> Result<Staging> {
        let staging = self.stage(target.output(), reporter, &|earlier, tick| target.begin(earlier, tick))?;
        if let Some(note) = staging.way().note(target.output()) {
            reporter.event(&Event::Note(&note));
        }
        if staging.way().is_in_place() && !staging.is_shared() {
            let note = RunNote::NoJournal { output: target.output().to_string() };
            reporter.event(&Event::Note(&note.into()));
        }
        Ok(staging)
    }

    /// Begins to stage what is made of the plan as `begin` does, and reports what an earlier run left of it.
    pub(crate) fn stage(
        &self,
        output: &Location,
        reporter: &mut dyn Reporter,
        begin: &BeginStaging<'_>,
    ) -> Result<Staging> {
        let base: Option<Vec<BaseStamp>> =
            self.base().map(|(name, source)| BaseStamp::of(name, source)).collect();
        let earlier = Earlier {
            plan: self.own_plan(),
            digest: &self.digest,
            base: base.as_deref(),
            is_base_older: &|dir| self.is_base_older(dir),
            trusts_journal: self.trusts_journal,
            parts: None,
            cancel: &self.cancel,
        };
        let mut is_begun = false;
        let staging = begin(&earlier, &mut |now| {
            let began = Event::Continuing { total_bytes: now.total_bytes };
            reporter.event(&if is_begun { Event::Progress(now) } else { began });
            is_begun = true;
        })?;
        let note = match &staging.kept().lost {
            None => return Ok(staging),
            Some(Lost::Base) => RunNote::StartedOver { output: output.to_string() },
            Some(Lost::Damaged(file)) => RunNote::KeptDamaged { file: file.clone() },
        };
        reporter.event(&Event::Note(&note.into()));
        Ok(staging)
    }

    /// Looks at `output` and decides what is to be done about it. Writes nothing.
    ///
    /// # Errors
    /// [`OutputError::InsideInput`]; as [`probe`] and [`Prepared::check_base`].
    pub(crate) fn probe(&self, output: &Location, reporter: &mut dyn Reporter) -> Result<Probed> {
        check_outside(output, &self.plan, &self.places)?;
        let wanted = Wanted {
            plan: &self.plan,
            digest: &self.digest,
            copied: &self.copied,
            state: self.state.as_ref(),
            parts: self.part.as_ref().map(|part| part.number.count()),
            cancel: &self.cancel,
        };
        let mut is_begun = false;
        let probed = probe(output, &wanted, &mut |now| {
            let began = Event::Checking { total_bytes: now.total_bytes };
            let event = if is_begun { Event::Progress(now) } else { began };
            reporter.event(&event);
            is_begun = true;
        })?;
        if let Probed::AlreadyDone(record) = &probed {
            self.check_base(output, record, reporter)?;
        }
        Ok(probed)
    }

    /// Fails if an input is not any more what it was when the plan was made: then nobody knows what was merged.
    pub(crate) fn check_inputs(&self) -> Result<()> {
        let inputs = self.sources.iter().chain(&self.copied).map(AsRef::as_ref);
        let inputs = inputs.chain(self.undo.iter().map(UndoFile::source));
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
        self.check_patched(staging)?;
        self.check_room(&target.dir(), staging.kept_bytes_on_disk()?)?;
        let checksums = self.plan.sha256.then(Checksums::default);
        let store = match &checksums {
            Some(checksums) => checksums.of(staging.store(), &self.cancel),
            None => staging.store(),
        };
        let Ran { applied, bytes, clocks } =
            self.run_staged((&store, checksums.as_ref()), staging, &mut |_| {}, reporter)?;
        self.check_taken_back(&staging.shards())?;
        let undo = self.write_undo(&store, staging, reporter)?;
        let completed = self.completion().complete(&store, (staging.shards(), undo), checksums.as_ref())?;
        let merged = applied.iter().filter(|_| !self.plan.is_inverse);
        let lost = merged.flat_map(lost);
        for note in lost.chain([&self.places[0], &store].into_iter().filter_map(refused)) {
            reporter.event(&Event::Note(&note));
        }
        let summary = self.summary(target.output()).of_result(completed.result);
        let summary = summary.done(applied, bytes, started.elapsed());
        Ok((summary.timed(clocks.threads()), completed.files))
    }

    /// Runs the plan into `store`, which is that of `staging`, behind what is kept there. `each` hears of every milestone.
    pub(crate) fn run_staged(
        &self,
        (store, checksums): (&Location, Option<&Checksums>),
        staging: &mut Staging,
        each: &mut (dyn FnMut(&Milestone) + Send),
        reporter: &mut dyn Reporter,
    ) -> Result<Ran> {
        let (kept_bytes, mut read_bytes, mut shared_bytes) = (staging.kept().bytes(), 0, 0);
        let clocks = Clocks::default();
        let applied = if staging.kept().is_counted {
            let kept = staging.kept().milestones.clone();
            let mut record = |mut milestone: Milestone| {
                checksums.iter().for_each(|sums| sums.note(&mut milestone));
                staging.record(&milestone)?;
                each(&milestone);
                Ok(())
            };
            let applied = self.run_into((store, &clocks, &self.cancel), &kept, &mut record, &mut |now| {
                (read_bytes, shared_bytes) = (now.read_bytes, now.shared_bytes);
                reporter.event(&Event::Progress(now));
            })?;
            Some(applied)
        } else {
            None
        };
        Ok(Ran { applied, bytes: [kept_bytes, read_bytes, shared_bytes], clocks })
    }

    /// What this process makes: all of the plan, or its part of it.
    pub(crate) fn own_plan(&self) -> &Plan {
        self.part.as_ref().map_or(&self.plan, |part| &part.plan)
    }

    /// Runs the plan into `store`, which has what `kept` says already. `record` and `tick` are called as by [`Run::run`].
    pub(crate) fn run_into(
        &self,
        (store, clocks, cancel): (&dyn Store, &Clocks, &Cancel),
        kept: &[Milestone],
        record: &mut (dyn FnMut(Milestone) -> Result<()> + Send),
        tick: &mut dyn FnMut(&Snapshot),
    ) -> Result<Applied> {
        self.run_part_into((store, clocks, cancel), (&Extent::ALL, kept), record, tick)
    }

    /// The same for a part of the plan.
    pub(crate) fn run_part_into(
        &self,
        (store, clocks, cancel): (&dyn Store, &Clocks, &Cancel),
        (extent, kept): (&Extent, &[Milestone]),
        record: &mut (dyn FnMut(Milestone) -> Result<()> + Send),
        tick: &mut dyn FnMut(&Snapshot),
    ) -> Result<Applied> {
        let settings = io_settings(&self.io, &self.schedule, self.unchanged);
        self.places[0].use_io(settings);
        store.use_io(output_io(settings, &self.io, store));
        let scratch = write_repacked(&self.scratch, (self.own_plan(), &self.sources), store, cancel)?;
        let inputs = self.sources.iter().map(|source| source.as_ref());
        let sources: Vec<&dyn Source> =
            inputs.chain(scratch.as_ref().map(|file| -> &dyn Source { file.as_ref() })).collect();
        let run = Run {
            plan: self.own_plan(),
            schedule: &self.schedule,
            sources: &sources,
            store,
            kernels: self.kernels,
            clocks,
            cancel,
            // An adapter may do nothing in one part.
            allow_noop: self.allow_noop || self.part.is_some(),
            accept_loss: self.accept_loss || self.part.is_some(),
            extent,
            kept,
            stride: self.stride,
            shared: self.shared_inputs(store)?,
            undo: self.undo.as_ref(),
        };
        run.run(record, tick)
    }

    pub(crate) fn summary(&self, output: &Location) -> Summary {
        Summary::already_done((&self.plan, &self.digest), &self.schedule, &self.io, &output.path())
    }

    /// Where the output takes memory that a limit counts: a note, or an error if the limit cannot hold it beside the run.
    pub(crate) fn check_memory(&self, dir: &Location) -> Result<Option<Note>> {
        if !dir.is_in_memory("") {
            return Ok(None);
        }
        let Some(limit) = file_limit() else { return Ok(None) };
        let needed = self.own_plan().disk_bytes() + self.scratch.bytes;
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

    pub(crate) fn check_room(&self, dir: &Location, there: u64) -> Result<()> {
        let undo = self.inverse.as_ref().map_or(0, Inverse::likely_bytes);
        let needed = self.own_plan().disk_bytes() + self.scratch.bytes + undo;
        let needed = needed.saturating_sub(there);
        match dir.free_bytes("") {
            Some(free) if free < needed => {
                Err(StorageError::DiskFull { path: dir.path(), needed, free }.into())
            }
            // A store that does not tell is found out by writing.
            _ => Ok(()),
        }
    }
}

/// That the files of `place` did not go the way that was chosen.
fn refused(place: &Location) -> Option<Note> {
    let mode = place.refused_io()?.to_owned();
    Some(RunNote::IoRefused { path: place.to_string(), mode }.into())
}
