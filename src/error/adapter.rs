//! Adapters as their trainer saved them: format, config, values.

use crate::tensor::shape::Shape;
use std::path::PathBuf;

/// Adapters as their trainer saved them: format, config, values.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(
    missing_docs,
    reason = "the message above each variant says what it is, and its fields are the message's values"
)]
pub enum AdapterError {
    #[error("adapter `{adapter}` has `peft_type` `{found}`, which {why}")]
    PeftType { adapter: String, found: String, why: &'static str },
    #[error("`{}` is an adapter in {format} format, as `{key}` shows, which is not read", path.display())]
    AdapterFormat { path: PathBuf, format: &'static str, key: String },
    #[error("adapter `{adapter}` has weights beside it that are not merged: `{}`", files.join("`, `"))]
    Unmerged { adapter: String, files: Vec<String> },
    #[error(
        "adapter `{adapter}` (`{}`) belongs on what {} left of the base, not on the base: its factors began as parts of it",
        path.display(),
        method
    )]
    OnResidual { adapter: String, path: PathBuf, method: &'static str },
    #[error(
        "torchtune exported adapter `{adapter}` with the rows of `{key}` reordered, which is wrong for the model type `{family}`"
    )]
    TorchtuneOrder { adapter: String, key: String, family: String },
    #[error(
        "adapter `{adapter}` has {rows} rows in `{key}`, which are in {order}, and the base has {heads} heads for them"
    )]
    RowOrder { adapter: String, key: String, rows: u64, heads: u64, order: &'static str },
    #[error(
        "adapter `{adapter}` has the names of {trainer}'s own models, which are not read for the model type `{family}`, which the base has"
    )]
    OwnFamily { adapter: String, trainer: &'static str, family: String },
    #[error(
        "adapter `{adapter}` has {trainer}'s factors of a stack of experts, as `{key}`, which are not merged yet"
    )]
    OwnExperts { adapter: String, key: String, trainer: &'static str },
    #[error("adapter `{adapter}` was trained on a `{trained_on}`, and the base is a `{base}`")]
    OtherBase { adapter: String, trained_on: String, base: String },
    #[error("`{}` is an adapter{}, not a checkpoint", path.display(), format.map(|format| format!(" in {format} format")).unwrap_or_default())]
    NotABase { path: PathBuf, format: Option<&'static str> },
    #[error("`{}` is a GGUF file of a model, not an adapter", path.display())]
    ModelGiven { path: PathBuf },
    #[error("adapter `{adapter}` sets `{field}` to `{value}`, which {why}")]
    Field { adapter: String, field: String, value: String, why: &'static str },
    #[error(
        "adapter `{adapter}` sets `{field}` to `{value}`, which holds `{unknown}`, a field shardfold does not know"
    )]
    UnknownInField { adapter: String, field: &'static str, value: String, unknown: String },
    #[error(
        "adapter `{adapter}` sets `{field}` to `{value}`, which gives both factors of `{module}` blocks, which PEFT refuses too"
    )]
    BlocksInBoth { adapter: String, field: &'static str, value: String, module: String },
    #[error(
        "adapter `{adapter}` sets `{field}` to `{value}`, which does not say whether `{key}` is for inputs or outputs, and its shape fits both"
    )]
    SideUnsaid { adapter: String, field: &'static str, value: String, key: String },
    #[error("adapter `{adapter}` sets `{field}` to `{value}`, which is no list of tokens for `{module}`")]
    NoTokens { adapter: String, field: &'static str, value: String, module: String },
    #[error("adapter `{adapter}` sets `{field}` to `{token}`, which is no token of a vocabulary of {tokens}")]
    NoSuchToken { adapter: String, field: &'static str, token: u64, tokens: u64 },
    #[error(
        "adapter `{adapter}` is for several components, and both those of `{first}` and of `{second}` are modules of the base"
    )]
    Components { adapter: String, first: String, second: String },
    #[error("adapter `{adapter}` has no tensors")]
    EmptyAdapter { adapter: String },
    #[error("pattern `{pattern}` in `{field}` is not a regular expression shardfold can read")]
    Pattern { adapter: String, field: String, pattern: String },
    #[error("adapter tensor `{key}` holds a value that is not finite")]
    NonFiniteFactor { adapter: String, key: String },
    #[error("tensor at byte {offset} of `{file}`, {shape}, {why}")]
    BadSource { file: String, offset: u64, shape: Shape, why: &'static str },
}
