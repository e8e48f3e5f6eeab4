//! OUTPUT and what is there already.

use std::path::PathBuf;

/// OUTPUT and what is there already.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(
    missing_docs,
    reason = "the message above each variant says what it is, and its fields are the message's values"
)]
pub enum OutputError {
    #[error("`{}` already exists and is not the result of this merge; nothing was changed", path.display())]
    OutputHolds { path: PathBuf },
    #[error("another shardfold is writing `{}`", path.display())]
    OutputInUse { path: PathBuf },
    #[error("`{}` is the result of this merge, but `{file}` is not as it was written", path.display())]
    OutputDamaged { path: PathBuf, file: String },
    #[error("cannot create `{}`", path.display())]
    OutputUnwritable { path: PathBuf },
}
