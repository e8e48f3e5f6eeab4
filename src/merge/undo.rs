//! What undoes a merge. It is written beside the shards before they are shown: the merge is taken back from what is staged, and
//! what that gives is compared with the base. Where a merge was taken back, it tells whether that gave the base.

use crate::error::output::OutputError;
use crate::error::verify::VerifyError;
use crate::error::{Error, Result};
use crate::memory::pool::PoolMemory;
use crate::merge::inverse::Inverse;
use crate::merge::io::{compared_io, io_settings};
use crate::merge::prepare::Prepared;
use crate::pipeline::clock::Clocks;
use crate::pipeline::milestone::ShardDone;
use crate::pipeline::repack::write_repacked;
use crate::pipeline::run::Run;
use crate::pipeline::shared::SharedInputs;
use crate::plan::out_tensor::OutHeader;
use crate::plan::output_files::UNDO;
use crate::publish::staging::Staging;
use crate::report::event::{Event, Reporter};
use crate::storage::files::write_small;
use crate::storage::io::settings::Unchanged;
use crate::storage::location::Location;
use crate::storage::source::Source;
use crate::storage::store::Store;
use crate::undo::writer::UndoWriter;

impl Prepared {
    /// Writes what undoes the merge into `store`, which is that of `staging` and has all shards, if it is asked for.
    ///
    /// # Errors
    /// [`OutputError::WrittenOnce`]; as a merge.
    pub(crate) fn write_undo(
        &self,
        store: &Location,
        staging: &Staging,
        reporter: &mut dyn Reporter,
    ) -> Result<Option<ShardDone>> {
        let Some(Inverse { plan, made }) = &self.inverse else { return Ok(None) };
        reporter.event(&Event::KeepingUndo { total_bytes: made.output_bytes(plan) });
        let settings = io_settings(&self.io, &self.schedule, Unchanged::Copy);
        self.places[0].use_io(compared_io(&self.io, &self.schedule));
        store.use_io(settings);
        let staged = plan.shards.iter().map(|shard| store.open(&shard.name));
        let staged: Vec<Box<dyn Source>> = staged.collect::<Result<_>>()?;
        let base: Vec<&dyn Source> = self.sources.iter().map(AsRef::as_ref).collect();
        let mut sources = base.clone();
        for (shard, source) in plan.shards.iter().zip(&staged) {
            if let OutHeader::Copied { from, .. } = shard.header {
                sources[from.0 as usize] = source.as_ref();
            }
        }
        let scratch = write_repacked(&self.scratch, (self.own_plan(), &self.sources), store, &self.cancel)?;
        sources.extend(scratch.as_ref().map(|file| -> &dyn Source { file.as_ref() }));
        write_small(store, UNDO, &[])?;
        let mut writer = UndoWriter::new(plan, &base, store.patch(UNDO)?);
        let run = Run {
            plan,
            schedule: &self.schedule,
            sources: &sources,
            store,
            kernels: self.kernels,
            clocks: &Clocks::default(),
            cancel: &self.cancel,
            allow_noop: true,
            accept_loss: true,
            extent: made,
            kept: &[],
            stride: u64::MAX,
            shared: SharedInputs::default(),
            undo: None,
        };
        run.pass(
            &mut PoolMemory::new(self.schedule.cut)?,
            &mut |shard, at, bytes| writer.pass(shard, at, bytes),
            &mut |now| reporter.event(&Event::Progress(now)),
        )?;
        let shards = staging.shards();
        let same = |shard: usize, section: usize| Some(shards.get(shard)?.sections.get(section)?.hash.0);
        let written = writer.finish(&self.digest, &same)?;
        let (name, sections) = (UNDO.to_owned(), Vec::new());
        Ok(Some(ShardDone { name, bytes: written.bytes, hash: written.hash, sha256: None, sections }))
    }

    /// Fails where what undoes the merge is asked for and cannot be written.
    ///
    /// # Errors
    /// [`OutputError::WrittenOnce`].
    pub(crate) fn check_patched(&self, staging: &Staging) -> Result<()> {
        if self.inverse.is_none() || !staging.way().is_in_place() {
            return Ok(());
        }
        let error = Error::new(OutputError::WrittenOnce { path: staging.dir().path() });
        Err(error.hint("merge into a directory on a disk, or without `--keep-undo`"))
    }

    /// Fails unless `shards` are those of the base, where there is something that tells.
    ///
    /// # Errors
    /// [`VerifyError::NotTheBase`] for every tensor that is not; as reading.
    pub(crate) fn check_taken_back(&self, shards: &[ShardDone]) -> Result<()> {
        let Some(undo) = &self.undo else { return Ok(()) };
        let mut errors = Vec::new();
        for (i, (done, planned)) in shards.iter().zip(&self.plan.shards).enumerate() {
            for (section, sum) in done.sections.iter().enumerate() {
                if undo.hash(i, section)? != sum.hash.0 {
                    let tensor = section.checked_sub(1).and_then(|at| planned.tensors.get(at));
                    let tensor =
                        tensor.map_or_else(|| "the header".to_owned(), |tensor| tensor.name.to_string());
                    errors.push(VerifyError::NotTheBase { tensor, shard: planned.name.clone() }.into());
                }
            }
        }
        Error::all(errors)
    }
}
