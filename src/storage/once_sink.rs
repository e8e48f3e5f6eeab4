//! A file written once: under its own name and from its first byte to its last, as a mounted bucket wants it.
//!
//! Nothing is renamed, cut, reserved, locked or written out of order. What such a store makes of a file it says when it is
//! closed, so that an error of closing is one of the commit. Syncing is asked for, and not missed where there is no such call.
//! What is dirty meanwhile is kept few by a window, as for other files: else closing many gigabytes could not be stopped.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::storage::files::{look, make_dirs, sync_if_possible};
use crate::storage::interrupted::uninterrupted;
use crate::storage::io::buffered::WindowedWriter;
use crate::storage::io::way::{FileWriter, Windows};
use crate::storage::rules::Length;
use crate::storage::sink::Sink;
use crate::storage::{os, rules};

/// A file that is written once.
pub(crate) struct OnceSink {
    /// None once it is closed.
    open: Option<OpenOnce>,
    target: PathBuf,
    length: Length,
    is_whole: bool,
}

/// A file that is being written once, and what writes it.
struct OpenOnce {
    file: Arc<File>,
    writer: Box<dyn FileWriter>,
}

impl OpenOnce {
    fn new(file: File, windows: Windows) -> OpenOnce {
        let file = Arc::new(file);
        // Where it is written is where it ends: nothing else is asked of the store.
        let write = |mut file: &File, bytes: &[u8], _at: u64| file.write_all(bytes);
        let writer = Box::new(WindowedWriter::new(&file, 0, windows, write));
        OpenOnce { file, writer }
    }

    /// Hands all of it to the store.
    fn close(self) -> io::Result<()> {
        let OpenOnce { file, mut writer } = self;
        writer.finish()?;
        sync_if_possible(&file)?;
        writer.forget();
        drop(writer);
        Arc::into_inner(file).map_or(Ok(()), os::close)
    }
}

impl OnceSink {
    /// Begins the file at `target`, which must not be there.
    pub(crate) fn begin(target: PathBuf, len: u64, windows: Windows) -> Result<OnceSink> {
        let above = target.parent().unwrap_or(Path::new(""));
        let made =
            make_dirs(above).and_then(|()| fs::OpenOptions::new().write(true).create_new(true).open(&target));
        match made {
            Ok(file) => {
                let open = Some(OpenOnce::new(file, windows));
                Ok(OnceSink { open, target, length: Length::new(len), is_whole: false })
            }
            Err(cause) => Err(rules::cannot_write(&target, cause)),
        }
    }

    fn cannot_write(&self, cause: io::Error) -> Error {
        rules::no_room(&self.target, self.length.missing(), || 0, cause)
    }

    /// Hands all of it to the store, and sees that it is there.
    fn close(&mut self) -> io::Result<()> {
        self.length.check_whole()?;
        let Some(open) = self.open.take() else { return Err(io::ErrorKind::NotFound.into()) };
        open.close()?;
        self.length.check_found(look(&self.target)?.len())
    }
}

impl Sink for OnceSink {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let open = &mut self.open;
        let written = self.length.extend(bytes.len() as u64, |_| match open {
            Some(open) => open.writer.write(bytes),
            None => Err(io::ErrorKind::NotFound.into()),
        });
        written.map_err(|cause| self.cannot_write(cause))
    }

    fn skip(&mut self, bytes: u64) -> Result<()> {
        Err(rules::cannot_leave_out(&self.target, bytes))
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
            drop(self.open.take());
            let _ = uninterrupted(|| fs::remove_file(&self.target));
        }
    }
}
