//! [`Source`]: a file that is open for reading at any offset.

use std::fs::File;
use std::sync::Arc;

use crate::error::Result;
use crate::storage::times::FileTimes;

/// Something with a length that can be read at any offset, from any thread.
pub trait Source: Send + Sync {
    /// Length in bytes, as it was when the source was opened.
    fn len(&self) -> u64;

    /// Whether there is nothing to read.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills `buf` from `offset`. A file that ends early is an error, never a short read.
    ///
    /// # Errors
    /// [`StorageError::Read`](crate::error::storage::StorageError::Read) with the path and the offset;
    /// [`StorageError::Truncated`](crate::error::storage::StorageError::Truncated) if the bytes wanted go past the end, or the file
    /// was cut after it was opened.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()>;

    /// Says that bytes before `offset` will not be read again, so that a cache may let them go. A hint only.
    fn done_before(&self, offset: u64);

    /// The open file of the file system that it is, if it is one, so that another file may share parts of it.
    fn as_file(&self) -> Option<Arc<File>> {
        None
    }

    /// Fails if what was read may not be what the file holds now: it was written, replaced or removed since it was opened. A
    /// store whose files never change once they are open has nothing to look at.
    ///
    /// # Errors
    /// [`StorageError::Changed`](crate::error::storage::StorageError::Changed).
    fn check_unchanged(&self) -> Result<()> {
        Ok(())
    }

    /// Who may do what with it, as the bits of a mode; `None` where that cannot be told.
    fn access(&self) -> Option<u32> {
        None
    }

    /// When the file was written and when it changed last, up to when it was opened; `None` where nobody can tell.
    fn times(&self) -> Option<FileTimes> {
        None
    }

    /// What the store calls the bytes of the file, where no other bytes have that name: two files of one name are the same, and one
    /// that has another name has other bytes, or may have. `None` where only reading tells.
    fn content_id(&self) -> Option<String> {
        None
    }
}
