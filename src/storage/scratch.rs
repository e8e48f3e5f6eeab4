//! A file for what does not fit memory: written anywhere, read anywhere, and gone with the process, however it ends.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::error::storage::StorageError;
use crate::error::{Error, Result};
use crate::storage::at_byte::at_byte;
use crate::storage::shown::shown;
use crate::storage::sink::Scratch;
use crate::storage::source::Source;
use crate::storage::temporary::Temporary;
use crate::storage::{os, rules};

/// Bytes written before they are made to leave the page cache, which a cgroup is charged for.
const WINDOW: u64 = 16 << 20;

/// An unnamed file of a known length.
pub(crate) struct ScratchFile {
    temporary: Temporary,
    len: u64,
    /// Bytes written since the cache was emptied.
    dirty: AtomicU64,
}

impl ScratchFile {
    /// Makes one of `len` bytes in `folder`. Its name is taken away at once where that can be, so that nothing is left behind.
    /// Its length comes with what is written: not every file system sets one.
    ///
    /// # Errors
    /// [`StorageError::Write`].
    pub(crate) fn new(folder: &Path, len: u64) -> Result<ScratchFile> {
        let made = Temporary::create(folder, Path::new("scratch"), OpenOptions::new().read(true));
        let mut temporary = made.map_err(|cause| {
            let path = folder.join("scratch");
            Error::new(StorageError::Write { path: shown(&path) }).because(cause)
        })?;
        temporary.take_name_away();
        let scratch = ScratchFile { temporary, len, dirty: AtomicU64::new(0) };
        // One that is not written out of order does not serve.
        scratch.try_end()?;
        Ok(scratch)
    }
}

impl ScratchFile {
    fn file(&self) -> &File {
        &self.temporary.file
    }

    /// Where it was made, for messages.
    fn path(&self) -> &Path {
        self.temporary.path()
    }

    /// Writes its last byte, before any other.
    fn try_end(&self) -> Result<()> {
        self.len.checked_sub(1).map_or(Ok(()), |last| self.write_at(&[0], last))
    }
}

impl Source for ScratchFile {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let end = offset.saturating_add(buf.len() as u64);
        if end > self.len {
            return Err(rules::past_the_end(self.path(), end, self.len));
        }
        let kind = || StorageError::Read { path: shown(self.path()), offset };
        self.file().read_exact_at(buf, offset).map_err(|cause| Error::new(kind()).because(cause))
    }

    fn done_before(&self, offset: u64) {
        os::drop_cache(self.file(), 0, Some(offset));
    }
}

impl Scratch for ScratchFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        let error = || Error::new(StorageError::Write { path: shown(self.path()) });
        let failed = |cause| error().because(at_byte(cause, offset));
        self.file().write_all_at(bytes, offset).map_err(failed)?;
        if self.dirty.fetch_add(bytes.len() as u64, Relaxed) + bytes.len() as u64 >= WINDOW {
            self.settle()?;
        }
        Ok(())
    }

    fn settle(&self) -> Result<()> {
        let failed = |cause| Error::new(StorageError::Write { path: shown(self.path()) }).because(cause);
        self.file().sync_data().map_err(failed)?;
        os::drop_cache(self.file(), 0, None);
        self.dirty.store(0, Relaxed);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_is_written_is_read_and_no_name_is_left() {
        let folder = tempfile::tempdir().expect("a folder");
        let scratch = ScratchFile::new(folder.path(), 10).expect("room");
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 0);
        scratch.write_at(b"cd", 8).and_then(|()| scratch.write_at(b"ab", 0)).expect("room");
        let mut found = [1; 10];
        scratch.read_at(&mut found, 0).expect("there");
        assert_eq!(&found, b"ab\0\0\0\0\0\0cd");
        assert!(scratch.read_at(&mut found, 1).is_err(), "past the end");
    }
}
