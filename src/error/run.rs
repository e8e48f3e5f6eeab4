//! What only the data of a run shows, and bugs.

/// What only the data of a run shows, and bugs.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(
    missing_docs,
    reason = "the message above each variant says what it is, and its fields are the message's values"
)]
pub enum RunError {
    #[error("merging `{tensor}` gives a value that is not finite where the base was finite")]
    NonFiniteResult { tensor: String },
    #[error("the data or the scales of `{tensor}` hold a value that is not finite")]
    NonFiniteCodes { tensor: String },
    #[error("merging `{tensor}` gives a value that is too large for its stored scale, which cannot change")]
    BeyondScale { tensor: String },
    #[error(
        "{:.1} % of the delta is left after encoding in the median of {count} quantized weights (worst: `{tensor}`, {:.1} %)",
        100.0 * median,
        100.0 * least
    )]
    LostInCodes { count: usize, median: f64, least: f64, tensor: String },
    #[error("the result has digest {found}, and {expected} is expected")]
    OtherResult { expected: String, found: String },
    #[error("no thread can be had for the {stage}, and a merge needs three beside its own")]
    NoThread { stage: &'static str },
    #[error("the {stage} panicked: this is a bug in shardfold")]
    Panicked { stage: &'static str },
    #[error("`{module}` of adapter `{adapter}` was planned but not applied: this is a bug in shardfold")]
    Unapplied { adapter: String, module: String },
    #[error("{filled} bytes of `{tensor}` were made where {wanted} were wanted: this is a bug in shardfold")]
    Unfilled { tensor: String, filled: u64, wanted: u64 },
}
