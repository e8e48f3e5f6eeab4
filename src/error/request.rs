//! What was asked for: flags and the memory budget.

use std::path::PathBuf;

use crate::tensor::size::{Size, show_size};

/// What was asked for: flags and the memory budget.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(
    missing_docs,
    reason = "the message above each variant says what it is, and its fields are the message's values"
)]
pub enum RequestError {
    #[error("`{}`: {accepted}", format!("{flag} {value}").trim_end())]
    Usage { flag: String, value: String, accepted: String },
    #[error("`{flag}` is required")]
    Required { flag: &'static str },
    #[error("no `--base` given, and {why}")]
    NoBase { why: String },
    #[error("`{name}` is neither a directory nor a model in the Hugging Face cache (`{}`)", cache.display())]
    UnknownModel { name: String, cache: PathBuf },
    #[error("revision `{revision}` of `{name}` is not cached{}", cached_list(cached))]
    UnknownRevision { name: String, revision: String, cached: Vec<String> },
    #[error("{} is too small: {what} need {}", budget_text(budget), show_size(*needed))]
    Budget { budget: Size, needed: u64, what: String },
}

/// What is cached instead.
fn cached_list(commits: &[String]) -> String {
    if commits.is_empty() { String::new() } else { format!(" (cached: {})", quoted(commits)) }
}

/// A budget by its flag if it was typed.
fn budget_text(budget: &Size) -> String {
    match budget.as_typed() {
        Some(typed) => format!("`--max-ram {typed}`"),
        None => format!("a memory budget of {budget}"),
    }
}

fn quoted(names: &[String]) -> String {
    format!("`{}`", names.join("`, `"))
}
