//! What can be wrong with a GGUF file.

use crate::formats::container::MAX_ALIGNMENT;
use crate::formats::gguf::{MAX_AXES, MAX_HEADER_BYTES};
use crate::tensor::dtype::Dtype;

/// What is wrong with a header.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum GgufProblem {
    #[error("it does not begin with `GGUF`")]
    NoMagic,
    #[error("it is of version {found}, 2 and 3 are read")]
    Version { found: u32 },
    #[error("its numbers are big-endian, little-endian ones are read")]
    BigEndian,
    #[error("header is longer than {MAX_HEADER_BYTES} bytes")]
    TooLong,
    #[error("header goes on behind the end of the file, {file} bytes")]
    PastEnd { file: u64 },
    #[error("header and the data of its tensors take {promised} bytes, the file has {found}")]
    FileLength { promised: u64, found: u64 },
    #[error("it promises {found} {what}, more than fit the file")]
    Count { what: &'static str, found: u64 },

    // The pairs.
    #[error("{what} at byte {at} is no UTF-8")]
    NoText { what: &'static str, at: u64 },
    #[error("{what} is {found} bytes long, at most {most} are accepted")]
    LongText { what: &'static str, found: u64, most: u64 },
    #[error("key `{key}` is there twice")]
    KeyTwice { key: String },
    #[error("value of `{key}` has type {found}, which is unknown or a list in a list")]
    ValueType { key: String, found: u32 },
    #[error("`general.alignment` is {found}, expected a power of two of at most {MAX_ALIGNMENT}")]
    Alignment { found: String },

    // The tensors.
    #[error("tensor `{tensor}` is there twice")]
    Twice { tensor: String },
    #[error("tensor `{tensor}` has {found} axes, at most {MAX_AXES} are accepted")]
    Axes { tensor: String, found: u32 },
    #[error("tensor `{tensor}` has type {found}, which is unknown")]
    UnknownType { tensor: String, found: u32 },
    #[error("GGUF has no type for {dtype}, which tensor `{tensor}` has")]
    NoType { tensor: String, dtype: Dtype },
    #[error("tensor `{tensor}` of {dtype} has rows of {found} values, expected a multiple of {block}")]
    Rows { tensor: String, dtype: Dtype, found: u64, block: u64 },
    #[error("size of tensor `{tensor}` overflows")]
    Overflow { tensor: String },
    #[error("data of tensor `{tensor}` begins at byte {found}, expected {expected}")]
    Untiled { tensor: String, found: u64, expected: u64 },
}
