//! What can be wrong with a header.

use crate::formats::json::JsonProblem;
use crate::formats::safetensors::{LENGTH_BYTES, MAX_HEADER_BYTES, MAX_NAME_BYTES, METADATA};
use crate::tensor::dtype::Dtype;
use crate::tensor::shape::Shape;

/// What is wrong with a header. A cause, where there is one, says at which line and column.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderProblem {
    // The file.
    #[error("the file is {found} bytes long, a header takes at least {LENGTH_BYTES}")]
    TooShort { found: u64 },
    #[error("it is a git-lfs pointer, not the file itself")]
    LfsPointer,
    #[error("header is 0 bytes long")]
    Empty,
    #[error("header is {found} bytes long, at most {MAX_HEADER_BYTES} are accepted")]
    TooLong { found: u64 },
    #[error("what it holds takes {needed} bytes of memory")]
    NoRoom { needed: u64 },
    #[error("header ends at byte {header}, the file has {file}")]
    PastEnd { header: u64, file: u64 },
    #[error("header promises {promised} bytes, the file has {found}")]
    FileLength { promised: u64, found: u64 },

    // The JSON.
    #[error("header starts with byte {found:#04x}, expected `{{`")]
    NoBrace { found: u8 },
    #[error("header cannot be read as JSON")]
    Json(#[source] JsonProblem),
    #[error("`{name}` is there twice")]
    Twice { name: String },
    #[error(
        "the name of a tensor is {found} bytes long, at most {MAX_NAME_BYTES} are accepted: `{}…`",
        start
    )]
    LongName { start: String, found: usize },
    #[error("`{key}` is there twice in `{within}`")]
    KeyTwice { within: String, key: String },
    #[error("`{METADATA}` is not an object of strings")]
    Metadata(#[source] serde_json::Error),

    // One tensor.
    #[error("entry of tensor `{tensor}` cannot be used")]
    Entry {
        tensor: String,
        #[source]
        cause: serde_json::Error,
    },
    #[error("`{field}` of tensor `{tensor}` cannot be used")]
    Field {
        tensor: String,
        field: &'static str,
        #[source]
        cause: serde_json::Error,
    },
    #[error("tensor `{tensor}` has no `{field}`")]
    Missing { tensor: String, field: &'static str },
    #[error("tensor `{tensor}` has unknown dtype `{found}`")]
    UnknownDtype { tensor: String, found: String },
    #[error("tensor `{tensor}` of shape {shape:?} and dtype {dtype} takes more bits than 64 bits can count")]
    Overflow { tensor: String, shape: Vec<u64>, dtype: Dtype },
    #[error(
        "tensor `{tensor}` of shape {shape} and dtype {dtype} takes {bits} bits, which are no whole bytes"
    )]
    PartialByte { tensor: String, shape: Shape, dtype: Dtype, bits: u64 },
    #[error(
        "tensor `{tensor}` of shape {shape} and dtype {dtype} takes {expected} bytes, its range has {found}"
    )]
    Size { tensor: String, shape: Shape, dtype: Dtype, expected: u64, found: u64 },
    #[error("tensor `{tensor}` ends at byte {end} of the data, before its start at {start}")]
    Backwards { tensor: String, start: u64, end: u64 },

    // The tensors together.
    #[error(
        "tensor `{tensor}` spans bytes {start}..{end} of the data, expected a start at {expected}: ranges must tile the data"
    )]
    Untiled { tensor: String, start: u64, end: u64, expected: u64 },
}
