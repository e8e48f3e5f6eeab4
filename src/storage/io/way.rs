//! [`IoWay`]: one way of moving bytes between files and memory.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// One way of moving bytes between files and memory.
pub(crate) trait IoWay: Sync {
    /// What the user calls it.
    fn name(&self) -> &'static str;

    /// What reads the files of a store.
    fn reader(&self, windows: Windows, refusal: &Refusal) -> Arc<dyn FileReader>;

    /// The same for a store whose files are only read in order, where that is faster; its window is memory of the process.
    fn in_order(&self) -> Option<&'static dyn IoWay> {
        None
    }

    /// What writes one file from the start of `span`, before which its bytes are there, to its end.
    fn writer(
        &self,
        file: &Arc<File>,
        span: Range<u64>,
        windows: Windows,
        refusal: &Refusal,
    ) -> Box<dyn FileWriter>;
}

/// Reads the open files of one store.
pub(crate) trait FileReader: Send + Sync {
    /// Reads some of the bytes from `offset` on; none at the end of the file only.
    ///
    /// # Errors
    /// What the system says.
    fn read(&self, file: &Arc<File>, buf: &mut [u8], offset: u64) -> io::Result<usize>;
}

/// Writes one file in order up to its last byte.
pub(crate) trait FileWriter: Send {
    /// Adds bytes behind those that it has. An error may be that of an earlier write.
    ///
    /// # Errors
    /// What the system says; then the file is lost.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Leaves out so many bytes, which the file has already; what it has so far and they are whole blocks.
    ///
    /// # Errors
    /// As [`FileWriter::write`].
    fn skip(&mut self, bytes: u64) -> io::Result<()>;

    /// Hands everything to the system. Nothing lasts yet.
    ///
    /// # Errors
    /// As [`FileWriter::write`].
    fn finish(&mut self) -> io::Result<()>;

    /// Lets the cache go of a file that is synced.
    fn forget(&mut self);
}

/// How much may be on its way, in bytes, and whether the cache may keep what passed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Windows {
    /// Read before it is asked for.
    pub(crate) read: u64,
    /// A third to a half of what is written and not on disk yet.
    pub(crate) write: u64,
    /// Whether pages stay in the cache.
    pub(crate) keeping_cache: bool,
}

/// Whether a way was refused somewhere in a store. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Refusal(Arc<AtomicBool>);

impl Refusal {
    /// Says so.
    pub(crate) fn set(&self) {
        self.0.store(true, Relaxed);
    }

    /// Whether it was said.
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Relaxed)
    }
}
