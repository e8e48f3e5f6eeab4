//! The header of a safetensors file, read as if an attacker had written it, and built.
//!
//! A file is a little-endian `u64` N, N bytes of JSON, and the data. The JSON maps each tensor's name to its dtype, shape
//! and range of the data, and `__metadata__` to an object of strings. The ranges, sorted, must tile the data exactly, so
//! that no byte is hidden from a reader and none is read twice. We are stricter than the Rust crate in
//! what no known writer produces: a space before the object, `"__metadata__": null`, a key that is there twice wherever it is,
//! a list in place of an entry.
//!
//! ```
//! use shardfold::testing::{build_header, parse_header};
//! use shardfold::testing::Dtype;
//!
//! let json = build_header(&[("bias", Dtype::F32, &[2]), ("scale", Dtype::BF16, &[])], &[("format", "pt")])?;
//! let header = parse_header(json.as_bytes(), 8 + json.len() as u64 + 10)?;
//! assert_eq!(&*header.tensors[1].name, "scale");
//! assert_eq!((header.tensors[1].start, header.tensors[1].end), (8, 10));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub(crate) mod build;
pub(crate) mod container;
mod entry;
pub(crate) mod problem;
pub(crate) mod read;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
pub(crate) mod visit;

use crate::tensor::dtype::Dtype;
use crate::tensor::name::Name;
use crate::tensor::shape::Shape;

/// Longest JSON header that is accepted, in bytes; the limit of the Rust crate.
pub(crate) const MAX_HEADER_BYTES: u64 = 100_000_000;

/// Longest name of a tensor, in bytes: those of real ones have a third of it, and every rule for names is tried on each.
const MAX_NAME_BYTES: usize = 512;

/// The key that is no tensor.
const METADATA: &str = "__metadata__";

/// Bytes of the length that stands before the JSON.
const LENGTH_BYTES: u64 = 8;

/// What a header says; all of it checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The tensors in the order of their data; where several begin and end at one byte, in the order of the header.
    pub tensors: Vec<HeaderTensor>,
    /// The pairs of `__metadata__` in the order of the header; empty if there is none.
    pub metadata: Vec<(String, String)>,
}

/// One tensor of a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderTensor {
    /// Its name, unique within the header; may be empty.
    pub name: Name,
    /// Element type.
    pub dtype: Dtype,
    /// Shape in elements, also for types smaller than a byte.
    pub shape: Shape,
    /// First byte, counted from the start of the data section.
    pub start: u64,
    /// The byte after its last, counted the same way; `end - start` is what shape and dtype take.
    pub end: u64,
}
