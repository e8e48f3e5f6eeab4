//! Why a parameter of the running model cannot be read as slices of stored tensors.

/// Why a parameter of the running model cannot be read as slices of stored tensors.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[expect(
    missing_docs,
    reason = "the message above each variant says what it is, and its fields are the message's values"
)]
pub enum ConversionProblem {
    // The conversion.
    #[error("its rule converts nothing")]
    NoOperations,
    #[error("the operation `{name}` is not known")]
    UnknownOperation { name: String },
    #[error("it is not known which part of the tensors it is")]
    UnknownPart,

    // The tensors.
    #[error("some of the tensors that it is made of are missing")]
    Incomplete,
    #[error("no tensors are there")]
    NoTensors,
    #[error("{count} tensors claim to be it")]
    Several { count: usize },
    #[error("number {number} of its tensors is there twice")]
    NumberTwice { number: u64 },
    #[error("number {number} of its tensors is missing")]
    NumberMissing { number: u64 },
    #[error("number {number} of its tensors has another shape than those before it")]
    NumberDiffers { number: u64 },
    #[error("its parts are made of different numbers of tensors")]
    UnequalNumbers,
    #[error("the tensors that it is made of differ in shape")]
    UnequalShapes,

    // Their shapes.
    #[error("a tensor of {axes} axes is to be transposed")]
    TransposedAxes { axes: usize },
    #[error("tensors of {axes} axes are to be fused along axis {axis}")]
    FusedAxes { axes: usize, axis: usize },
    #[error("its tensor has too few axes")]
    FewAxes,
    #[error("the config does not tell how its tensor is split")]
    UnknownSizes,
    #[error("parts of {sizes:?} do not add up to {rows}")]
    Sum { sizes: Vec<u64>, rows: u64 },
    #[error("{rows} rows cannot be taken in two halves")]
    OddRows { rows: u64 },

    #[error("the config does not tell how many heads its rows are of")]
    UnknownHeads,
    #[error("{rows} rows are not those of {heads} heads of even width")]
    HeadRows { rows: u64, heads: u64 },

    // What it is a part of.
    #[error("`{whole}` has {axes} axes")]
    WholeAxes { whole: String, axes: usize },
    #[error("`{whole}` has {found} rows, config.json says {expected}")]
    WholeRows { whole: String, found: u64, expected: u64 },
    #[error("gate and up alternate in `{whole}`, and a stack of factors does not say whether its rows do")]
    Alternating { whole: String },
    #[error("`{whole}` is empty")]
    WholeEmpty { whole: String },
    #[error("`{whole}` holds it, but {problem}")]
    Rows { whole: String, problem: RowsProblem },
    #[error("checkpoint stores {found} experts for `{whole}`, config.json says {expected}")]
    ExpertCount { whole: String, found: u64, expected: u64 },
}

/// Why it is not known which rows of a fused projection a part of it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[expect(
    missing_docs,
    reason = "the message above each variant says what it is, and its fields are the message's values"
)]
pub enum RowsProblem {
    #[error("the config gives no `{field}` above zero, on which its rows depend")]
    NoSize { field: String },
    #[error("the config gives it more rows than a tensor can have")]
    TooMany,
    #[error("{rows} rows are not {groups} equal groups")]
    UnequalGroups { rows: u64, groups: u64 },
}
