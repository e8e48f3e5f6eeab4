//! [`Behind`]: cache pages dropped behind a reader.
//!
//! What a process reads stays in the page cache and is charged to its cgroup. It is given back as the reader moves on: every
//! few MiB, because each call takes locks, and each time again over some MiB before, because a folio that lay half in the
//! last range stayed. A closed file is swept once more, over what was read of it and no further: looking at the header of
//! a file does not push all of it out of a cache that others may use.

use std::fs::File;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::storage::os;

/// Bytes that are done before it is worth a call to drop them.
const STEP: u64 = 4 << 20;

/// Bytes before a range that are dropped again, and that a sweep reaches past the last byte read: the largest folio of
/// common systems is 2 MiB, and read-ahead is rarely more than this.
pub(crate) const OVERLAP: u64 = 4 << 20;

/// How far the cache was told to let go, and how far it was filled.
#[derive(Default)]
pub(crate) struct Behind {
    /// Bytes before this were dropped. Whoever moves it makes the call, so no lock is needed.
    mark: AtomicU64,
    /// The end of the furthest read.
    pub(crate) reach: AtomicU64,
}

impl Behind {
    /// Drops the pages before `offset` if they are enough, or the last of a file of `len` bytes.
    pub(crate) fn advance(&self, file: &File, offset: u64, len: u64) {
        let mark = self.mark.load(Relaxed);
        let is_due = offset >= mark.saturating_add(STEP) || (offset == len && mark < len);
        if is_due && self.mark.compare_exchange(mark, offset, Relaxed, Relaxed).is_ok() {
            os::drop_cache(file, mark.saturating_sub(OVERLAP), Some(offset));
        }
    }

    /// Drops everything that reading a file of `len` bytes can have brought into the cache.
    pub(crate) fn sweep(&self, file: &File, len: u64) {
        let reach = self.reach.load(Relaxed);
        if reach > 0 {
            let end = reach.saturating_add(OVERLAP);
            os::drop_cache(file, 0, (end < len).then_some(end));
        }
    }
}
