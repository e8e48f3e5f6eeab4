//! What a store does, how it may fail, and when: [`Operation`], [`Failure`] and the script of a test.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Mutex, PoisonError};

use crate::cancel::Cancel;
#[cfg(doc)]
use crate::storage::sink::{Patch, Scratch, Sink};
#[cfg(doc)]
use crate::storage::source::Source;
#[cfg(doc)]
use crate::storage::store::Store;

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
    pub(super) fn cause(self) -> io::Error {
        match self {
            Failure::Kind(kind) => kind.into(),
            Failure::Errno(errno) => io::Error::from_raw_os_error(errno),
            Failure::Short => io::ErrorKind::WriteZero.into(),
        }
    }
}

/// When to fail, and what was done so far.
#[derive(Debug, Default)]
pub(super) struct Script {
    pub(super) failures: Mutex<Vec<(Operation, u64, Failure)>>,
    /// What is cancelled, and when.
    pub(super) cancel_at: Option<(Operation, u64, Cancel)>,
    /// By operation.
    pub(super) counts: [AtomicU64; Operation::ALL.len()],
    /// At which of all that change something the process ends.
    pub(super) abort_at: Option<u64>,
    changes: AtomicU64,
}

impl Script {
    /// Counts one operation, and says how it fails if it does.
    pub(super) fn next(&self, operation: Operation) -> Option<Failure> {
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
