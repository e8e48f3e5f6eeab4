//! Reading a file of a directory: positioned reads that are whole or an error.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use crate::error::storage::StorageError;
use crate::error::{Error, Result};
use crate::storage::behind::Behind;
use crate::storage::interrupted::uninterrupted;
use crate::storage::io::store_io::StoreIo;
use crate::storage::open_files::{OpenFile, OpenFiles};
use crate::storage::rules;
use crate::storage::shown::shown;
use crate::storage::source::Source;
use crate::storage::times::FileTimes;

/// A regular file, to be read.
pub(crate) struct FileSource {
    open: Arc<OpenFile>,
    /// The files of its store.
    files: Arc<OpenFiles>,
    /// How they are read.
    io: Arc<StoreIo>,
}

impl FileSource {
    /// Opens the regular file at `path`, one of `files`.
    pub(crate) fn open(
        path: PathBuf,
        files: &Arc<OpenFiles>,
        io: &Arc<StoreIo>,
        keeping_cache: bool,
    ) -> Result<FileSource> {
        let behind = (!keeping_cache).then(Behind::default);
        Ok(FileSource { open: files.open(path, behind)?, files: files.clone(), io: io.clone() })
    }

    /// The error of a file that ended before its length: it was cut after it was opened.
    fn cut(&self, file: &File, end: u64) -> Error {
        let found = uninterrupted(|| file.metadata()).map_or(end, |metadata| metadata.len().min(end));
        StorageError::Truncated { path: shown(&self.open.path), expected: self.len(), found }.into()
    }
}

impl Source for FileSource {
    fn len(&self) -> u64 {
        self.open.len()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let end = offset.saturating_add(buf.len() as u64);
        if end > self.len() {
            return Err(rules::past_the_end(&self.open.path, end, self.len()));
        }
        let file = self.files.file(&self.open)?;
        if let Some(behind) = &self.open.behind {
            behind.reach.fetch_max(end, Relaxed);
        }
        let mut done = 0;
        while done < buf.len() {
            let here = offset + done as u64;
            match self.io.read(&file, &mut buf[done..], here) {
                Ok(0) => return Err(self.cut(&file, here)),
                Ok(bytes) => done += bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    let kind = StorageError::Read { path: shown(&self.open.path), offset: here };
                    return Err(Error::new(kind).because(error));
                }
            }
        }
        Ok(())
    }

    fn done_before(&self, offset: u64) {
        self.open.done_before(offset);
    }

    fn as_file(&self) -> Option<Arc<File>> {
        self.files.file(&self.open).ok()
    }

    fn check_unchanged(&self) -> Result<()> {
        self.open.check_unchanged()
    }

    fn times(&self) -> Option<FileTimes> {
        self.open.times()
    }

    fn access(&self) -> Option<u32> {
        Some(self.open.access())
    }
}
