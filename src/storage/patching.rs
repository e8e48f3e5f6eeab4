//! Changing a file of a directory where it stands.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use crate::error::{Error, Result};
use crate::storage::at_byte::at_byte;
use crate::storage::rules;
use crate::storage::sink::Patch;

/// A regular file, open for writing anywhere.
pub(crate) struct FilePatch {
    file: File,
    /// Where it was found, for messages.
    path: PathBuf,
}

impl FilePatch {
    /// Opens the file at `path`, which is there.
    pub(crate) fn open(path: PathBuf) -> Result<FilePatch> {
        match fs::OpenOptions::new().write(true).open(&path) {
            Ok(file) => Ok(FilePatch { file, path }),
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
                Err(rules::missing("file", &path).because(cause))
            }
            Err(cause) => Err(rules::cannot_write(&path, cause)),
        }
    }

    fn cannot_write(&self, cause: io::Error) -> Error {
        rules::cannot_write(&self.path, cause)
    }
}

impl Patch for FilePatch {
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> Result<()> {
        let written = self.file.write_all_at(bytes, offset);
        written.map_err(|cause| self.cannot_write(at_byte(cause, offset)))
    }

    fn sync(&mut self) -> Result<()> {
        self.file.sync_all().map_err(|cause| self.cannot_write(cause))
    }
}
