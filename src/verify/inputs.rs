//! A directory held against what merging its inputs gives.

use std::collections::HashSet;
use std::sync::Arc;

use crate::checkpoint::discover::Checkpoint;
use crate::checkpoint::header_room::HeaderRoom;
use crate::error::Result;
use crate::error::kind::ErrorKind;
use crate::error::run::RunError;
use crate::merge::io::compared_io;
use crate::merge::prepare::{Prepared, prepare};
use crate::merge::request::Request;
use crate::pipeline::clock::Clocks;
use crate::pipeline::milestone::ShardDone;
use crate::plan::output_files::UNDO;
use crate::publish::difference::difference;
use crate::publish::provenance::{PROVENANCE, Provenance};
use crate::report::event::{Event, Reporter};
use crate::schedule::extent::Extent;
use crate::storage::discard::Discard;
use crate::storage::location::Location;
use crate::storage::store::Store;
use crate::verify::comparison::{Comparison, is_merged};
use crate::verify::difference::{Difference, coordinates};
use crate::verify::files::{check_headers, check_others, check_record};
use crate::verify::finding::Finding;
use crate::verify::found_tensors::FoundTensors;
use crate::verify::hashes::{check_one, unlisted};
use crate::verify::sample::{Chosen, Sample};
use crate::verify::unmerged::unmerged_modules;
use crate::verify::verified::{Against, Verified};

/// What is compared where no sample is asked for.
static ALL: Extent = Extent::ALL;

/// A directory and the merge that it is held against.
pub(crate) struct Verification {
    dir: Location,
    /// What the merge is.
    pub(crate) prepared: Prepared,
    /// What is looked at of its tensors; none for all.
    sample: Option<Chosen>,
    record: Option<Provenance>,
    /// The tensors of the directory; none where the plan says where they are.
    found: Option<Checkpoint>,
    findings: Vec<Finding>,
}

impl Verification {
    /// Plans the merge of `request`, and looks whether `dir` was made by it.
    ///
    /// # Errors
    /// As [`prepare`], and as opening a checkpoint where `dir` was made in another way.
    pub(crate) fn prepare(dir: Location, request: &Request, sample: Option<Sample>) -> Result<Verification> {
        let dir = dir.stopped_by(&request.cancel);
        dir.check_dir()?;
        let record = Provenance::read(&dir)?;
        let sha256 = record.as_ref().is_some_and(|record| record.checksums.is_some());
        let has_file = dir.has_file(PROVENANCE)?;
        let room = HeaderRoom::of(request.max_ram.as_ref());
        let open = || Checkpoint::open(&dir.clone().into(), None, &room);
        // What it takes is counted when the budget is split.
        let mut found = if has_file { None } else { Some(open()?) };
        let keep_undo = record.as_ref().is_some_and(|record| record.undo.is_some());
        let prepared = prepare(&Request { sha256, keep_undo, ..request.clone() })?;
        let sample = sample.map(|sample| sample.of(&prepared.plan));
        let mut findings = Vec::new();
        match &record {
            Some(record) if record.plan != prepared.digest => {
                findings.push(Finding::OtherMerge { difference: difference(record, &prepared.plan) });
                found = Some(open()?);
            }
            None if has_file => findings.push(Finding::Unreadable),
            _ => {}
        }
        Ok(Verification { dir, prepared, sample, record, found, findings })
    }

    /// Merges into nothing, and compares.
    ///
    /// # Errors
    /// As a merge, but for writing; as reading `dir`.
    pub(crate) fn run(mut self, reporter: &mut dyn Reporter) -> Result<Verified> {
        let Prepared { schedule, reason, io, plan, .. } = &self.prepared;
        reporter.event(&Event::Budget { schedule, reason, io });
        self.dir.use_io(compared_io(io, schedule));
        let mut findings = std::mem::take(&mut self.findings);
        let is_own = self.found.is_none();
        let target = match self.found.take() {
            None => FoundTensors::by_plan(plan, &self.dir, &mut findings)?,
            Some(found) => FoundTensors::by_name(plan, found, &mut findings),
        };
        if is_own {
            findings.extend(check_headers(&self.prepared, &target)?);
        }
        let comparison = Arc::new(Comparison::new(plan.clone(), target, !is_own));
        let shards = self.merge(&comparison, reporter)?;
        let all = plan.tensors().count();
        let mut verified = Verified {
            path: self.dir.to_string(),
            against: Against::Inputs,
            bytes: self.extent().output_bytes(plan),
            tensors: self.sample.as_ref().map_or(all, |sample| sample.tensors),
            of_tensors: all,
            places: self.sample.as_ref().map(|sample| sample.places),
            findings,
            ..Verified::default()
        };
        for (key, difference) in comparison.take() {
            self.explain(&comparison.target, key, &difference, &mut verified)?;
        }
        if is_own {
            let (findings, others) = check_others(&self.prepared, &self.dir)?;
            verified.findings.extend(findings);
            if let Some(record) = &self.record {
                let expected: Vec<ShardDone> = shards.into_iter().chain(others).collect();
                verified.findings.extend(check_record(&self.dir, record, &expected, &self.prepared.cancel)?);
                // It is not made again: its own hash tells.
                let undo = record.files.iter().filter(|file| file.name == UNDO);
                for file in undo {
                    verified.findings.extend(check_one(&self.dir, file, &self.prepared.cancel)?);
                }
            }
            let files: HashSet<&str> = plan.output_files().iter().map(|file| file.name).collect();
            verified.unlisted = unlisted(&self.dir, &|name| files.contains(name))?;
        }
        self.prepared.check_inputs()?;
        Ok(verified)
    }

    /// How much of the merge is compared.
    fn extent(&self) -> &Extent {
        self.sample.as_ref().map_or(&ALL, |sample| &sample.extent)
    }

    /// Runs the plan and compares what it gives. Returns the shards that are made whole.
    fn merge(&self, comparison: &Arc<Comparison>, reporter: &mut dyn Reporter) -> Result<Vec<ShardDone>> {
        let total_bytes = self.extent().output_bytes(&self.prepared.plan);
        reporter.event(&Event::Verifying { total_bytes });
        let looking = comparison.clone();
        let store = Discard::looking(move |name, offset, bytes| looking.pass(name, offset, bytes));
        let clocks = Clocks::default();
        let mut shards = Vec::new();
        let run = self.prepared.run_part_into(
            (&store, &clocks, &self.prepared.cancel),
            (self.extent(), &[]),
            &mut |milestone| {
                shards.extend(milestone.shard().cloned());
                Ok(())
            },
            &mut |now| reporter.event(&Event::Progress(now)),
        );
        match run {
            Ok(_) if self.sample.is_some() => Ok(Vec::new()),
            Ok(_) => Ok(shards),
            // Some of the places are not all that a module reaches.
            Err(error)
                if self.sample.is_some()
                    && matches!(error.kind(), ErrorKind::Run(RunError::Unapplied { .. })) =>
            {
                Ok(Vec::new())
            }
            Err(error) => Err(error),
        }
    }

    /// Adds what the difference of one tensor means.
    fn explain(
        &self,
        target: &FoundTensors,
        (shard, at): (usize, usize),
        difference: &Difference,
        verified: &mut Verified,
    ) -> Result<()> {
        let plan = &self.prepared.plan;
        let tensor = &plan.shards[shard].tensors[at];
        let Some((place, file)) = target.place(shard, at).zip(target.file_of(shard, at)) else {
            return Ok(());
        };
        let (name, file) = (tensor.name.to_string(), file.to_owned());
        let (sources, cancel) = (&self.prepared.sources, &self.prepared.cancel);
        if is_merged(tensor) {
            let modules = unmerged_modules((plan, tensor), difference, (target, place), (sources, cancel))?;
            if let Some(modules) = modules {
                verified.findings.push(Finding::Unmerged { tensor: name, file, modules });
                return Ok(());
            }
        }
        match difference.first_wrong {
            Some(first) => verified.findings.push(Finding::Values {
                tensor: name,
                file,
                first: coordinates(tensor.shape.axes(), first),
                differing: difference.differing,
                rounding: difference.rounding,
                elements: tensor.shape.elements(),
            }),
            None => {
                verified.rounding.tensors += 1;
                verified.rounding.elements += difference.rounding;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::cancel::Cancel;
    use crate::verify::stopping::Stopping;

    #[test]
    fn comparing_ends_with_the_token() {
        let demo = Path::new("fixtures/demo");
        let merged = Location::of_path(demo.join("merged"));
        let request = |cancel: &Cancel| Request {
            base: Some(demo.join("base").into()),
            adapters: vec![(demo.join("adapter").into(), 1f64.into())],
            cancel: cancel.clone(),
            ..Request::default()
        };
        let verify = |cancel: &Cancel, stopped: Cancel| {
            Verification::prepare(merged.clone(), &request(cancel), None)?.run(&mut Stopping(stopped))
        };
        let verified = verify(&Cancel::default(), Cancel::default()).unwrap();
        assert_eq!((verified.findings.len(), verified.rounding.elements), (0, 4));
        let cancel = Cancel::default();
        let error = verify(&cancel, cancel.clone()).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Stopped), "{error:?}");
    }
}
