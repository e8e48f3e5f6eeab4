//! A merge that is made in parts, by several processes.

use std::path::PathBuf;

/// A merge that is made in parts, by several processes.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(
    missing_docs,
    reason = "the message above each variant says what it is, and its fields are the message's values"
)]
pub enum PartsError {
    #[error("`{}` holds parts of a merge that is made in {found}, and this one was to be one of {asked}", path.display())]
    OtherCount { path: PathBuf, found: u32, asked: u32 },
    #[error("`{}` holds parts of this merge, which is made in {count}", path.display())]
    InParts { path: PathBuf, count: u32 },
    #[error("`{}` was begun by a merge without `--part`", path.display())]
    NotInParts { path: PathBuf },
    #[error("`{}` cannot be made in parts: files cannot be renamed or synced there", path.display())]
    NoRenames { path: PathBuf },
    #[error("there are no parts of a merge for `{}`", path.display())]
    NoParts { path: PathBuf },
    #[error("{} of {count} for `{}` {}", numbered(parts), path.display(), missing(parts))]
    Missing { path: PathBuf, parts: Vec<u32>, count: u32 },
    #[error("{} of {count} for `{}` {} still being made", numbered(parts), path.display(), is_or_are(parts))]
    Unfinished { path: PathBuf, parts: Vec<u32>, count: u32 },
    #[error("{found} adapters were named, and the parts of `{}` have {expected}", path.display())]
    OtherAdapters { path: PathBuf, found: usize, expected: usize },
    #[error("part {part} in `{}` is of another merge", path.display())]
    OtherPlan { path: PathBuf, part: u32 },
    #[error("`{file}` of part {part} in `{}` is not as it was written", path.display())]
    Damaged { path: PathBuf, part: u32, file: String },
    #[error("`{}` cannot be read as shardfold wrote it", path.display())]
    Torn { path: PathBuf },
}

/// The first few of several parts, by their numbers.
fn numbered(parts: &[u32]) -> String {
    const SHOWN: usize = 8;
    let shown: Vec<String> = parts.iter().take(SHOWN).map(u32::to_string).collect();
    let more = parts.len().saturating_sub(SHOWN);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{} {}{more}", if parts.len() == 1 { "part" } else { "parts" }, shown.join(", "))
}

fn missing(parts: &[u32]) -> &'static str {
    if parts.len() == 1 { "is missing" } else { "are missing" }
}

fn is_or_are(parts: &[u32]) -> &'static str {
    if parts.len() == 1 { "is" } else { "are" }
}
