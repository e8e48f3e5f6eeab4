//! Files being hashed, with progress: a finished output, or what an earlier run left of one.

use std::time::{Duration, Instant};

use crate::cancel::Cancel;
use crate::error::Result;
use crate::pipeline::progress::Snapshot;
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
        let now =
            Snapshot { total_bytes, read_bytes: 0, written_bytes: 0, shards: files, shard: 0, held_bytes: 0 };
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
