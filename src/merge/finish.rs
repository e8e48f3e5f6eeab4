//! The parts of a merge joined into one result: what is needed lies where they do, so that nothing is planned again.
//!
//! All parts must be there, whole, and of one plan. Then their shards are moved or put together, everything that was planned is
//! counted as applied, and the other files are written and the result is shown as by a merge in one process. The journal of
//! the directory has what is joined, so that a run that is cut off is gone on with.

use std::time::Instant;

use crate::cancel::Cancel;
use crate::error::output::OutputError;
use crate::error::parts::PartsError;
use crate::error::{Error, Result};
use crate::memory::process::process;
use crate::merge::execute::{check_outside, with_way_on};
use crate::merge::hooks::TestHooks;
use crate::merge::join::{Joining, STRIDE};
use crate::merge::others::{Completed, Completion};
use crate::merge::prepare::open_copied;
use crate::merge::whole_parts::{WholePart, consistent_job, stretches, whole_parts};
use crate::pipeline::milestone::{Milestone, whole_shards};
use crate::pipeline::progress::Snapshot;
use crate::pipeline::tally::{Applied, Tally};
use crate::publish::checksums::Checksums;
use crate::publish::finished::{Wanted, is_as_long, is_as_recorded};
use crate::publish::hashing::FileHashing;
use crate::publish::into_place::{IntoPlace, move_all_from_beside, staged_in};
use crate::publish::journal::HeadLine;
use crate::publish::kept::Earlier;
use crate::publish::parts::{PartsDir, PartsJob};
use crate::publish::provenance::Provenance;
use crate::publish::rename::{Rename, staged_beside};
use crate::publish::staging::Staging;
use crate::publish::target::{OutputTarget, Probed, probe};
use crate::publish::way::Publish;
use crate::report::event::{Event, Reporter};
use crate::report::joined::Finished;
use crate::report::summary::lost;
use crate::storage::location::Location;
use crate::storage::source::Source;
use crate::storage::store::Store;

/// Where what is joined comes from and goes to.
#[derive(Clone)]
pub struct Finishing {
    /// The output of all parts.
    pub output: Location,
    /// The directory of the base, if it is not any more where the parts had it.
    pub base: Option<Location>,
    /// Those of the adapters in order, if they are not any more where the parts had them; else none.
    pub adapters: Vec<Location>,
    /// What stops it.
    pub cancel: Cancel,
    /// What only tests ask for.
    #[cfg(feature = "testing")]
    pub hooks: TestHooks,
}

impl Finishing {
    /// Joins the parts of a merge and shows the result, or finds that this is done.
    ///
    /// # Errors
    /// [`PartsError`]; as [`Prepared::merge`](crate::merge::prepare::Prepared::merge).
    pub fn finish(&self, reporter: &mut dyn Reporter) -> Result<Finished> {
        let started = Instant::now();
        let output = &self.output;
        for staged in [staged_beside(output), Some(staged_in(output))].into_iter().flatten() {
            if let Some(job) = consistent_job(&staged)? {
                let finished = self.join(&job, &staged, reporter)?;
                return Ok(Finished { seconds: started.elapsed().as_secs_f64(), ..finished });
            }
        }
        if let Some(record) = self.show_left()? {
            return Ok(of_record("done", output, &record));
        }
        match Provenance::read(output).ok().flatten() {
            Some(record) => self.check(&record, reporter),
            None => Err(Error::new(PartsError::NoParts { path: output.path() }).hint(
                "give the OUTPUT that `merge --part` was given; a part makes it first where none was run yet",
            )),
        }
    }

    /// What only tests ask for; without the feature, nothing.
    fn hooks(&self) -> TestHooks {
        #[cfg(feature = "testing")]
        return self.hooks;
        #[cfg(not(feature = "testing"))]
        TestHooks::default()
    }

    fn join(&self, job: &PartsJob, staged: &Location, reporter: &mut dyn Reporter) -> Result<Finished> {
        let (plan, digest) = (&job.plan, job.plan.digest());
        let places = self.places(job)?;
        check_outside(&self.output, plan, &places)?;
        let copied = open_copied(plan, &places[0], &places[1..])?;
        let wanted = Wanted {
            plan,
            digest: &digest,
            copied: &copied,
            state: None,
            parts: Some(job.parts),
            cancel: &self.cancel,
        };
        let target = match probe(&self.output, &wanted, &mut |now| reporter.event(&Event::Progress(now)))? {
            Probed::AlreadyDone(record) => return Ok(of_record("already done", &self.output, &record)),
            Probed::Ready(target) => target,
        };
        let whole = whole_parts(&self.output, (job, &digest), staged)?;
        let work = Joiner { finishing: self, job, digest: &digest, copied: &copied };
        work.join(&target, &whole, reporter)
    }

    /// The directories of the base and the adapters.
    fn places(&self, job: &PartsJob) -> Result<Vec<Location>> {
        let base = self.base.clone().unwrap_or_else(|| Location::of_path(&job.base));
        let adapters = if self.adapters.is_empty() {
            job.adapters.iter().map(Location::of_path).collect()
        } else {
            self.adapters.clone()
        };
        if adapters.len() != job.plan.adapters.len() {
            let (found, expected) = (adapters.len(), job.plan.adapters.len());
            return Err(PartsError::OtherAdapters { path: self.output.path(), found, expected }.into());
        }
        Ok(std::iter::once(base).chain(adapters).map(|place| place.stopped_by(&self.cancel)).collect())
    }

    /// Shows a result that is joined, of which only that was left.
    fn show_left(&self) -> Result<Option<Provenance>> {
        let output = &self.output;
        let ways: [(Option<Location>, &dyn Publish); 2] =
            [(staged_beside(output), &Rename), (Some(staged_in(output)), &IntoPlace)];
        for (staged, way) in ways {
            let Some(staged) = staged else { continue };
            let is_own = staged.is_directory()? && staged.is_own_dir("")?;
            let Some(record) = Provenance::read(&staged).ok().flatten().filter(|_| is_own) else { continue };
            if !matches!(HeadLine::read(&staged)?, HeadLine::Absent)
                || !self.is_all_there(&record, &staged)?
            {
                continue;
            }
            let begun = HeadLine::read(&staged_in(output))?;
            if matches!(begun, HeadLine::Plan(plan) if plan == record.plan) {
                move_all_from_beside(&staged, output, &self.cancel)?;
            } else {
                way.publish(&staged, output, &self.cancel)?;
            }
            return Ok(Some(record));
        }
        Ok(None)
    }

    /// Whether every file of a result is in `staged`, or was moved on.
    fn is_all_there(&self, record: &Provenance, staged: &Location) -> Result<bool> {
        for file in record.all_files() {
            if !is_as_long(staged, file)? && !is_as_long(&self.output, file)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Sees that a finished output is as it was written.
    fn check(&self, record: &Provenance, reporter: &mut dyn Reporter) -> Result<Finished> {
        let files: Vec<_> = record.all_files().collect();
        let total_bytes = files.iter().map(|file| file.bytes).sum();
        reporter.event(&Event::Checking { total_bytes });
        let mut tick = |now: &Snapshot| reporter.event(&Event::Progress(now));
        let mut hashing = FileHashing::new(files.len(), total_bytes, &self.cancel, &mut tick);
        let mut wrong = Vec::new();
        for file in files {
            if !is_as_recorded(&self.output, file, &mut hashing)? {
                wrong.push(file.name.clone());
            }
        }
        if wrong.is_empty() {
            return Ok(of_record("already done", &self.output, record));
        }
        let error = OutputError::OutputDamaged { path: self.output.path(), files: wrong };
        Err(Error::new(error).hint("move the directory away and run the parts again"))
    }
}

/// That a result with this record is there.
fn of_record(state: &'static str, output: &Location, record: &Provenance) -> Finished {
    Finished {
        state,
        output: output.path().display().to_string(),
        digest: record.plan.clone(),
        result: record.digest_of_files(),
        parts: None,
        tensors: None,
        applied: None,
        output_bytes: record.shards.iter().map(|shard| shard.bytes).sum(),
        seconds: 0.0,
        peak_rss: process().peak,
    }
}

/// The joining of parts that are all there.
struct Joiner<'w> {
    finishing: &'w Finishing,
    job: &'w PartsJob,
    digest: &'w str,
    copied: &'w [Box<dyn Source>],
}

impl Joiner<'_> {
    fn join(
        &self,
        target: &OutputTarget,
        whole: &[WholePart],
        reporter: &mut dyn Reporter,
    ) -> Result<Finished> {
        let plan = &self.job.plan;
        let earlier = Earlier {
            plan,
            digest: self.digest,
            // What was made of it is known by the parts' records.
            base: Some(&[]),
            is_base_older: &|_| Ok(true),
            trusts_journal: true,
            parts: Some(self.job.parts),
            cancel: &self.finishing.cancel,
        };
        let mut staging = target.begin_joining(&earlier, &mut |_| {})?;
        let (applied, completed) = match self.fill(&mut staging, whole, reporter) {
            Ok(filled) => filled,
            Err(error) => {
                // What is joined, and the parts, are gone on with.
                target.leave(staging);
                return Err(with_way_on(error));
            }
        };
        let access = whole.iter().fold(u32::MAX, |all, part| all & part.record.access);
        target.publish(staging, (&completed.files, access), &self.finishing.cancel)?;
        applied.iter().flat_map(lost).for_each(|note| reporter.event(&Event::Note(&note)));
        let output = &self.finishing.output;
        Ok(Finished {
            state: "done",
            output: output.path().display().to_string(),
            digest: self.digest.to_owned(),
            result: completed.result,
            parts: Some(self.job.parts),
            tensors: Some(plan.counts()),
            applied,
            output_bytes: plan.output_bytes(),
            seconds: 0.0,
            peak_rss: process().peak,
        })
    }

    /// Joins the shards, counts what was applied, and writes all other files.
    fn fill(
        &self,
        staging: &mut Staging,
        whole: &[WholePart],
        reporter: &mut dyn Reporter,
    ) -> Result<(Option<Applied>, Completed)> {
        let (plan, cancel) = (&self.job.plan, &self.finishing.cancel);
        let checksums = plan.sha256.then(Checksums::default);
        let store = match &checksums {
            Some(checksums) => checksums.of(staging.store(), cancel),
            None => staging.store(),
        };
        let mut applied = None;
        if staging.kept().is_counted {
            let milestones = self.join_shards(staging, whole, reporter)?;
            applied = Some(Tally::new(plan, &milestones).applied(
                plan,
                self.job.allow_noop,
                self.job.accept_loss,
            )?);
        }
        let completion = Completion {
            plan,
            digest: self.digest,
            card: self.job.card.clone(),
            copied: self.copied,
            expected: self.job.expected.as_deref(),
            cancel,
        };
        let completed = completion.complete(&store, (staging.shards(), None), checksums.as_ref())?;
        Error::all(self.copied.iter().filter_map(|source| source.check_unchanged().err()).collect())?;
        Ok((applied, completed))
    }

    /// Joins the shards that are not joined yet. Returns all of them with what was counted.
    fn join_shards(
        &self,
        staging: &mut Staging,
        whole: &[WholePart],
        reporter: &mut dyn Reporter,
    ) -> Result<Vec<Milestone>> {
        let plan = &self.job.plan;
        let total_bytes = plan.output_bytes();
        reporter.event(&Event::Joining { parts: self.job.parts, total_bytes });
        let parts = PartsDir::of(staging.dir());
        let kept = whole_shards(&staging.kept().milestones).count();
        let written_bytes = plan.shards[..kept].iter().map(|shard| shard.bytes).sum();
        let now = Snapshot {
            total_bytes,
            read_bytes: 0,
            written_bytes,
            shared_bytes: 0,
            shards: plan.shards.len(),
            shard: kept,
            held_bytes: 0,
        };
        let mut joining = Joining {
            plan,
            parts: &parts,
            stride: self.finishing.hooks().stride.unwrap_or(STRIDE),
            shares: self.finishing.hooks().shares,
            cancel: &self.finishing.cancel,
            tick: &mut |now| reporter.event(&Event::Progress(now)),
            now,
            told: Instant::now(),
        };
        let store = staging.store();
        let by_shard = stretches(plan, whole);
        let mut milestones = staging.kept().milestones.clone();
        for (i, stretches) in by_shard.iter().enumerate().skip(kept) {
            milestones.push(joining.join(i, stretches, &store, staging)?);
        }
        Ok(milestones)
    }
}
