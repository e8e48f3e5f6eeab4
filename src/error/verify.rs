//! What `verify` and `diff` end with, and `unmerge` where what was merged is not what is there.

use std::path::PathBuf;

/// What `verify` ends with, and `unmerge` where what was merged is not what is there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(
    missing_docs,
    reason = "the message above each variant says what it is, and its fields are the message's values"
)]
pub enum VerifyError {
    #[error("no `shardfold.json` in `{}`", path.display())]
    NoRecord { path: PathBuf },
    #[error("`shardfold.json` in `{}` cannot be read, or is of a later version", path.display())]
    UnreadableRecord { path: PathBuf },
    #[error("`{}` is the result of another merge{}", path.display(), colon(difference))]
    OtherMerge { path: PathBuf, difference: Option<String> },
    #[error(
        "adapter `{given}` is not `{merged}`, which is merged: {what} has hash {found}, expected {expected}"
    )]
    OtherAdapter { given: String, merged: String, what: &'static str, found: String, expected: String },
    #[error("`{}` was merged with other flags: {difference}", path.display())]
    OtherFlags { path: PathBuf, difference: String },
    #[error("`{}` is damaged: {what}", path.display())]
    UndoDamaged { path: PathBuf, what: &'static str },
    #[error("`{}` is of another merge than the one that made what lies beside it", path.display())]
    UndoOfOther { path: PathBuf },
    #[error("`{tensor}` in `{shard}` does not become what it was: what was merged has changed since")]
    NotTheBase { tensor: String, shard: String },
    #[error("interrupted: `{}` was not checked to its end", path.display())]
    Interrupted { path: PathBuf },
    #[error("`{}` is not what it should be in {}", path.display(), points(*findings))]
    Findings { path: PathBuf, findings: usize },
    #[error("`{}` differs from `{}` in {}", second.display(), first.display(), tensors(*count))]
    Differs { first: PathBuf, second: PathBuf, count: usize },
}

fn colon(difference: &Option<String>) -> String {
    difference.as_ref().map(|difference| format!(": {difference}")).unwrap_or_default()
}

fn tensors(count: usize) -> String {
    if count == 1 { "1 tensor".to_owned() } else { format!("{count} tensors") }
}

fn points(findings: usize) -> String {
    if findings == 1 { "1 point".to_owned() } else { format!("{findings} points") }
}
