//! Every way to fail, with the values that its message needs.

use std::path::PathBuf;

use crate::tensor::dtype::Dtype;
use crate::tensor::shape::Shape;
use crate::tensor::size::{Size, show_size};

use crate::error::Error;

/// What went wrong. Messages are lower-case fragments that name what, where, expected and found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(
    missing_docs,
    reason = "the message above each variant says what it is, and its fields are the message's values"
)]
pub enum ErrorKind {
    // Several at once.
    #[error("{} errors", errors.len())]
    Several { errors: Vec<Error> },

    // The command line (2).
    #[error("`{}`: {accepted}", format!("{flag} {value}").trim_end())]
    Usage { flag: String, value: String, accepted: String },

    #[error("`{flag}` is required")]
    Required { flag: &'static str },
    #[error("no `--base` given, and {why}")]
    NoBase { why: String },

    // Input missing (66).
    #[error("no {what} at `{}`", path.display())]
    Missing { what: &'static str, path: PathBuf },
    #[error("`{name}` is neither a directory nor a model in the Hugging Face cache (`{}`)", cache.display())]
    UnknownModel { name: String, cache: PathBuf },
    #[error("revision `{revision}` of `{name}` is not cached{}", cached_list(cached))]
    UnknownRevision { name: String, revision: String, cached: Vec<String> },

    // Bad input data (65): containers.
    #[error("`{}` is not a readable safetensors file", path.display())]
    Header { path: PathBuf },
    #[error("`{}` is not a usable index", path.display())]
    Index { path: PathBuf },
    #[error("`{}` is not usable JSON", path.display())]
    Json { path: PathBuf },
    #[error("`{}` is a git-lfs pointer, not the file itself", path.display())]
    LfsPointer { path: PathBuf },
    #[error("`{}` holds {found} shards but no `{index}`", path.display())]
    NoIndex { path: PathBuf, found: usize, index: String },
    #[error("`{}` holds no weights {}, but {}", path.display(), variant(wanted.as_deref()), quoted(found))]
    Variants { path: PathBuf, wanted: Option<String>, found: Vec<String> },
    #[error("`{}` is a pipeline, whose weights are in {}", path.display(), components.join(", "))]
    Pipeline { path: PathBuf, components: Vec<String> },
    #[error("tensor `{tensor}` is in two shards, `{first}` and `{second}`")]
    TensorTwice { tensor: String, first: String, second: String },
    #[error("the index puts `{tensor}` into `{shard}`, which does not hold it")]
    IndexDisagrees { tensor: String, shard: String },
    #[error("`{shard}` holds `{tensor}`, which the index does not list")]
    NotInIndex { tensor: String, shard: String },
    #[error("`{}` holds `{found}`, which is no commit", path.display())]
    Ref { path: PathBuf, found: String },
    #[error("path `{}` escapes the checkpoint directory", path.display())]
    LeadsOut { path: PathBuf },

    // Bad input data (65): adapters.
    #[error("adapter `{adapter}` has `peft_type` `{found}`, which {why}")]
    PeftType { adapter: String, found: String, why: String },
    #[error("`{}` is an adapter in {format} format, as `{key}` shows, which is not read yet", path.display())]
    AdapterFormat { path: PathBuf, format: String, key: String },
    #[error("adapter `{adapter}` sets `{field}` to `{value}`, which {why}")]
    Field { adapter: String, field: String, value: String, why: String },
    #[error("adapter `{adapter}` has no tensors")]
    EmptyAdapter { adapter: String },
    #[error("adapter `{adapter}` has no effect: {why}")]
    NoEffect { adapter: String, why: String },
    #[error("{count} adapter {} no base tensor: {}", if *count == 1 { "tensor matches" } else { "tensors match" }, listing(keys, *count))]
    Unmatched { adapter: String, count: usize, keys: Vec<String>, nearest: Vec<String> },
    #[error("`{path}` is ambiguous: it resolves to `{first}` ({by_first}) and to `{second}` ({by_second})")]
    Readings { path: String, first: String, by_first: String, second: String, by_second: String },
    #[error("unsupported adapter tensor `{key}`: {why}")]
    Unclaimed { adapter: String, key: String, why: String },
    #[error("adapter tensor `{key}` has no partner `{partner}`")]
    NoPartner { adapter: String, key: String, partner: String },
    #[error("adapter `{adapter}` holds `{key}` twice, as `{first}` and as `{second}`")]
    KeyTwice { adapter: String, key: String, first: String, second: String },
    #[error("`{first}` and `{second}` both change the same values of `{tensor}`")]
    Overlap { tensor: String, first: String, second: String },
    #[error("checkpoint stores {found} experts for `{parameter}`, config.json says {expected}")]
    ExpertCount { parameter: String, found: u64, expected: u64 },
    #[error("delta for `{tensor}` has shape {delta}, base tensor has {base}")]
    DeltaShape { adapter: String, tensor: String, delta: Shape, base: Shape, factors: String },
    #[error("replacement for `{tensor}` has shape {replacement}, base tensor has {base}")]
    ReplacementShape { adapter: String, tensor: String, replacement: Shape, base: Shape },
    #[error("adapter tensor `{key}` has shape {found}, expected {expected}")]
    FactorShape { adapter: String, key: String, found: Shape, expected: String },
    #[error("adapter tensor `{key}` has dtype {found:?}, expected BF16, F16 or F32")]
    FactorDtype { adapter: String, key: String, found: Dtype },
    #[error("`{module}` has rank {found} in the adapter's tensors, but {expected} by its config")]
    Rank { adapter: String, module: String, found: u64, expected: u64 },
    #[error(
        "module `{module}` is named by `{field}` entry `{entry}`, but the adapter has no tensor for that entry"
    )]
    TargetWithoutTensor { adapter: String, field: &'static str, entry: String, module: String },
    #[error("no tensor of adapter `{adapter}` is for a module that its `target_modules` `{pattern}` matches")]
    TargetsUnmet { adapter: String, pattern: String },
    #[error("`{tensor}` has dtype {found:?}, which a delta cannot be added to")]
    TargetDtype { tensor: String, found: Dtype },
    #[error("`{parameter}` uses a weight conversion shardfold does not support: {why}")]
    Converted { parameter: String, why: String },
    #[error("`{parameter}` is stored as several tensors, and {why}")]
    InPieces { adapter: String, parameter: String, why: String },
    #[error("`{tensor}` is quantized: {why}")]
    Quantized { tensor: String, why: String },
    #[error("`{tensor}` is tied, and embedding and LM head cannot be untied: {why}")]
    Tied { tensor: String, why: String },
    #[error("one adapter trains the tied weights `{tensor}` as one and another unties them")]
    TiedBothWays { tensor: String },
    #[error("the vocabulary has {first_rows} tokens in `{first}` and {second_rows} in `{second}`")]
    Vocabulary { first: String, first_rows: u64, second: String, second_rows: u64 },
    #[error("adapters `{earlier}` and `{later}` both replace row {token} of `{tensor}`")]
    TokenTwice { tensor: String, token: u64, earlier: String, later: String },
    #[error("`{module}` has {found} pairs of factors for {} targeted parameters: {}", parameters.len(), parameters.join(", "))]
    ParameterCount { adapter: String, module: String, parameters: Vec<String>, found: usize },
    #[error("{found} orders of {} fit the factors at `{module}`, expected one", parameters.join(", "))]
    ParameterOrder { adapter: String, module: String, parameters: Vec<String>, found: usize },
    #[error(
        "`lora_A` of width {a} and `lora_B` of width {b} match `{parameter}` {shape:?} in neither orientation"
    )]
    ExpertShape { adapter: String, parameter: String, shape: [u64; 3], a: u64, b: u64 },
    #[error("the factors of `{first}` and of `{second}` at `{module}` lie on different axes")]
    ExpertsDisagree { adapter: String, module: String, first: String, second: String },
    #[error("{what} is ambiguous for `{parameter}`: {why}")]
    Unclear { adapter: String, parameter: String, what: String, why: String },
    #[error("`{what}` cannot have weight {weight}: {why}")]
    Weighted { adapter: String, what: String, weight: f64, why: String },
    #[error("adapter `{adapter}` stores `{tensor}` in full, and full weights cannot be scaled by {weight}")]
    WeightedReplacement { adapter: String, tensor: String, weight: f64 },
    #[error("adapter {later} replaces `{tensor}`, which would undo the delta of adapter {earlier}")]
    ReplacedDelta { tensor: String, earlier: String, later: String },
    #[error("`{tensor}` has no bias of its own to add `lora_B.bias` to")]
    NoBaseBias { adapter: String, tensor: String },
    #[error("`{tensor}` cannot be replaced by an adapter tensor of dtype {found:?}: the base has {base:?}")]
    ReplacementDtype { tensor: String, found: Dtype, base: Dtype },
    #[error("pattern `{pattern}` in `{field}` is not a regular expression shardfold can read")]
    Pattern { adapter: String, field: String, pattern: String },

    // Bad input data (65): found in the data.
    #[error("adapter tensor `{key}` holds a value that is not finite")]
    NonFiniteFactor { adapter: String, key: String },
    #[error("merging `{tensor}` gives a value that is not finite where the base was finite")]
    NonFiniteResult { tensor: String },
    #[error("the quantized data or the scales of `{tensor}` hold a value that is not finite")]
    NonFiniteCodes { tensor: String },

    // Budget (71).
    #[error("{} is too small: {what} need {}", budget_text(budget), show_size(*needed))]
    Budget { budget: Size, needed: u64, what: String },

    // Output (73).
    #[error("`{}` already exists and is not the result of this merge; nothing was changed", path.display())]
    OutputHolds { path: PathBuf },
    #[error("another shardfold is writing `{}`", path.display())]
    OutputInUse { path: PathBuf },
    #[error("`{}` is the result of this merge, but `{file}` is not as it was written", path.display())]
    OutputDamaged { path: PathBuf, file: String },
    #[error("cannot create `{}`", path.display())]
    OutputUnwritable { path: PathBuf },

    // I/O (74).
    #[error("cannot read `{}` at byte {offset}", path.display())]
    Read { path: PathBuf, offset: u64 },
    #[error("`{}` ends at byte {found}, its header promises {expected}", path.display())]
    Truncated { path: PathBuf, expected: u64, found: u64 },
    #[error("cannot write `{}`", path.display())]
    Write { path: PathBuf },
    #[error("`{}` has room for {}, the result needs {}", path.display(), show_size(*free), show_size(*needed))]
    DiskFull { path: PathBuf, needed: u64, free: u64 },

    // Stopped (75).
    #[error("interrupted: OUTPUT was not created; run the same command again (it starts over)")]
    Stopped,

    // Bugs (70).
    #[error("the {stage} panicked: this is a bug in shardfold")]
    Panicked { stage: &'static str },
    #[error("`{module}` of adapter `{adapter}` was planned but not applied: this is a bug in shardfold")]
    Unapplied { adapter: String, module: String },
}

/// The first key and how many more there are.
fn listing(keys: &[String], count: usize) -> String {
    match keys.first() {
        Some(first) if count > 1 => format!("`{first}` and {} more", count - 1),
        Some(first) => format!("`{first}`"),
        None => String::new(),
    }
}

/// Which variant of weights is meant.
fn variant(name: Option<&str>) -> String {
    name.map_or_else(|| "without a variant".to_owned(), |name| format!("of the variant `{name}`"))
}

/// What is cached instead.
fn cached_list(commits: &[String]) -> String {
    if commits.is_empty() { String::new() } else { format!(" (cached: {})", quoted(commits)) }
}

fn quoted(names: &[String]) -> String {
    format!("`{}`", names.join("`, `"))
}

/// A budget by its flag if it was typed.
fn budget_text(budget: &Size) -> String {
    match budget.as_typed() {
        Some(typed) => format!("`--max-ram {typed}`"),
        None => format!("a memory budget of {budget}"),
    }
}
