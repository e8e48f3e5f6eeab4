//! Reading a file of a directory: positioned reads that are whole or an error, and cache pages dropped behind.
//!
//! What a process reads stays in the page cache and is charged to its cgroup. [`Behind`] gives it back as the reader moves
//! on: every few MiB, because each call takes locks, and each time again over some MiB before, because a folio that lay
//! half in the last range stayed. A closed source is swept once more, over what was read of it and no further: looking at
//! the header of a file does not push all of it out of a cache that others may use.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::error::kind::ErrorKind;
use crate::error::storage::StorageError;
use crate::error::{Error, Result};
use crate::storage::source::Source;
use crate::storage::{os, rules};

/// Bytes that are done before it is worth a call to drop them.
const STEP: u64 = 4 << 20;

/// Bytes before a range that are dropped again, and that a sweep reaches past the last byte read: the largest folio of
/// common systems is 2 MiB, and read-ahead is rarely more than this.
pub(crate) const OVERLAP: u64 = 4 << 20;

/// A regular file, open for reading.
pub(crate) struct FileSource {
    file: File,
    /// Where it was found, for messages.
    path: PathBuf,
    /// Bytes when it was opened; a file that grows is read no further.
    len: u64,
    /// What of it the cache has let go; `None` to leave the cache alone.
    behind: Option<Behind>,
}

impl FileSource {
    /// Opens the regular file at `path`, following symlinks.
    ///
    /// A pipe or a device is refused without being opened, and if it takes the file's place in between, without blocking.
    pub(crate) fn open(path: PathBuf, keeping_cache: bool) -> Result<FileSource> {
        let opened = regular(fs::metadata(&path)).and_then(|_| {
            let file = fs::OpenOptions::new().read(true).custom_flags(nonblocking()).open(&path)?;
            let len = regular(file.metadata())?;
            Ok((file, len))
        });
        match opened {
            Ok((file, len)) => {
                let behind = (!keeping_cache).then(Behind::default);
                Ok(FileSource { file, path, len, behind })
            }
            Err(cause) => Err(cannot_open(path, cause)),
        }
    }

    /// The error of a file that ended before its length: it was cut after it was opened.
    fn cut(&self, end: u64) -> Error {
        let found = self.file.metadata().map_or(end, |metadata| metadata.len().min(end));
        StorageError::Truncated { path: self.path.clone(), expected: self.len, found }.into()
    }
}

impl Source for FileSource {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let end = offset.saturating_add(buf.len() as u64);
        if end > self.len {
            return Err(rules::past_the_end(&self.path, end, self.len));
        }
        if let Some(behind) = &self.behind {
            behind.reach.fetch_max(end, Relaxed);
        }
        let mut done = 0;
        while done < buf.len() {
            let here = offset + done as u64;
            match self.file.read_at(&mut buf[done..], here) {
                Ok(0) => return Err(self.cut(here)),
                Ok(bytes) => done += bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    let kind = StorageError::Read { path: self.path.clone(), offset: here };
                    return Err(Error::new(kind).because(error));
                }
            }
        }
        Ok(())
    }

    fn done_before(&self, offset: u64) {
        if let Some(behind) = &self.behind {
            behind.advance(&self.file, offset.min(self.len), self.len);
        }
    }
}

impl Drop for FileSource {
    fn drop(&mut self) {
        if let Some(behind) = &self.behind {
            behind.sweep(&self.file, self.len);
        }
    }
}

/// How far the cache was told to let go, and how far it was filled.
#[derive(Default)]
struct Behind {
    /// Bytes before this were dropped. Whoever moves it makes the call, so no lock is needed.
    mark: AtomicU64,
    /// The end of the furthest read.
    reach: AtomicU64,
}

impl Behind {
    /// Drops the pages before `offset` if they are enough, or the last of a file of `len` bytes.
    fn advance(&self, file: &File, offset: u64, len: u64) {
        let mark = self.mark.load(Relaxed);
        let is_due = offset >= mark.saturating_add(STEP) || (offset == len && mark < len);
        if is_due && self.mark.compare_exchange(mark, offset, Relaxed, Relaxed).is_ok() {
            os::drop_cache(file, mark.saturating_sub(OVERLAP), Some(offset));
        }
    }

    /// Drops everything that reading a file of `len` bytes can have brought into the cache.
    fn sweep(&self, file: &File, len: u64) {
        let reach = self.reach.load(Relaxed);
        if reach > 0 {
            let end = reach.saturating_add(OVERLAP);
            os::drop_cache(file, 0, (end < len).then_some(end));
        }
    }
}

/// The length of what `metadata` describes, if it is a regular file.
fn regular(metadata: io::Result<fs::Metadata>) -> io::Result<u64> {
    let metadata = metadata?;
    if metadata.is_file() {
        return Ok(metadata.len());
    }
    let what = if metadata.is_dir() { "it is a directory" } else { "it is a pipe, a socket or a device" };
    Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{what}, not a file")))
}

fn nonblocking() -> i32 {
    rustix::fs::OFlags::NONBLOCK.bits() as i32
}

fn cannot_open(path: PathBuf, cause: io::Error) -> Error {
    use io::ErrorKind::{NotADirectory, NotFound};
    if matches!(cause.kind(), NotFound | NotADirectory) {
        rules::missing("file", &path)
    } else {
        Error::new(ErrorKind::Storage(StorageError::Read { path, offset: 0 }))
    }
    .because(cause)
}
