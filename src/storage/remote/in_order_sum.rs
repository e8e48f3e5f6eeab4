//! [`InOrderSum`]: the SHA-256 of a file that is read from its first byte to its last, made of the bytes as they are read.
//!
//! What is read again, or ahead, is left out; a file that is read in another order is never hashed to its end, and so not checked.

use std::io::Write;
use std::sync::{Mutex, PoisonError};

use crate::error::storage::StorageError;
use crate::error::{Error, Result};
use crate::storage::checksummed::Sha256Writer;
use crate::storage::remote::fetch::Fetch;

/// How identities begin that are hashes of this kind.
const SHA256: &str = "sha256:";

/// The hash of the bytes up to a place that is reached in order.
pub(crate) struct InOrderSum {
    /// None once all of it was read.
    state: Mutex<Option<Sha256Writer>>,
}

impl InOrderSum {
    /// Of `file`, if what its server calls it is such a hash.
    pub(crate) fn of(file: &dyn Fetch) -> Option<InOrderSum> {
        let is_hash = file.content_id().is_some_and(|id| id.starts_with(SHA256));
        is_hash.then(|| InOrderSum { state: Mutex::new(Some(Sha256Writer::default())) })
    }

    /// Sees what was read of `file` from `offset` on.
    ///
    /// # Errors
    /// [`StorageError::Changed`] with the last byte of a file that has another hash.
    pub(crate) fn see(&self, file: &dyn Fetch, bytes: &[u8], offset: u64) -> Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(hash) = state.as_mut() else { return Ok(()) };
        let behind = hash.bytes().checked_sub(offset).and_then(|known| bytes.get(known as usize..));
        // A hash takes all bytes, always.
        drop(hash.write_all(behind.unwrap_or_default()));
        if hash.bytes() < file.len() {
            return Ok(());
        }
        let found = state.take().map(|hash| hash.finish().1).unwrap_or_default();
        let expected = file.content_id().and_then(|id| id.strip_prefix(SHA256)).unwrap_or_default();
        if found == expected {
            return Ok(());
        }
        let error = Error::new(StorageError::Changed { path: file.path().to_owned() });
        let cause = format!("the SHA-256 of what came is `{found}`, expected `{expected}`");
        Err(error.because(cause).hint(
            "run the same command again; if it comes again, a proxy or a mirror changes what it sends on",
        ))
    }
}
