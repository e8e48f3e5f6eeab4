//! Files and stores: what is missing, cannot be read or cannot be written.

use std::path::PathBuf;

use crate::tensor::size::show_size;

/// Files and stores: what is missing, cannot be read or cannot be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(
    missing_docs,
    reason = "the message above each variant says what it is, and its fields are the message's values"
)]
pub enum StorageError {
    #[error("no {what} at `{}`", path.display())]
    Missing { what: &'static str, path: PathBuf },
    #[error("`{}` is a broken link: nothing is at its target `{}`", path.display(), target.display())]
    BrokenLink { path: PathBuf, target: PathBuf },
    #[error("path `{}` escapes the checkpoint directory", path.display())]
    LeadsOut { path: PathBuf },
    #[error("cannot read `{}`", path.display())]
    Unreadable { path: PathBuf },
    #[error("`{}` has {}, at most {} are accepted for such a file", path.display(), show_size(*bytes), show_size(*most))]
    TooLong { path: PathBuf, bytes: u64, most: u64 },
    #[error("cannot read `{}` at byte {offset}", path.display())]
    Read { path: PathBuf, offset: u64 },
    #[error("`{}` ends at byte {found}, its header promises {expected}", path.display())]
    Truncated { path: PathBuf, expected: u64, found: u64 },
    #[error("`{}` changed while it was read", path.display())]
    Changed { path: PathBuf },
    #[error("cannot write `{}`", path.display())]
    Write { path: PathBuf },
    #[error("`{}` has room for {}, the result needs {}", path.display(), show_size(*free), show_size(*needed))]
    DiskFull { path: PathBuf, needed: u64, free: u64 },
}
