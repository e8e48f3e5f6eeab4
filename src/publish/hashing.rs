//! Files being hashed, with progress: a finished output, or what an earlier run left of one.

use std::time::{Duration, Instant};

use crate::cancel::Cancel;
use crate::error::Result;
use crate::pipeline::file_hash::{FileHash, SectionSum, hash_of};
use crate::pipeline::milestone::ShardDone;
use crate::pipeline::progress::Snapshot;
use crate::pipeline::sections::section_lens;
use crate::plan::out_tensor::OutShard;
use crate::storage::source::Source;

/// Bytes read at a time.
const STEP: usize = 1 << 20;
/// How often progress is reported.
const TICK: Duration = Duration::from_millis(100);

/// Hashes one file after the other.
pub(crate) struct FileHashing<'h> {
    cancel: &'h Cancel,
    tick: &'h mut dyn FnMut(&Snapshot),
    buf: Vec<u8>,
    now: Snapshot,
    last: Instant,
}

impl<'h> FileHashing<'h> {
    /// For so many files of so many bytes in all. `tick` is called now, and then about ten times a second.
    pub(crate) fn new(
        files: usize,
        total_bytes: u64,
        cancel: &'h Cancel,
        tick: &'h mut dyn FnMut(&Snapshot),
    ) -> FileHashing<'h> {
        let now = Snapshot {
            total_bytes,
            read_bytes: 0,
            written_bytes: 0,
            shared_bytes: 0,
            shards: files,
            shard: 0,
            held_bytes: 0,
        };
        tick(&now);
        FileHashing { cancel, tick, buf: vec![0; STEP], now, last: Instant::now() }
    }

    /// BLAKE3 of all of a file, in hex.
    ///
    /// # Errors
    /// As [`Source::read_at`]; [`ErrorKind::Stopped`](crate::error::kind::ErrorKind::Stopped).
    pub(crate) fn of_source(&mut self, source: &dyn Source) -> Result<String> {
        let mut hasher = blake3::Hasher::new();
        self.read(source, source.len(), &mut |bytes| {
            hasher.update(bytes);
        })?;
        Ok(hasher.finalize().to_hex().to_string())
    }

    /// The hash of a file in hex, and those of its sections if it was recorded with some.
    ///
    /// # Errors
    /// As [`Source::read_at`]; [`ErrorKind::Stopped`](crate::error::kind::ErrorKind::Stopped).
    pub(crate) fn of_file(
        &mut self,
        source: &dyn Source,
        file: &ShardDone,
    ) -> Result<(String, Vec<SectionSum>)> {
        // Sections that are not all of it say nothing of the rest.
        if file.sections.is_empty() || file.section_bytes() != Some(source.len()) {
            return Ok((self.of_source(source)?, Vec::new()));
        }
        let mut hash = FileHash::new(file.sections.iter().map(|section| section.bytes).collect());
        self.read(source, source.len(), &mut |bytes| hash.update(bytes))?;
        let sections = hash.finish();
        Ok((hash_of(&sections), sections))
    }

    /// The hashes of a file with the sections of `shard`.
    ///
    /// # Errors
    /// As [`Source::read_at`]; [`ErrorKind::Stopped`](crate::error::kind::ErrorKind::Stopped).
    pub(crate) fn of_shard(&mut self, source: &dyn Source, shard: &OutShard) -> Result<ShardDone> {
        let mut hash = FileHash::new(section_lens(shard));
        self.read(source, source.len(), &mut |bytes| hash.update(bytes))?;
        let sections = hash.finish();
        let (name, bytes, hash) = (shard.name.clone(), source.len(), hash_of(&sections));
        Ok(ShardDone { name, bytes, hash, sha256: None, sections })
    }

    /// Hands on the first `len` bytes of a file.
    ///
    /// # Errors
    /// As [`Source::read_at`]; [`ErrorKind::Stopped`](crate::error::kind::ErrorKind::Stopped).
    pub(crate) fn read(&mut self, source: &dyn Source, len: u64, each: &mut dyn FnMut(&[u8])) -> Result<()> {
        let mut at = 0;
        while at < len {
            self.cancel.check()?;
            let step = (len - at).min(STEP as u64) as usize;
            source.read_at(&mut self.buf[..step], at)?;
            each(&self.buf[..step]);
            at += step as u64;
            source.done_before(at);
            self.now.read_bytes += step as u64;
            self.now.written_bytes += step as u64;
            if self.last.elapsed() >= TICK {
                self.last = Instant::now();
                (self.tick)(&self.now);
            }
        }
        self.pass();
        Ok(())
    }

    /// Passes over a file that need not be read.
    pub(crate) fn pass(&mut self) {
        self.now.shard = (self.now.shard + 1).min(self.now.shards.saturating_sub(1));
    }
}
