//! Claims that cannot become one output.

use std::path::PathBuf;

use crate::error::no_effect::NoEffectReason;
use crate::tensor::shape::Shape;

/// Claims that cannot become one output.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(
    missing_docs,
    reason = "the message above each variant says what it is, and its fields are the message's values"
)]
pub enum PlanError {
    #[error("`{tuned}` holds the weights of `{base}`: there is no difference to extract")]
    NoDifference { base: String, tuned: String },
    #[error("adapter `{adapter}` has no effect: {why}")]
    NoEffect { adapter: String, why: NoEffectReason },
    #[error("adapter `{adapter}` holds `{key}` twice, as `{first}` and as `{second}`")]
    KeyTwice { adapter: String, key: String, first: String, second: String },
    #[error("`{first}` and `{second}` both change the same values of `{tensor}`")]
    Overlap { tensor: String, first: String, second: String },
    #[error("what adapter `{adapter}` does to `{tensor}` ({method}) cannot be combined: {why}")]
    Uncombined { adapter: String, tensor: String, method: String, why: &'static str },
    #[error("`{tensor}` is tied, and embedding and LM head cannot be untied: {why}")]
    Tied { tensor: String, why: &'static str },
    #[error(
        "`{tensor}` is tied, and embedding and LM head cannot be untied: `{head}` is stored beside it, and both would have to change as one"
    )]
    TiedAndStored { tensor: String, head: String },
    #[error(
        "`{tensor}` is tied, and embedding and LM head cannot be untied: `{key}`, to which the head's delta is added, holds other values"
    )]
    TiedToOther { tensor: String, key: String },
    #[error("one adapter trains the tied weights `{tensor}` as one and another unties them")]
    TiedBothWays { tensor: String },
    #[error("`{}` is given with `--base16`, and no weight of the base is quantized", path.display())]
    NeedlessOriginal { path: PathBuf },
    #[error("`{tensor}` is to start from `{}`, which has no such tensor", path.display())]
    NoOriginal { tensor: String, path: PathBuf },
    #[error("`{tensor}` has shape {found} in `{}`, and {expected} in what is written", path.display())]
    OtherOriginal { tensor: String, path: PathBuf, found: Shape, expected: Shape },
    #[error("`{tensor}` cannot start from `{}`: {why}", path.display())]
    NoStart { tensor: String, path: PathBuf, why: &'static str },
    #[error("`{tensor}` has no place in the template `{}`", template.display())]
    NotInTemplate { tensor: String, template: PathBuf },
    #[error("`{tensor}` of the template `{}` cannot be made from the base: {why}", template.display())]
    TemplateTensor { tensor: String, template: PathBuf, why: &'static str },
    #[error("{key} is {found} in the template `{}`, and {expected} in the base", template.display())]
    OtherTemplate { key: String, found: String, expected: String, template: PathBuf },
    #[error("`{}` is no file of llama.cpp that a result could be laid out as", path.display())]
    NoTemplate { path: PathBuf },
    #[error("`{tensor}` cannot be changed in a GGUF file: {why}")]
    OfHeader { tensor: String, why: &'static str },
    #[error("the vocabulary has {first_rows} tokens in `{first}` and {second_rows} in `{second}`")]
    Vocabulary { first: String, first_rows: u64, second: String, second_rows: u64 },
    #[error("adapters `{earlier}` and `{later}` both replace row {token} of `{tensor}`")]
    TokenTwice { tensor: String, token: u64, earlier: String, later: String },
    #[error("adapter {later} replaces `{tensor}`, which would undo the delta of adapter {earlier}")]
    ReplacedDelta { tensor: String, earlier: String, later: String },
    #[error("`{tensor}`{} cannot be taken back: {why}", and_more(*more))]
    Irreversible { tensor: String, more: usize, why: String },
    #[error("`{}` is a link that leads out of its directory, to `{}`: it is not copied into a result", path.display(), target.display())]
    LinkedConfig { path: PathBuf, target: PathBuf },
    #[error("`{first}` is {what} of the result, which cannot hold {other} `{second}` as well")]
    NameTwice { first: String, what: &'static str, second: String, other: &'static str },
}

/// How many others there are.
fn and_more(more: usize) -> String {
    if more == 0 { String::new() } else { format!(" and {more} more") }
}
