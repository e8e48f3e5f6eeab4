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
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};

use crate::cancel::Cancel;
use crate::error::storage::StorageError;
use crate::error::{Error, Result};
use crate::storage::at_byte::at_byte;
use crate::storage::io::settings::IoSettings;
use crate::storage::rules;
use crate::storage::sink::{Patch, Scratch, Sink};
use crate::storage::source::Source;
use crate::storage::store::{DirRename, Entry, HeldDir, Lock, Stat, Store};
use crate::storage::times::FileTimes;

/// What a store does, as far as it can be made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// [`Store::open`].
    Open,
    /// [`Source::read_at`].
    Read,
    /// [`Store::stat`].
    Stat,
    /// [`Store::list`].
    List,
    /// [`Store::create`], [`Store::resume`], [`Store::patch`], [`Store::scratch`] and [`Store::lock`].
    Create,
    /// [`Sink::write`], [`Patch::write_at`] and [`Scratch::write_at`].
    Write,
    /// [`Sink::commit`].
    Commit,
    /// [`Store::rename`] and [`Store::rename_dir`].
    Rename,
    /// [`Store::remove`] and [`Store::remove_dir`].
    Remove,
    /// [`Store::sync`], [`Sink::keep`], [`Patch::sync`] and [`Scratch::settle`].
    Sync,
}

impl Operation {
    /// All of them.
    pub const ALL: [Operation; 10] = {
        use Operation::*;
        [Open, Read, Stat, List, Create, Write, Commit, Rename, Remove, Sync]
    };
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

/// A store that fails on demand. Clones count together.
#[derive(Clone, Debug)]
pub struct Faulty<S> {
    inner: S,
    script: Arc<Script>,
    refuses_locks: bool,
    refuses_renames: bool,
    refuses_dir_renames: bool,
}

impl<S: Store> Faulty<S> {
    /// `inner`, without failures yet.
    pub fn new(inner: S) -> Faulty<S> {
        Faulty {
            inner,
            script: Arc::default(),
            refuses_locks: false,
            refuses_renames: false,
            refuses_dir_renames: false,
        }
    }

    /// Hands out locks that hold nothing, as a network file system may.
    #[must_use]
    pub fn refusing_locks(self) -> Faulty<S> {
        Faulty { refuses_locks: true, ..self }
    }

    /// Renames neither files nor directories, as a mounted bucket.
    #[must_use]
    pub fn refusing_renames(self) -> Faulty<S> {
        Faulty { refuses_renames: true, ..self }
    }

    /// Renames no directories, as some stores and mount points that do not look like one.
    #[must_use]
    pub fn refusing_dir_renames(self) -> Faulty<S> {
        Faulty { refuses_dir_renames: true, ..self }
    }

    /// Ends the process, as a power cut would, when the `nth` operation begins that is none of looking or reading.
    ///
    /// # Panics
    /// If a source, a sink or a clone of this store is still alive.
    #[must_use]
    pub fn aborting_at(mut self, nth: u64) -> Faulty<S> {
        let script = Arc::get_mut(&mut self.script).expect("failures are set before the store is used");
        script.abort_at = Some(nth);
        self
    }

    /// Adds a failure of the `nth` such operation, counted from 1. Operations after it work again; a sink that failed is
    /// lost all the same.
    ///
    /// # Panics
    /// If a source, a sink or a clone of this store is still alive.
    #[must_use]
    pub fn failing(mut self, operation: Operation, nth: u64, failure: Failure) -> Faulty<S> {
        let script = Arc::get_mut(&mut self.script).expect("failures are set before the store is used");
        script.failures.get_mut().unwrap_or_else(PoisonError::into_inner).push((operation, nth, failure));
        self
    }

    /// Calls `cancel` off when the `nth` such operation begins, which works all the same.
    ///
    /// # Panics
    /// If a source, a sink or a clone of this store is still alive.
    #[must_use]
    pub fn cancelling(mut self, operation: Operation, nth: u64, cancel: &Cancel) -> Faulty<S> {
        let script = Arc::get_mut(&mut self.script).expect("failures are set before the store is used");
        script.cancel_at = Some((operation, nth, cancel.clone()));
        self
    }

    /// Counts from 1 again, and fails at that operation from now on, or nowhere.
    pub fn rearm(&self, failure: Option<(Operation, u64, Failure)>) {
        *self.script.failures.lock().unwrap_or_else(PoisonError::into_inner) = failure.into_iter().collect();
        self.script.counts.iter().for_each(|count| count.store(0, SeqCst));
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

impl<S: Store> Faulty<S> {
    /// Counts an operation that reads `name`, and fails if it is to.
    fn reads(&self, operation: Operation, name: &str) -> Result<()> {
        let failure = self.script.next(operation);
        failure.map_or(Ok(()), |failure| Err(cannot_read(&self.path_of(name), 0, failure)))
    }

    /// Counts an operation that writes `name`, and fails if it is to.
    fn writes(&self, operation: Operation, name: &str) -> Result<()> {
        let failure = self.script.next(operation);
        failure.map_or(Ok(()), |failure| Err(cannot_write(&self.path_of(name), failure)))
    }

    fn file<F>(&self, inner: F, name: &str) -> FaultyFile<F> {
        FaultyFile {
            inner,
            path: self.path_of(name),
            script: self.script.clone(),
            written: 0,
            is_lost: false,
            is_refused: false,
        }
    }

    /// A file that would be renamed at the end.
    fn renamed_file<F>(&self, inner: F, name: &str) -> FaultyFile<F> {
        FaultyFile { is_refused: self.refuses_renames, ..self.file(inner, name) }
    }

    /// The refusal of a rename.
    fn check_renames(&self, name: &str) -> Result<()> {
        let refused = Failure::Kind(io::ErrorKind::Unsupported);
        if self.refuses_renames { Err(cannot_write(&self.path_of(name), refused)) } else { Ok(()) }
    }
}

impl<S: Store> Store for Faulty<S> {
    fn open(&self, name: &str) -> Result<Box<dyn Source>> {
        self.reads(Operation::Open, name)?;
        Ok(Box::new(self.file(self.inner.open(name)?, name)))
    }

    fn create(&self, name: &str, len: u64) -> Result<Box<dyn Sink>> {
        self.writes(Operation::Create, name)?;
        Ok(Box::new(self.renamed_file(self.inner.create(name, len)?, name)))
    }

    fn resume(&self, name: &str, kept: u64, len: u64) -> Result<Box<dyn Sink>> {
        self.writes(Operation::Create, name)?;
        let file = self.renamed_file(self.inner.resume(name, kept, len)?, name);
        Ok(Box::new(FaultyFile { written: kept, ..file }))
    }

    fn write_once(&self, name: &str, len: u64) -> Result<Box<dyn Sink>> {
        self.writes(Operation::Create, name)?;
        Ok(Box::new(self.file(self.inner.write_once(name, len)?, name)))
    }

    fn is_own_dir(&self, dir: &str) -> Result<bool> {
        self.inner.is_own_dir(dir)
    }

    fn patch(&self, name: &str) -> Result<Box<dyn Patch>> {
        self.writes(Operation::Create, name)?;
        Ok(Box::new(self.file(self.inner.patch(name)?, name)))
    }

    fn stat(&self, dir: &str) -> Result<Option<Stat>> {
        self.reads(Operation::Stat, dir)?;
        self.inner.stat(dir)
    }

    fn list(&self, dir: &str) -> Result<Vec<Entry>> {
        self.reads(Operation::List, dir)?;
        self.inner.list(dir)
    }

    fn rename(&self, from: &str, to: &str) -> Result<()> {
        self.writes(Operation::Rename, to)?;
        self.check_renames(to)?;
        self.inner.rename(from, to)
    }

    fn rename_dir(&self, from: &str, to: &str) -> Result<DirRename> {
        self.writes(Operation::Rename, to)?;
        if self.refuses_renames || self.refuses_dir_renames {
            return Ok(DirRename::Unsupported);
        }
        self.inner.rename_dir(from, to)
    }

    fn remove(&self, name: &str) -> Result<()> {
        self.writes(Operation::Remove, name)?;
        self.inner.remove(name)
    }

    fn remove_dir(&self, dir: &str) -> Result<()> {
        self.writes(Operation::Remove, dir)?;
        self.inner.remove_dir(dir)
    }

    fn sync(&self, dir: &str) -> Result<()> {
        self.writes(Operation::Sync, dir)?;
        self.inner.sync(dir)
    }

    fn lock(&self, name: &str) -> Result<Lock> {
        self.writes(Operation::Create, name)?;
        if self.refuses_locks { Ok(Lock::default()) } else { self.inner.lock(name) }
    }

    fn scratch(&self, dir: &str, len: u64) -> Result<Box<dyn Scratch>> {
        self.writes(Operation::Create, dir)?;
        Ok(Box::new(self.file(self.inner.scratch(dir, len)?, dir)))
    }

    fn free_bytes(&self, dir: &str) -> Option<u64> {
        self.inner.free_bytes(dir)
    }

    fn hold(&self, dir: &str, like: &str) -> Result<Option<Box<dyn HeldDir>>> {
        // What is held would be of the store within, without its faults.
        let _ = (dir, like);
        Ok(None)
    }

    fn resolved(&self, name: &str) -> Option<PathBuf> {
        self.inner.resolved(name)
    }

    fn leads_inside(&self, link: &str, dir: &str) -> bool {
        self.inner.leads_inside(link, dir)
    }

    fn is_mount_point(&self, dir: &str) -> bool {
        self.inner.is_mount_point(dir)
    }

    fn is_in_memory(&self, dir: &str) -> bool {
        self.inner.is_in_memory(dir)
    }

    fn is_writable(&self, dir: &str) -> bool {
        self.inner.is_writable(dir)
    }

    fn use_io(&self, settings: IoSettings) {
        self.inner.use_io(settings);
    }

    fn refused_io(&self) -> Option<&'static str> {
        self.inner.refused_io()
    }

    fn path_of(&self, dir: &str) -> PathBuf {
        self.inner.path_of(dir)
    }
}

/// When to fail, and what was done so far.
#[derive(Debug, Default)]
struct Script {
    failures: Mutex<Vec<(Operation, u64, Failure)>>,
    /// What is cancelled, and when.
    cancel_at: Option<(Operation, u64, Cancel)>,
    /// By operation.
    counts: [AtomicU64; Operation::ALL.len()],
    /// At which of all that change something the process ends.
    abort_at: Option<u64>,
    changes: AtomicU64,
}

impl Script {
    /// Counts one operation, and says how it fails if it does.
    fn next(&self, operation: Operation) -> Option<Failure> {
        use Operation::{List, Open, Read, Stat};
        if !matches!(operation, Open | Read | Stat | List)
            && self.abort_at == Some(self.changes.fetch_add(1, SeqCst) + 1)
        {
            std::process::abort();
        }
        let now = self.counts[operation as usize].fetch_add(1, SeqCst) + 1;
        if let Some((_, _, cancel)) = self.cancel_at.as_ref().filter(|at| (at.0, at.1) == (operation, now)) {
            cancel.cancel();
        }
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let at = failures.iter().find(|(what, nth, _)| *what == operation && *nth == now);
        at.map(|(_, _, failure)| *failure)
    }
}

/// An open file of any kind.
struct FaultyFile<F> {
    inner: F,
    path: PathBuf,
    script: Arc<Script>,
    /// Bytes that were written in order.
    written: u64,
    /// Whether a write failed here, of which the inner file knows nothing.
    is_lost: bool,
    /// Whether the rename that would show it is refused.
    is_refused: bool,
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

fn cannot_read(path: &Path, offset: u64, failure: Failure) -> Error {
    let cause = failure.cause();
    match cause.kind() {
        io::ErrorKind::NotFound => rules::missing("file", path).because(cause),
        _ => Error::new(StorageError::Read { path: path.to_path_buf(), offset }).because(cause),
    }
}

fn cannot_write_at(path: &Path, offset: u64, failure: Failure) -> Error {
    rules::cannot_write(path, at_byte(failure.cause(), offset))
}

fn cannot_write(path: &Path, failure: Failure) -> Error {
    rules::cannot_write(path, failure.cause())
}
