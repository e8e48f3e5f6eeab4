//! A file that lines are appended to as things happen: no product, so that what cannot be written is let go.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use crate::error::storage::StorageError;
use crate::error::{Error, Result};

/// A file that lines are appended to.
pub(crate) struct LogFile(File);

impl LogFile {
    /// Opens the file, which may be there already: what it holds stays.
    ///
    /// # Errors
    /// [`StorageError::Write`].
    pub(crate) fn open(path: &Path) -> Result<LogFile> {
        let file = File::options().create(true).append(true).open(path);
        file.map(LogFile)
            .map_err(|cause| Error::new(StorageError::Write { path: path.to_owned() }).because(cause))
    }

    /// Appends text in one call, so that two processes do not mix their lines. A log that cannot be written stops nothing.
    pub(crate) fn append(&self, text: &str) {
        let _ = (&self.0).write_all(text.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        LogFile::open(&path).unwrap().append("one\n");
        let (first, second) = (LogFile::open(&path).unwrap(), LogFile::open(&path).unwrap());
        first.append("two\n");
        second.append("three\n");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one\ntwo\nthree\n");
        assert!(LogFile::open(dir.path()).is_err());
        LogFile::open(Path::new("/dev/full")).unwrap().append("a disk that is full");
    }
}
