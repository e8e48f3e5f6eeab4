//! Adapter tensors that cannot become ops.

use crate::error::conversion::ConversionProblem;
use crate::error::path_reading::PathReading;
use crate::error::promise::Promise;
use crate::error::quantized::QuantizedProblem;
use crate::tensor::dtype::Dtype;
use crate::tensor::shape::Shape;

/// Adapter tensors that cannot become ops.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(
    missing_docs,
    reason = "the message above each variant says what it is, and its fields are the message's values"
)]
pub enum ClaimError {
    #[error("{count} adapter {} no base tensor: {}", if *count == 1 { "tensor matches" } else { "tensors match" }, listing(keys, *count))]
    Unmatched { adapter: String, count: usize, keys: Vec<String>, nearest: Vec<String> },
    #[error("`{path}` is ambiguous: it resolves to `{first}` ({by_first}) and to `{second}` ({by_second})")]
    Readings { path: String, first: String, by_first: PathReading, second: String, by_second: PathReading },
    #[error("unsupported adapter tensor `{key}`: {why}")]
    Unclaimed { adapter: String, key: String, why: &'static str },
    #[error("unsupported adapter tensor `{key}`: `{tensor}` is {layer}, which {method} does not fit")]
    LayerUnfit { adapter: String, key: String, tensor: String, layer: &'static str, method: &'static str },
    #[error("unsupported adapter tensor `{key}`: `{other}` is there too, and only one of them can be meant")]
    FactorTwice { adapter: String, key: String, other: String },
    #[error("unsupported adapter tensor `{key}`: {} {format}", they_are(*more))]
    OldFormat { adapter: String, key: String, more: usize, format: &'static str },
    #[error(
        "unsupported adapter tensor `{key}`: its rows are the tied head's too, for which the adapter has more in `{head}`"
    )]
    HeadHasMore { adapter: String, key: String, head: String },
    #[error("`{module}` may be two modules of the base: with `_` for each dot they have one name")]
    Flattened { adapter: String, module: String },
    #[error("adapter tensor `{key}` has no partner `{partner}`")]
    NoPartner { adapter: String, key: String, partner: String },
    #[error("checkpoint stores {found} experts for `{parameter}`, config.json says {expected}")]
    ExpertCount { parameter: String, found: u64, expected: u64 },
    #[error("delta for `{tensor}` has shape {delta}, base tensor has {base}")]
    DeltaShape { adapter: String, tensor: String, delta: Shape, base: Shape, factors: String },
    #[error("replacement for `{tensor}` has shape {replacement}, base tensor has {base}")]
    ReplacementShape { adapter: String, tensor: String, replacement: Shape, base: Shape },
    #[error("adapter tensor `{key}` has shape {found}, expected {expected}")]
    FactorShape { adapter: String, key: String, found: Shape, expected: String },
    #[error(
        "{} of the base that training left as they were, and hold other values than this base: {}",
        if keys.len() == 1 { "1 tensor of the adapter is a copy".to_owned() } else { format!("{} tensors of the adapter are copies", keys.len()) },
        listing(keys, keys.len())
    )]
    OtherStart { adapter: String, keys: Vec<String> },
    #[error("adapter tensor `{key}` has dtype {found:?}, expected BF16, F16 or F32")]
    FactorDtype { adapter: String, key: String, found: Dtype },
    #[error("adapter tensor `{key}` has dtype {found:?}, expected whole numbers of up to 64 bits, or F32")]
    IndexDtype { adapter: String, key: String, found: Dtype },
    #[error("adapter tensor `{key}` has an entry at [{row}, {column}], and its layer is {layer}")]
    EntryOutside { adapter: String, key: String, row: f64, column: f64, layer: Shape },
    #[error("`{module}` has rank {found} in the adapter's tensors, but {expected} by its config")]
    Rank { adapter: String, module: String, found: u64, expected: u64 },
    #[error(
        "module `{module}` is named by `{field}` entry `{entry}`, but the adapter has no tensor for that entry"
    )]
    TargetWithoutTensor { adapter: String, field: &'static str, entry: String, module: String },
    #[error("adapter `{adapter}` has no tensor for {}, {promise}", listing(names, names.len()))]
    Missing { adapter: String, names: Vec<String>, promise: Promise },
    #[error("no tensor of adapter `{adapter}` is for a module that its `target_modules` `{pattern}` matches")]
    TargetsUnmet { adapter: String, pattern: String },
    #[error("`{tensor}` has dtype {found:?}, which a delta cannot be added to")]
    TargetDtype { tensor: String, found: Dtype },
    #[error("`{parameter}` uses a weight conversion shardfold does not support: {why}")]
    Converted { parameter: String, why: ConversionProblem },
    #[error("`{parameter}` is stored as several tensors, and {why}")]
    InPieces { adapter: String, parameter: String, why: &'static str },
    #[error("`{tensor}` is quantized: {why}")]
    Quantized { tensor: String, why: QuantizedProblem },
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
    Unclear { adapter: String, parameter: String, what: &'static str, why: &'static str },
    #[error("`{what}` cannot have weight {weight}: {why}")]
    Weighted { adapter: String, what: String, weight: f64, why: &'static str },
    #[error("adapter `{adapter}` stores `{tensor}` in full, and full weights cannot be scaled by {weight}")]
    WeightedReplacement { adapter: String, tensor: String, weight: f64 },
    #[error("`{tensor}` has no bias of its own to add `{vector}` to")]
    NoBaseBias { adapter: String, tensor: String, vector: &'static str },
    #[error("`{tuned}` differs in tensors that {why}: {}", all(names))]
    NotExtracted { tuned: String, names: Vec<String>, why: &'static str },
    #[error("`{adapter}` changes tensors that {why}: {}", all(names))]
    NotConverted { adapter: String, names: Vec<String>, why: &'static str },
    #[error("`{tensor}` holds a value that is not finite, so that its difference is none")]
    NotFiniteDifference { tensor: String },
    #[error("`{tensor}` cannot be replaced by an adapter tensor of dtype {found:?}: the base has {base:?}")]
    ReplacementDtype { tensor: String, found: Dtype, base: Dtype },
}

impl ClaimError {
    /// The adapter, and the names that the message has only the first of.
    pub(crate) fn listed(&self) -> Option<(&str, &[String])> {
        match self {
            ClaimError::Unmatched { adapter, keys: names, .. }
            | ClaimError::Missing { adapter, names, .. } => Some((adapter, names)),
            _ => None,
        }
    }
}

/// One tensor and how many more are of something.
fn they_are(more: usize) -> String {
    if more == 0 { "it is of".to_owned() } else { format!("it and {more} more are of") }
}

/// Every name.
fn all(names: &[String]) -> String {
    format!("`{}`", names.join("`, `"))
}

/// The first key and how many more there are.
fn listing(keys: &[String], count: usize) -> String {
    match keys.first() {
        Some(first) if count > 1 => format!("`{first}` and {} more", count - 1),
        Some(first) => format!("`{first}`"),
        None => String::new(),
    }
}
