//! Container formats: bytes to values and back. No paths, no I/O and no policy: who may be merged is decided elsewhere.
//!
//! Everything read here may come from a stranger. A parser takes the bytes it is given, checks all of a format's rules,
//! allocates in proportion to those bytes and never by a number found in them, and answers with a typed problem that the
//! caller hangs below an error naming the file.

mod index;
mod json;
mod safetensors;
#[cfg(test)]
mod testing;

pub use index::{About, Index, IndexProblem, build_index, parse_index};
pub use json::{JsonProblem, MAX_DEPTH, parse_json_strict};
pub use safetensors::{
    Header, HeaderProblem, HeaderTensor, MAX_HEADER_BYTES, build_header, header_len, is_lfs_pointer,
    parse_header,
};
