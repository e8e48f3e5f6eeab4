//! OUTPUT and what is there already.

use std::path::PathBuf;

use crate::tensor::size::show_size;

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
    #[error("`{}` is the result of this merge, but {}", path.display(), listed(files))]
    OutputDamaged { path: PathBuf, files: Vec<String> },
    #[error("`{}` was made with another `{file}` than there is now", path.display())]
    OtherSideFile { path: PathBuf, file: String },
    #[error("`{}` was made before the base changed: its `{shard}` would be another now", path.display())]
    OtherBase { path: PathBuf, shard: String },
    #[error("`{}` is a link or has one in it, or belongs to another user: nothing is written there", path.display())]
    StagingForeign { path: PathBuf },
    #[error("`{file}` in `{}` is not what this run wrote: another process writes there", path.display())]
    StagingDisturbed { path: PathBuf, file: String },
    #[error("`{}` lies in memory (a tmpfs), and the result and the run need {}: {limit}", path.display(), show_size(*needed))]
    OutputInMemory { path: PathBuf, needed: u64, limit: String },
    #[error("`{}` lies inside the input `{}`", path.display(), input.display())]
    InsideInput { path: PathBuf, input: PathBuf },
    #[error("cannot create `{}`", path.display())]
    OutputUnwritable { path: PathBuf },
    #[error("files can only be written once in `{}`, and an undo file is written piece by piece", path.display())]
    WrittenOnce { path: PathBuf },
}

/// The first few of several files, and what is wrong with them.
fn listed(files: &[String]) -> String {
    const SHOWN: usize = 5;
    let shown = files.iter().take(SHOWN).map(|file| format!("`{file}`")).collect::<Vec<_>>().join(", ");
    match files.len() {
        1 => format!("{shown} is not as it was written"),
        count if count > SHOWN => format!("{shown} and {} more are not as they were written", count - SHOWN),
        _ => format!("{shown} are not as they were written"),
    }
}
