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
use std::path::PathBuf;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, PoisonError};

use crate::cancel::Cancel;
use crate::error::Result;
use crate::storage::io::settings::IoSettings;
use crate::storage::sink::{Patch, Scratch, Sink};
use crate::storage::source::Source;
use crate::storage::store::{DirRename, Entry, HeldDir, Lock, Stat, Store};
use crate::storage::testing::faulty_file::{FaultyFile, cannot_read, cannot_write};
use crate::storage::testing::script::{Failure, Operation, Script};

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
