//! A finished output looked at again: every file by its hash, the record against the plan, the side files against the inputs.

use std::time::{Duration, Instant};

use crate::cancel::Cancel;
use crate::error::output::OutputError;
use crate::error::{Error, Result};
use crate::pipeline::progress::Snapshot;
use crate::pipeline::writer::ShardDone;
use crate::plan::out_tensor::Plan;
use crate::publish::provenance::{PROVENANCE, Provenance};
use crate::storage::location::Location;
use crate::storage::source::Source;
use crate::storage::store::Store;

/// Bytes read at a time.
const STEP: usize = 1 << 20;
/// How often progress is reported.
const TICK: Duration = Duration::from_millis(100);

/// What a finished output must be.
pub(crate) struct Wanted<'w> {
    /// The plan.
    pub(crate) plan: &'w Plan,
    /// Its digest.
    pub(crate) digest: &'w str,
    /// The files that it copies, in its order.
    pub(crate) copied: &'w [Box<dyn Source>],
    /// What stops the look.
    pub(crate) cancel: &'w Cancel,
}

impl Wanted<'_> {
    /// Fails unless `output`, whose record is of this plan, is all that the plan makes, as it was written. `tick` is called
    /// when it begins, and then about ten times a second.
    ///
    /// # Errors
    /// [`OutputError::OutputDamaged`] with all files that are missing or other; [`OutputError::OtherSideFile`];
    /// [`ErrorKind::Stopped`](crate::error::kind::ErrorKind::Stopped).
    pub(crate) fn check(
        &self,
        output: &Location,
        record: &Provenance,
        tick: &mut dyn FnMut(&Snapshot),
    ) -> Result<()> {
        let path = || output.path();
        let damaged = |files: Vec<String>| {
            let error = Error::new(OutputError::OutputDamaged { path: path(), files });
            Err(error.hint("move the directory away and run the merge again"))
        };
        if !self.is_recorded(record) {
            return damaged(vec![PROVENANCE.to_owned()]);
        }
        let files: Vec<&ShardDone> = record.shards.iter().chain(&record.files).collect();
        let mut hashing = Hashing::of(&files, self, tick);
        let mut wrong = Vec::new();
        for file in &files {
            if hashing.output(output, file)?.as_deref() != Some(file.hash.as_str()) {
                wrong.push(file.name.clone());
            }
        }
        if !wrong.is_empty() {
            return damaged(wrong);
        }
        for (copied, source) in self.plan.copied.iter().zip(self.copied) {
            let hash = hashing.of_source(source.as_ref())?;
            if !record.files.iter().any(|file| file.name == copied.name && file.hash == hash) {
                let error = OutputError::OtherSideFile { path: path(), file: copied.name.clone() };
                return Err(Error::new(error).hint("name an output that does not exist yet"));
            }
        }
        Ok(())
    }

    /// Whether the record has every file of the plan, each with its length, and no other.
    fn is_recorded(&self, record: &Provenance) -> bool {
        let recorded = record.shards.iter().chain(&record.files);
        let mut recorded: Vec<(&str, u64)> = recorded.map(|file| (file.name.as_str(), file.bytes)).collect();
        recorded.sort_unstable();
        let mut planned = self.plan.output_files();
        planned.retain(|file| file.name != PROVENANCE);
        planned.sort_unstable_by(|a, b| a.name.cmp(b.name));
        let is_like = |(recorded, planned): (&(&str, u64), &crate::plan::output_files::OutputFile<'_>)| {
            recorded.0 == planned.name && planned.bytes.is_none_or(|bytes| bytes == recorded.1)
        };
        recorded.len() == planned.len() && recorded.iter().zip(&planned).all(is_like)
    }
}

/// Files being hashed, with progress.
struct Hashing<'h> {
    cancel: &'h Cancel,
    tick: &'h mut dyn FnMut(&Snapshot),
    buf: Vec<u8>,
    now: Snapshot,
    last: Instant,
}

impl<'h> Hashing<'h> {
    fn of(files: &[&ShardDone], wanted: &'h Wanted<'_>, tick: &'h mut dyn FnMut(&Snapshot)) -> Hashing<'h> {
        let output: u64 = files.iter().map(|file| file.bytes).sum();
        let copied: u64 = wanted.plan.copied.iter().map(|file| file.bytes).sum();
        let now = Snapshot {
            total_bytes: output + copied,
            read_bytes: 0,
            written_bytes: 0,
            shards: files.len() + wanted.plan.copied.len(),
            shard: 0,
            held_bytes: 0,
        };
        tick(&now);
        Hashing { cancel: wanted.cancel, tick, buf: vec![0; STEP], now, last: Instant::now() }
    }

    /// The hash of a file of the output; none if it is not there or of another length.
    fn output(&mut self, output: &Location, file: &ShardDone) -> Result<Option<String>> {
        let is_there = output.stat(&file.name)?.is_some_and(|stat| stat.bytes == file.bytes);
        if !is_there {
            self.now.shard += 1;
            return Ok(None);
        }
        let source = output.open(&file.name)?;
        Ok(Some(self.of_source(source.as_ref())?))
    }

    fn of_source(&mut self, source: &dyn Source) -> Result<String> {
        let mut hasher = blake3::Hasher::new();
        let mut at = 0;
        while at < source.len() {
            self.cancel.check()?;
            let step = (source.len() - at).min(STEP as u64) as usize;
            source.read_at(&mut self.buf[..step], at)?;
            hasher.update(&self.buf[..step]);
            at += step as u64;
            source.done_before(at);
            self.now.read_bytes += step as u64;
            self.now.written_bytes += step as u64;
            if self.last.elapsed() >= TICK {
                self.last = Instant::now();
                (self.tick)(&self.now);
            }
        }
        self.now.shard = (self.now.shard + 1).min(self.now.shards - 1);
        Ok(hasher.finalize().to_hex().to_string())
    }
}
