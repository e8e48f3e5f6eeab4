//! A test instrument: a store that passes everything on to another and fails where it is told to.
//!
//! Operations are counted over the whole store, from 1. A fault test runs once without failures, asks how often each
//! operation was done, and then runs again for every number up to that, each time failing there.
//!
//! ```
//! use shardfold::Memory;
//! use shardfold::testing::{Failure, Faulty, Operation, write_small};
//!
//! let store = Faulty::new(Memory::new()).failing(Operation::Commit, 2, Failure::Kind(std::io::ErrorKind::StorageFull));
//! assert!(write_small(&store, "first", b"bytes").is_ok());
//! assert!(write_small(&store, "second", b"bytes").is_err());
//! assert_eq!(store.inner().names(), ["first"]);
//! assert_eq!(store.count(Operation::Write), 2);
//! ```

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use crate::error::kind::ErrorKind;
use crate::error::{Error, Result};
use crate::storage::{Sink, Source, Store, rules};

/// What a store does, as far as it can be made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// [`Store::source`].
    Open,
    /// [`Source::read_at`].
    Read,
    /// [`Store::sink`].
    Begin,
    /// [`Sink::write`].
    Write,
    /// [`Sink::commit`].
    Commit,
}

/// How it fails.
#[derive(Clone, Copy, Debug)]
pub enum Failure {
    /// With an error of this kind.
    Kind(io::ErrorKind),
    /// With an error of this number of the operating system.
    Errno(i32),
    /// Half-way: a read finds that the file ends in the middle of what it wants, a write stops in the middle. The other
    /// operations fail whole.
    Short,
}

impl Failure {
    fn cause(self) -> io::Error {
        match self {
            Failure::Kind(kind) => kind.into(),
            Failure::Errno(errno) => io::Error::from_raw_os_error(errno),
            Failure::Short => io::ErrorKind::WriteZero.into(),
        }
    }
}

/// A store that fails on demand.
#[derive(Debug)]
pub struct Faulty<S> {
    inner: S,
    script: Arc<Script>,
}

impl<S: Store> Faulty<S> {
    /// `inner`, without failures yet.
    pub fn new(inner: S) -> Faulty<S> {
        Faulty { inner, script: Arc::default() }
    }

    /// Adds a failure of the `nth` such operation, counted from 1. Operations after it work again; a sink that failed is
    /// lost all the same.
    ///
    /// # Panics
    /// If a source or a sink of this store is still alive.
    #[must_use]
    pub fn failing(mut self, operation: Operation, nth: u64, failure: Failure) -> Faulty<S> {
        let script = Arc::get_mut(&mut self.script).expect("failures are set before the store is used");
        script.failures.push((operation, nth, failure));
        self
    }

    /// How often `operation` was begun, failures included.
    pub fn count(&self, operation: Operation) -> u64 {
        self.script.counts[operation as usize].load(SeqCst)
    }

    /// The store behind it.
    pub fn inner(&self) -> &S {
        &self.inner
    }
}

impl<S: Store> Store for Faulty<S> {
    fn source(&self, name: &str) -> Result<Box<dyn Source>> {
        if let Some(failure) = self.script.next(Operation::Open) {
            return Err(cannot_read(Path::new(name), 0, failure));
        }
        let inner = self.inner.source(name)?;
        Ok(Box::new(FaultySource { inner, path: name.into(), script: self.script.clone() }))
    }

    fn sink(&self, name: &str, len: u64) -> Result<Box<dyn Sink>> {
        if let Some(failure) = self.script.next(Operation::Begin) {
            return Err(cannot_write(Path::new(name), failure));
        }
        let inner = self.inner.sink(name, len)?;
        Ok(Box::new(FaultySink { inner, path: name.into(), script: self.script.clone(), is_lost: false }))
    }
}

/// When to fail, and what was done so far.
#[derive(Debug, Default)]
struct Script {
    failures: Vec<(Operation, u64, Failure)>,
    /// By operation.
    counts: [AtomicU64; 5],
}

impl Script {
    /// Counts one operation, and says how it fails if it does.
    fn next(&self, operation: Operation) -> Option<Failure> {
        let now = self.counts[operation as usize].fetch_add(1, SeqCst) + 1;
        let at = self.failures.iter().find(|(what, nth, _)| *what == operation && *nth == now);
        at.map(|(_, _, failure)| *failure)
    }
}

struct FaultySource {
    inner: Box<dyn Source>,
    path: PathBuf,
    script: Arc<Script>,
}

impl Source for FaultySource {
    fn len(&self) -> u64 {
        self.inner.len()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        match self.script.next(Operation::Read) {
            None => self.inner.read_at(buf, offset),
            Some(Failure::Short) => {
                let half = buf.len() / 2;
                self.inner.read_at(&mut buf[..half], offset)?;
                let found = offset + half as u64;
                Err(ErrorKind::Truncated { path: self.path.clone(), expected: self.len(), found }.into())
            }
            Some(failure) => Err(cannot_read(&self.path, offset, failure)),
        }
    }

    fn done_before(&self, offset: u64) {
        self.inner.done_before(offset);
    }
}

struct FaultySink {
    inner: Box<dyn Sink>,
    path: PathBuf,
    script: Arc<Script>,
    /// Whether a write failed here, of which the inner sink knows nothing.
    is_lost: bool,
}

impl Sink for FaultySink {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let failure = self.script.next(Operation::Write);
        if self.is_lost {
            return Err(cannot_write(&self.path, Failure::Kind(io::ErrorKind::Other)));
        }
        let Some(failure) = failure else { return self.inner.write(bytes) };
        self.is_lost = true;
        if matches!(failure, Failure::Short) {
            self.inner.write(&bytes[..bytes.len() / 2])?;
        }
        Err(cannot_write(&self.path, failure))
    }

    fn commit(self: Box<Self>) -> Result<()> {
        let failure = self.script.next(Operation::Commit);
        let failure = if self.is_lost { Some(Failure::Kind(io::ErrorKind::Other)) } else { failure };
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

fn cannot_read(path: &Path, offset: u64, failure: Failure) -> Error {
    let cause = failure.cause();
    match cause.kind() {
        io::ErrorKind::NotFound => crate::storage::reading::missing("file", path).because(cause),
        _ => Error::new(ErrorKind::Read { path: path.to_path_buf(), offset }).because(cause),
    }
}

fn cannot_write(path: &Path, failure: Failure) -> Error {
    rules::cannot_write(path, 0, || 0, failure.cause())
}
