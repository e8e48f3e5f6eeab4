//! A finished output held against what the merge gives now, where the base may have changed since it was made.
//!
//! Adapters and side files are hashed whole for every plan. A shard of the base is known by its header and by samples, so that
//! a change between them shows only in what is made of it. A shard that has surely not changed since the record was written
//! needs no second look.

use crate::error::output::OutputError;
use crate::error::{Error, Result};
use crate::merge::prepare::Prepared;
use crate::pipeline::clock::Clocks;
use crate::pipeline::writer::ShardDone;
use crate::plan::out_tensor::Role;
use crate::plan::output_files::CARD;
use crate::publish::model_card::model_card;
use crate::publish::provenance::{PROVENANCE, Provenance};
use crate::report::event::{Event, Reporter};
use crate::storage::discard::Discard;
use crate::storage::location::Location;
use crate::storage::store::Store;

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
        let is_same = |shard: &ShardDone| record.shards.contains(shard);
        self.run_into(
            (&Discard, &Clocks::default(), &self.cancel),
            &mut |shard| {
                if is_same(&shard) {
                    return Ok(());
                }
                let error = OutputError::OtherBase { path: output.path(), shard: shard.name };
                Err(Error::new(error).hint("name an output that does not exist yet"))
            },
            &mut |now| reporter.event(&Event::Progress(now)),
        )?;
        self.check_inputs()
    }

    /// Files of the base that may not be what they were when `record` was written.
    fn doubtful_files(&self, output: &Location, record: &Provenance) -> Result<Vec<String>> {
        let mark = output.open(PROVENANCE)?.times();
        let card = model_card(&self.plan, &self.base_name, self.library);
        let card = blake3::hash(card.as_bytes()).to_hex();
        // A base of another name is another base, however long it has been there.
        let is_named_alike = record.files.iter().any(|file| file.name == CARD && *file.hash == *card);
        let mark = mark.filter(|_| is_named_alike);
        let inputs = self.plan.inputs.iter().zip(&self.sources);
        let base = inputs.filter(|(input, _)| input.role == Role::Base);
        let doubtful = base.filter(|(_, source)| {
            let times = source.times().zip(mark);
            times.is_none_or(|(times, mark)| !times.is_older_than(&mark))
        });
        Ok(doubtful.map(|(input, _)| input.name.clone()).collect())
    }
}
