//! A file written once: under its own name and from its first byte to its last, as a mounted bucket wants it.
//!
//! Nothing is renamed, cut, reserved, locked or written out of order. What such a store makes of a file it says when it is
//! closed, so that an error of closing is one of the commit. Syncing is asked for, and not missed where there is no such call.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::storage::files::{look, make_dirs, sync_if_possible};
use crate::storage::interrupted::uninterrupted;
use crate::storage::rules::Length;
use crate::storage::sink::Sink;
use crate::storage::{os, rules};

/// A file that is written once.
pub(crate) struct OnceSink {
    /// None once it is closed.
    file: Option<File>,
    target: PathBuf,
    length: Length,
    is_whole: bool,
}

impl OnceSink {
    /// Begins the file at `target`, which must not be there.
    pub(crate) fn begin(target: PathBuf, len: u64) -> Result<OnceSink> {
        let above = target.parent().unwrap_or(Path::new(""));
        let made =
            make_dirs(above).and_then(|()| fs::OpenOptions::new().write(true).create_new(true).open(&target));
        match made {
            Ok(file) => Ok(OnceSink { file: Some(file), target, length: Length::new(len), is_whole: false }),
            Err(cause) => Err(rules::cannot_write(&target, cause)),
        }
    }

    fn cannot_write(&self, cause: io::Error) -> Error {
        rules::no_room(&self.target, self.length.missing(), || 0, cause)
    }

    /// Hands all of it to the store, and sees that it is there.
    fn close(&mut self) -> io::Result<()> {
        self.length.check_whole()?;
        let Some(file) = self.file.take() else { return Err(io::ErrorKind::NotFound.into()) };
        sync_if_possible(&file)?;
        os::close(file)?;
        self.length.check_found(look(&self.target)?.len())
    }
}

impl Sink for OnceSink {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let file = &mut self.file;
        let written = self.length.extend(bytes.len() as u64, |_| match file {
            Some(file) => file.write_all(bytes),
            None => Err(io::ErrorKind::NotFound.into()),
        });
        written.map_err(|cause| self.cannot_write(cause))
    }

    fn commit(mut self: Box<Self>) -> Result<()> {
        self.close().map_err(|cause| self.cannot_write(cause))?;
        self.is_whole = true;
        Ok(())
    }

    fn abort(self: Box<Self>) {}
}

impl Drop for OnceSink {
    fn drop(&mut self) {
        if !self.is_whole {
            // It is closed first: some stores remove no file that is open. Nobody is left to tell.
            drop(self.file.take());
            let _ = uninterrupted(|| fs::remove_file(&self.target));
        }
    }
}
