//! What `verify` and `diff` end with.

use std::path::PathBuf;

/// What `verify` ends with.
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
