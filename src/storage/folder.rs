//! A store over one folder of the file system.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::kind::ErrorKind;
use crate::error::{Error, Result};
use crate::storage::reading::{FileSource, missing};
use crate::storage::writing::FileSink;
use crate::storage::{Sink, Source, Store, rules};

/// The write window's step unless told otherwise, and the least it may be.
const WRITE_STEP: u64 = 8 << 20;
const LEAST_WRITE_STEP: u64 = 64 << 10;
const PAGE: u64 = 4096;

/// The files of one folder, sub-folders included.
///
/// Symlinks of the file system are followed, out of the folder too: a Hugging Face cache is made of them. A name itself
/// never leads out.
///
/// Reading drops cache pages behind itself, and writing keeps a window of about three steps of dirty pages, so that a
/// run's page cache stays small however large its files are.
#[derive(Clone, Debug)]
pub struct Folder {
    root: PathBuf,
    /// Bytes of one step of the write window: a multiple of the page size.
    write_step: u64,
    keeping_cache: bool,
}

impl Folder {
    /// The folder at `path`, which is made with the first file if it is not there.
    ///
    /// Whoever needs the folder's own name to last syncs the folder above it: `storage::files::sync_folder`.
    pub fn new(path: impl Into<PathBuf>) -> Folder {
        Folder { root: path.into(), write_step: WRITE_STEP, keeping_cache: false }
    }

    /// The folder at `path`, which is there.
    ///
    /// # Errors
    /// [`ErrorKind::Missing`] if it is not, [`ErrorKind::Read`] if it is no folder or cannot be looked at.
    pub fn open(path: impl Into<PathBuf>) -> Result<Folder> {
        let folder = Folder::new(path);
        let fail =
            |cause| Error::new(ErrorKind::Read { path: folder.root.clone(), offset: 0 }).because(cause);
        match fs::metadata(&folder.root) {
            Ok(metadata) if metadata.is_dir() => Ok(folder),
            Ok(_) => Err(fail(io::Error::new(io::ErrorKind::NotADirectory, "it is not a directory"))),
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
                Err(missing("directory", &folder.root).because(cause))
            }
            Err(cause) => Err(fail(cause)),
        }
    }

    /// Whether to leave read and written pages in the cache, for a machine where they will soon be wanted again. Off at
    /// first.
    #[must_use]
    pub fn keeping_cache(mut self, keep: bool) -> Folder {
        self.keeping_cache = keep;
        self
    }

    /// Sets the step of the write window, in bytes, rounded up to whole pages. About three steps are in the cache at a
    /// time. 8 MiB at first, 64 KiB at least.
    #[must_use]
    pub fn write_step(mut self, bytes: u64) -> Folder {
        self.write_step = bytes.clamp(LEAST_WRITE_STEP, 1 << 40).next_multiple_of(PAGE);
        self
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.root
    }
}

impl Store for Folder {
    fn source(&self, name: &str) -> Result<Box<dyn Source>> {
        let path = rules::place(&self.root, name)?;
        Ok(Box::new(FileSource::open(path, self.keeping_cache)?))
    }

    fn sink(&self, name: &str, len: u64) -> Result<Box<dyn Sink>> {
        let target = rules::place(&self.root, name)?;
        Ok(Box::new(FileSink::begin(&self.root, target, len, self.write_step, self.keeping_cache)?))
    }
}

#[cfg(test)]
#[path = "folder_tests.rs"]
mod tests;
