//! A finished output held against what the merge gives now, where the base may have changed since it was made.
//!
//! Adapters and side files are hashed whole for every plan. A shard of the base is known by its header and by samples, so that
//! a change between them shows only in what is made of it. A shard that has surely not changed since the record was written
//! needs no second look, nor does one of which the store names all bytes: the plan has that name.

use crate::error::output::OutputError;
use crate::error::{Error, Result};
use crate::merge::prepare::Prepared;
use crate::pipeline::clock::Clocks;
use crate::plan::out_tensor::Role;
use crate::plan::output_files::CARD;
use crate::publish::model_card::model_card;
use crate::publish::provenance::{PROVENANCE, Provenance};
use crate::report::event::{Event, Reporter};
use crate::storage::discard::Discard;
use crate::storage::location::Location;
use crate::storage::source::Source;
use crate::storage::store::Store;
use crate::storage::times::FileTimes;

impl Prepared {
    /// Fails unless `output`, which has this record, is what the base as it is now gives. Writes nothing.
    ///
    /// # Errors
    /// [`OutputError::OtherBase`]; as a merge.
    pub(crate) fn check_base(
        &self,
        output: &Location,
        record: &Provenance,
        reporter: &mut dyn Reporter,
    ) -> Result<()> {
        let files = self.doubtful_files(output, record)?;
        if files.is_empty() {
            return Ok(());
        }
        reporter.event(&Event::MergingAgain { total_bytes: self.plan.output_bytes(), files: &files });
        self.run_into(
            (&Discard::default(), &Clocks::default(), &self.cancel),
            &[],
            &mut |milestone| {
                let Some(shard) =
                    milestone.shard().filter(|shard| !record.shards.iter().any(|own| own.is_same_as(shard)))
                else {
                    return Ok(());
                };
                let error = OutputError::OtherBase { path: output.path(), shard: shard.name.clone() };
                Err(Error::new(error).hint("name an output that does not exist yet"))
            },
            &mut |now| reporter.event(&Event::Progress(now)),
        )?;
        self.check_inputs()
    }

    /// Files of the base that may not be what they were when `record` was written.
    fn doubtful_files(&self, output: &Location, record: &Provenance) -> Result<Vec<String>> {
        let card = model_card(&self.plan, &self.base_name, self.library);
        let card = blake3::hash(card.as_bytes()).to_hex();
        // A base of another name is another base, however long it has been there.
        let is_named_alike = record.files.iter().any(|file| file.name == CARD && *file.hash == *card);
        let mark = output.open(PROVENANCE)?.times().filter(|_| is_named_alike);
        let doubtful = self.base().filter(|(_, source)| !is_older(*source, mark));
        Ok(doubtful.map(|(name, _)| name.to_owned()).collect())
    }

    /// Whether all of the base has stood as it is since before the record in `dir` was written.
    pub(crate) fn is_base_older(&self, dir: &Location) -> Result<bool> {
        let mark = dir.open(PROVENANCE)?.times();
        Ok(self.base().all(|(_, source)| is_older(source, mark)))
    }

    /// The shards of the base, by name.
    pub(crate) fn base(&self) -> impl Iterator<Item = (&str, &dyn Source)> {
        let inputs = self.plan.inputs.iter().zip(&self.sources);
        let base = inputs.filter(|(input, _)| input.role == Role::Base);
        base.map(|(input, source)| (input.name.as_str(), source.as_ref()))
    }
}

/// Whether a file has surely stood as it is since before the one of `mark` was written.
fn is_older(source: &dyn Source, mark: Option<FileTimes>) -> bool {
    if source.content_id().is_some() {
        return true;
    }
    source.times().zip(mark).is_some_and(|(times, mark)| times.is_older_than(&mark))
}
