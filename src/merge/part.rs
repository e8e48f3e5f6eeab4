//! One part of a merge, made beside others: whole output tensors, in files of its own where the output is staged. Nothing is
//! shared with the other parts but the plan, and nothing is shown before all are joined.

use std::time::Instant;

use crate::error::Result;
use crate::merge::execute::{Ran, check_outside, serves_later, with_way_on};
use crate::merge::own_part::OwnPart;
use crate::merge::prepare::Prepared;
use crate::note::run::RunNote;
use crate::pipeline::milestone::Milestone;
use crate::plan::out_tensor::Plan;
use crate::publish::checksums::Checksums;
use crate::publish::into_place::staged_in;
use crate::publish::part_number::PartNumber;
use crate::publish::part_record::PartRecord;
use crate::publish::parts::{PartsDir, PartsJob};
use crate::publish::provenance::{PROVENANCE, Provenance};
use crate::publish::rename::staged_beside;
use crate::publish::staging::Staging;
use crate::publish::target::Probed;
use crate::report::event::{Event, Reporter};
use crate::report::summary::Summary;
use crate::storage::location::Location;

impl Prepared {
    /// Makes a part, or finds that it is made already.
    ///
    /// # Errors
    /// As [`Prepared::merge`]; [`PartsError`](crate::error::parts::PartsError).
    pub(crate) fn merge_part(
        &self,
        part: &OwnPart,
        output: &Location,
        reporter: &mut dyn Reporter,
    ) -> Result<Summary> {
        let started = Instant::now();
        check_outside(output, &self.plan, &self.places)?;
        let done =
            |state| self.summary(output).of_part(state, part.number.to_string(), part.plan.output_bytes());
        if self.is_joined(output)? {
            return Ok(finished(done("part already done"), reporter));
        }
        let Probed::Ready(target) = self.probe(output, reporter)? else {
            return Ok(finished(done("part already done"), reporter));
        };
        if part.plan.shards.is_empty() {
            let note = RunNote::EmptyPart { part: part.number.to_string() };
            reporter.event(&Event::Note(&note.into()));
            return Ok(finished(done("part done"), reporter));
        }
        self.decisions.iter().for_each(|decision| reporter.event(&Event::Note(decision)));
        if let Some(note) = self.check_memory(&target.dir())? {
            reporter.event(&Event::Note(&note));
        }
        self.cancel.check()?;
        let parts = target.begin_parts(&self.job(part.number), &self.digest)?;
        match self.make(part, &parts, reporter) {
            Ok(None) => Ok(finished(done("part already done"), reporter)),
            Ok(Some(Ran { bytes, clocks, .. })) => {
                let summary = done("part done").timed(clocks.threads());
                Ok(finished(summary.took(bytes, started.elapsed()), reporter))
            }
            // Another run of the same part came first, and it may all be joined by now.
            Err(_) if self.is_made(part, &parts) || self.is_joined(output).unwrap_or(false) => {
                Ok(finished(done("part already done"), reporter))
            }
            Err(error) => Err(with_way_on(error)),
        }
    }

    /// What is needed to join this part and all others.
    fn job(&self, number: PartNumber) -> PartsJob<&Plan> {
        let path = |place: &Location| Location::of_resolved_path(place.path()).path().display().to_string();
        PartsJob {
            parts: number.count(),
            base: path(&self.places[0]),
            adapters: self.places[1..].iter().map(path).collect(),
            card: self.completion().card,
            expected: self.expected.clone(),
            allow_noop: self.allow_noop,
            accept_loss: self.accept_loss,
            plan: &self.plan,
        }
    }

    /// Whether all parts are joined already, in `output` or where only showing it is left.
    fn is_joined(&self, output: &Location) -> Result<bool> {
        for place in
            [Some(output.clone()), staged_beside(output), Some(staged_in(output))].into_iter().flatten()
        {
            let record = if place.is_directory()? { Provenance::read(&place)? } else { None };
            if record.is_some_and(|record| record.plan == self.digest) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn is_made(&self, part: &OwnPart, parts: &PartsDir) -> bool {
        parts.is_whole(part.number, &self.digest, &part.plan).unwrap_or(false)
    }

    /// Makes the part where it is not there; none if it is.
    fn make(&self, part: &OwnPart, parts: &PartsDir, reporter: &mut dyn Reporter) -> Result<Option<Ran>> {
        let number = part.number;
        let own = (number, self.digest.as_str(), &part.plan);
        if parts.is_whole(own.0, own.1, own.2)? || parts.show_left(own.0, own.1, own.2)? {
            return Ok(None);
        }
        parts.forget(number)?;
        let place = parts.place(number);
        let mut staging =
            self.stage(&place, reporter, &|earlier, tick| parts.stage(number, earlier, tick))?;
        let (schedule, reason) = (&self.schedule, &self.reason);
        reporter.event(&Event::Budget { schedule, reason, io: &self.io });
        let filled = self.fill_part(part, parts, &mut staging, reporter);
        match filled.and_then(|filled| self.check_inputs().map(|()| filled)) {
            Ok((ran, files)) => {
                parts.publish(number, staging, (&files, self.access()))?;
                Ok(Some(ran))
            }
            Err(error) => {
                if !serves_later(&error, &staging) {
                    staging.discard();
                }
                Err(error)
            }
        }
    }

    /// Runs the part's plan into its staging directory, and writes its record there. Returns what it took, and its files with
    /// their lengths.
    fn fill_part(
        &self,
        part: &OwnPart,
        parts: &PartsDir,
        staging: &mut Staging,
        reporter: &mut dyn Reporter,
    ) -> Result<(Ran, Vec<(String, u64)>)> {
        self.check_room(parts.staging(), staging.kept_bytes_on_disk()?)?;
        let checksums = self.plan.sha256.then(Checksums::default);
        let store = match &checksums {
            Some(checksums) => checksums.of(staging.store(), &self.cancel),
            None => staging.store(),
        };
        let mut milestones: Vec<Milestone> = staging.kept().milestones.clone();
        let mut each = |milestone: &Milestone| milestones.push(milestone.clone());
        let ran = self.run_staged((&store, checksums.as_ref()), staging, &mut each, reporter)?;
        let record = PartRecord::new(&self.digest, part.number, self.access(), &milestones);
        let mut files: Vec<(String, u64)> =
            record.shards().map(|shard| (shard.name.clone(), shard.bytes)).collect();
        files.push((PROVENANCE.to_owned(), record.write(staging.dir())?));
        Ok((ran, files))
    }
}

/// Reports a summary.
fn finished(summary: Summary, reporter: &mut dyn Reporter) -> Summary {
    reporter.event(&Event::Finished(&summary));
    summary
}
