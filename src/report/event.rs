//! What happens in a merge that is worth showing, and who shows it.

use crate::note::Note;
use crate::pipeline::progress::Snapshot;
use crate::report::summary::Summary;
use crate::schedule::budget::Schedule;
use crate::storage::io::choice::IoChoice;

/// Something worth showing.
#[non_exhaustive]
pub enum Event<'e> {
    /// Something to know that is no error.
    Note(&'e Note),
    /// Files of a repository of the hub are put into its cache.
    Fetching {
        /// The repository and the commit.
        what: &'e str,
        /// How many files.
        files: usize,
        /// How many bytes.
        total_bytes: u64,
    },
    /// A directory is being verified, against so many bytes.
    Verifying {
        /// Bytes of the files or tensors that it is held against.
        total_bytes: u64,
    },
    /// Values of checkpoints are read, so many bytes.
    Reading {
        /// What for: `comparing`.
        what: &'static str,
        /// How many bytes.
        total_bytes: u64,
    },
    /// The run begins under this budget.
    Budget {
        /// Which.
        schedule: &'e Schedule,
        /// Why this much.
        reason: &'e str,
        /// Which way files are read and written.
        io: &'e IoChoice,
    },
    /// A finished output of so many bytes is looked at again.
    Checking {
        /// How many.
        total_bytes: u64,
    },
    /// A finished output is compared with what the merge gives now, in so many bytes, since these files of the base may have
    /// changed after it was made.
    MergingAgain {
        /// How many.
        total_bytes: u64,
        /// Names of files.
        files: &'e [String],
    },
    /// The parts of a merge are joined, of so many bytes of shards.
    Joining {
        /// How many parts.
        parts: u32,
        /// How many bytes.
        total_bytes: u64,
    },
    /// What so many bytes of changed tensors become when the merge is taken back is compared with the base.
    KeepingUndo {
        /// How many.
        total_bytes: u64,
    },
    /// What an earlier run left is looked at, so many bytes.
    Continuing {
        /// How many.
        total_bytes: u64,
    },
    /// How far it is; about ten times a second.
    Progress(&'e Snapshot),
    /// It is done.
    Finished(&'e Summary),
}

/// Shows events.
pub trait Reporter {
    /// Shows one.
    fn event(&mut self, event: &Event<'_>);
}

impl<R: Reporter + ?Sized> Reporter for &mut R {
    fn event(&mut self, event: &Event<'_>) {
        (**self).event(event);
    }
}
