//! Building a header.

use std::iter;

use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::tensor::dtype::{Dtype, bytes_of};
use crate::tensor::shape::Shape;

use crate::formats::json::first_twice;
use crate::formats::safetensors::problem::HeaderProblem;
use crate::formats::safetensors::{LENGTH_BYTES, MAX_HEADER_BYTES, METADATA};

/// Builds the JSON of a header, without the length before it. Tensors lie one after the other in the order given.
///
/// Spaces fill it to a multiple of eight bytes, so that the data starts at one too. Without `metadata` there is no
/// `__metadata__`.
///
/// # Errors
/// If a name is there twice or is `__metadata__`, a tensor is no whole number of bytes, sizes overflow, or the header is
/// longer than [`MAX_HEADER_BYTES`]: nothing is built that [`parse_header`](crate::formats::safetensors::read::parse_header) would refuse.
pub fn build_header(
    tensors: &[(&str, Dtype, &[u64])],
    metadata: &[(&str, &str)],
) -> Result<String, HeaderProblem> {
    let keys: Vec<_> = iter::once(METADATA).chain(tensors.iter().map(|(name, ..)| *name)).collect();
    if let Some(name) = first_twice(keys.iter().copied()) {
        return Err(HeaderProblem::Twice { name: name.to_owned() });
    }
    if let Some(key) = first_twice(metadata.iter().map(|(key, _)| *key)) {
        return Err(HeaderProblem::KeyTwice { within: METADATA.to_owned(), key: key.to_owned() });
    }
    let mut entries = Vec::with_capacity(tensors.len());
    let mut end = 0;
    for (name, dtype, axes) in tensors {
        let start = end;
        end = end_of(name, *dtype, axes, start)?;
        entries.push((*name, Entry { dtype: *dtype, shape: axes, data_offsets: [start, end] }));
    }
    let mut json = serde_json::to_string(&Top { metadata, entries: &entries })
        .expect("strings and numbers always serialise");
    let len = json.len() + json.len().wrapping_neg() % LENGTH_BYTES as usize;
    if len as u64 > MAX_HEADER_BYTES {
        return Err(HeaderProblem::TooLong { found: len as u64 });
    }
    json.extend(iter::repeat_n(' ', len - json.len()));
    Ok(json)
}

/// Where a tensor that begins at `start` ends.
fn end_of(name: &str, dtype: Dtype, axes: &[u64], start: u64) -> Result<u64, HeaderProblem> {
    let overflow = || HeaderProblem::Overflow { tensor: name.to_owned(), shape: axes.to_vec(), dtype };
    let shape = Shape::new(axes).ok_or_else(overflow)?;
    let bits = shape.elements().checked_mul(dtype.bitsize() as u64).ok_or_else(overflow)?;
    match bytes_of(dtype, shape.elements()) {
        Some(bytes) => start.checked_add(bytes).ok_or_else(overflow),
        None => Err(HeaderProblem::PartialByte { tensor: name.to_owned(), shape, dtype, bits }),
    }
}

struct Top<'a> {
    metadata: &'a [(&'a str, &'a str)],
    entries: &'a [(&'a str, Entry<'a>)],
}

impl Serialize for Top<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut top = serializer.serialize_map(None)?;
        if !self.metadata.is_empty() {
            top.serialize_entry(METADATA, &Metadata(self.metadata))?;
        }
        for (name, entry) in self.entries {
            top.serialize_entry(name, entry)?;
        }
        top.end()
    }
}

struct Metadata<'a>(&'a [(&'a str, &'a str)]);

impl Serialize for Metadata<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().copied())
    }
}

#[derive(serde::Serialize)]
struct Entry<'a> {
    dtype: Dtype,
    shape: &'a [u64],
    data_offsets: [u64; 2],
}
