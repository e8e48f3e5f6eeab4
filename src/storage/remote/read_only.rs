//! What a store answers that is only read.

use std::path::PathBuf;

use crate::error::Error;
use crate::error::storage::StorageError;

/// The error of a change to `path`, where nothing can be changed.
pub(crate) fn read_only(path: PathBuf) -> Error {
    Error::new(StorageError::Write { path }).because("it is only read")
}
