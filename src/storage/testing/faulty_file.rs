//! The files of a store that fails where it is told to: each call asks the script first.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::storage::StorageError;
use crate::error::{Error, Result};
use crate::storage::at_byte::at_byte;
use crate::storage::rules;
use crate::storage::sink::{Patch, Scratch, Sink};
use crate::storage::source::Source;
use crate::storage::testing::script::{Failure, Operation, Script};
use crate::storage::times::FileTimes;

/// An open file of any kind.
pub(super) struct FaultyFile<F> {
    pub(super) inner: F,
    pub(super) path: PathBuf,
    pub(super) script: Arc<Script>,
    /// Bytes that were written in order.
    pub(super) written: u64,
    /// Whether a write failed here, of which the inner file knows nothing.
    pub(super) is_lost: bool,
    /// Whether the rename that would show it is refused.
    pub(super) is_refused: bool,
}

impl<F> FaultyFile<F> {
    fn read_by(
        &self,
        buf: &mut [u8],
        offset: u64,
        len: u64,
        read: impl Fn(&mut [u8], u64) -> Result<()>,
    ) -> Result<()> {
        match self.script.next(Operation::Read) {
            None => read(buf, offset),
            Some(Failure::Short) => {
                let half = buf.len() / 2;
                read(&mut buf[..half], offset)?;
                let found = offset + half as u64;
                Err(StorageError::Truncated { path: self.path.clone(), expected: len, found }.into())
            }
            Some(failure) => Err(cannot_read(&self.path, offset, failure)),
        }
    }

    /// Counts a step of writing, and fails if it is to.
    fn writes(&self, operation: Operation) -> Result<()> {
        let failure = self.script.next(operation);
        failure.map_or(Ok(()), |failure| Err(cannot_write(&self.path, failure)))
    }
}

impl Source for FaultyFile<Box<dyn Source>> {
    fn len(&self) -> u64 {
        self.inner.len()
    }

    fn check_unchanged(&self) -> Result<()> {
        self.inner.check_unchanged()
    }

    fn times(&self) -> Option<FileTimes> {
        self.inner.times()
    }

    fn content_id(&self) -> Option<String> {
        self.inner.content_id()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        self.read_by(buf, offset, self.inner.len(), |buf, offset| self.inner.read_at(buf, offset))
    }

    fn done_before(&self, offset: u64) {
        self.inner.done_before(offset);
    }
}

impl Sink for FaultyFile<Box<dyn Sink>> {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let failure = self.script.next(Operation::Write);
        if self.is_lost {
            return Err(cannot_write(&self.path, Failure::Kind(io::ErrorKind::Other)));
        }
        let Some(failure) = failure else {
            self.written += bytes.len() as u64;
            return self.inner.write(bytes);
        };
        self.is_lost = true;
        if matches!(failure, Failure::Short) {
            self.inner.write(&bytes[..bytes.len() / 2])?;
        }
        Err(cannot_write_at(&self.path, self.written, failure))
    }

    fn keep(&mut self) -> Result<bool> {
        self.writes(Operation::Sync)?;
        self.inner.keep()
    }

    fn skip(&mut self, bytes: u64) -> Result<()> {
        self.inner.skip(bytes)
    }

    fn commit(self: Box<Self>) -> Result<()> {
        let failure = self.script.next(Operation::Commit);
        let failure = if self.is_lost { Some(Failure::Kind(io::ErrorKind::Other)) } else { failure };
        let failure = if self.is_refused { Some(Failure::Kind(io::ErrorKind::Unsupported)) } else { failure };
        match failure {
            None => self.inner.commit(),
            Some(failure) => {
                self.inner.abort();
                Err(cannot_write(&self.path, failure))
            }
        }
    }

    fn abort(self: Box<Self>) {
        self.inner.abort();
    }
}

impl Patch for FaultyFile<Box<dyn Patch>> {
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> Result<()> {
        match self.script.next(Operation::Write) {
            None => self.inner.write_at(bytes, offset),
            Some(failure) => {
                if matches!(failure, Failure::Short) {
                    self.inner.write_at(&bytes[..bytes.len() / 2], offset)?;
                }
                Err(cannot_write_at(&self.path, offset, failure))
            }
        }
    }

    fn sync(&mut self) -> Result<()> {
        self.writes(Operation::Sync)?;
        self.inner.sync()
    }
}

impl Source for FaultyFile<Box<dyn Scratch>> {
    fn len(&self) -> u64 {
        self.inner.len()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        self.read_by(buf, offset, self.inner.len(), |buf, offset| self.inner.read_at(buf, offset))
    }

    fn done_before(&self, offset: u64) {
        self.inner.done_before(offset);
    }
}

impl Scratch for FaultyFile<Box<dyn Scratch>> {
    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        let failure = self.script.next(Operation::Write);
        failure.map_or(Ok(()), |failure| Err(cannot_write_at(&self.path, offset, failure)))?;
        self.inner.write_at(bytes, offset)
    }

    fn settle(&self) -> Result<()> {
        self.writes(Operation::Sync)?;
        self.inner.settle()
    }
}

pub(super) fn cannot_read(path: &Path, offset: u64, failure: Failure) -> Error {
    let cause = failure.cause();
    match cause.kind() {
        io::ErrorKind::NotFound => rules::missing("file", path).because(cause),
        _ => Error::new(StorageError::Read { path: path.to_path_buf(), offset }).because(cause),
    }
}

fn cannot_write_at(path: &Path, offset: u64, failure: Failure) -> Error {
    rules::cannot_write(path, at_byte(failure.cause(), offset))
}

pub(super) fn cannot_write(path: &Path, failure: Failure) -> Error {
    rules::cannot_write(path, failure.cause())
}
