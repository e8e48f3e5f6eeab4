//! [`Fetch`]: a file of which ranges are fetched.

use std::path::Path;

use crate::error::Result;
use crate::storage::io::read_ahead::Readable;
use crate::storage::times::FileTimes;

/// A file of which ranges are fetched. [`Readable::read_some`] asks once and may fail or give less, as what it did not give is
/// asked for again by whoever needs it.
pub(crate) trait Fetch: Readable {
    /// Its length in bytes.
    fn len(&self) -> u64;

    /// Fills `buf` from `offset` on, with as many requests as that takes; the range lies in the file.
    ///
    /// # Errors
    /// [`StorageError::Read`](crate::error::storage::StorageError::Read) once a bounded number of requests has failed, or one
    /// was answered with something else; [`ErrorKind::Stopped`](crate::error::kind::ErrorKind::Stopped).
    fn fetch(&self, buf: &mut [u8], offset: u64) -> Result<()>;

    /// What messages call it.
    fn path(&self) -> &Path;

    /// What the server calls its bytes, where no other bytes have that name.
    fn content_id(&self) -> Option<&str>;

    /// As [`Source::check_unchanged`](crate::storage::source::Source::check_unchanged).
    fn check_unchanged(&self) -> Result<()> {
        Ok(())
    }

    /// As [`Source::times`](crate::storage::source::Source::times).
    fn times(&self) -> Option<FileTimes> {
        None
    }
}
