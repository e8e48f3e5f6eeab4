//! What was asked for: flags and the memory budget.

use std::path::PathBuf;

use crate::error::budget::BudgetNeed;
use crate::tensor::size::{Size, show_size};

/// What was asked for: flags and the memory budget.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(
    missing_docs,
    reason = "the message above each variant says what it is, and its fields are the message's values"
)]
pub enum RequestError {
    #[error("`{}`: {accepted}", typed(flag, value))]
    Usage { flag: &'static str, value: String, accepted: &'static str },
    #[error("`{}`: a whole number from 1 to {most} is accepted", typed(flag, value))]
    OutOfRange { flag: &'static str, value: String, most: usize },
    #[error(
        "`{}`: it matches all {tensors} tensors of adapter `{adapter}`: name those that may be skipped",
        typed(flag, value)
    )]
    MatchesAll { flag: &'static str, value: String, tensors: usize, adapter: String },
    #[error("weight of `{pattern}`: {}", unused(*is_late, adapter))]
    WeightOfNothing { pattern: String, adapter: String, is_late: bool },
    #[error("`{flag}` is required")]
    Required { flag: &'static str },
    #[error("no `--base` given, and adapter_config.json of `{adapter}` names no base model")]
    NoBase { adapter: String },
    #[error(
        "no `--base` given, and the base model `{base}` of adapter `{adapter}` is not in the local cache"
    )]
    BaseNotCached { adapter: String, base: String },
    #[error("nothing of `{}` is to be converted: it is safetensors already", path.display())]
    NothingToConvert { path: PathBuf },
    #[error("`{}` has {merged} merged, and {given} given", path.display())]
    OtherAdapters { path: PathBuf, merged: String, given: String },
    #[error("{message}")]
    Arguments { message: String },
    #[error("the merged checkpoint has no tensor `{tensor}`")]
    UnknownTensor { tensor: String },
    #[error(
        "bytes {start} to {end} of `{tensor}` are asked for, which has {bytes}: ranges inside it are accepted, in order and apart, with as much memory as they have bytes"
    )]
    NoSuchBytes { tensor: String, start: u64, end: u64, bytes: u64 },
    #[error("`{name}` is neither a directory nor a model in the Hugging Face cache (`{}`)", cache.display())]
    UnknownModel { name: String, cache: PathBuf },
    #[error("revision `{revision}` of `{name}` is not cached{}", cached_list(cached))]
    UnknownRevision { name: String, revision: String, cached: Vec<String> },
    #[error(
        "`{name}` is neither a directory, nor in the Hugging Face cache, nor a model at {endpoint} that you may see"
    )]
    NoRepo { name: String, endpoint: String },
    #[error("{endpoint} refuses access to `{name}`: it is gated, or not yours to read")]
    NoAccess { name: String, endpoint: String },
    #[error("`{name}` has no revision `{revision}` at {endpoint}")]
    NoRevision { name: String, revision: String, endpoint: String },
    #[error("{endpoint} did not give what was asked for")]
    HubUnreachable { endpoint: String },
    #[error(
        "`{}` has room for {}, and {} of `{name}` are to come",
        cache.display(), show_size(*free), show_size(*needed)
    )]
    CacheFull { cache: PathBuf, name: String, needed: u64, free: u64 },
    #[error(
        "`{}` came with other bytes than the hub lists: its {function} is `{found}`, expected `{expected}`",
        file.display()
    )]
    WrongBytes { file: PathBuf, function: &'static str, expected: String, found: String },
    #[error("the hub lists no hash of `{}`, by which the cache keeps a file", file.display())]
    NoHash { file: PathBuf },
    #[error("`HF_ENDPOINT={value}`: an address such as https://huggingface.co is accepted")]
    Endpoint { value: String },
    #[error("the token in {place} cannot be sent: it has characters that no token has")]
    Token { place: String },
    #[error("{} is too small: {} is needed for {what}", budget_text(budget), show_size(*needed))]
    Budget { budget: Size, needed: u64, what: BudgetNeed },
}

/// A flag and its value as they were typed.
fn typed(flag: &str, value: &str) -> String {
    format!("{flag} {value}").trim_end().to_owned()
}

/// Why a pattern decides the weight of no module.
fn unused(is_late: bool, adapter: &str) -> String {
    if is_late {
        format!("earlier patterns decide all modules of adapter `{adapter}` that have it")
    } else {
        format!("no module of adapter `{adapter}` has that in its path")
    }
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
