//! GGUF, the files of llama.cpp, read as if an attacker had written them, and built.
//!
//! ```text
//! "GGUF"  u32 version  u64 tensors  u64 pairs
//! pairs   of a key (u64 length, text), u32 type and a value: numbers, texts, and lists of them
//! infos   of a name, u32 axes, u64 sizes with the fastest first, u32 type, u64 offset
//! zeros up to a multiple of the alignment, and the data of each tensor with such zeros behind it      (quantized-bases.md 13.1)
//! ```
//!
//! As in llama.cpp the data of the tensors must follow each other in the order of their infos, so that no byte is hidden and
//! none is read twice. Sizes count values there; [`Dtype`](crate::tensor::dtype::Dtype) has blocks of them as elements.

pub(crate) mod container;
pub(crate) mod cursor;
pub(crate) mod pairs;
pub(crate) mod problem;
#[cfg(test)]
mod tests;
pub(crate) mod types;

/// Bytes that such a file begins with.
pub(crate) const MAGIC: &[u8; 4] = b"GGUF";
/// Bytes up to the first pair: magic, version, and two counts.
pub(crate) const START_BYTES: usize = 24;
/// Longest header that is accepted, in bytes: that of a vocabulary of 256,000 tokens has a fifth of it.
const MAX_HEADER_BYTES: u64 = 100_000_000;
/// Longest name of a tensor, in bytes; llama.cpp has 63.
const MAX_NAME_BYTES: u64 = 512;
/// Most axes of a tensor, as in ggml.
const MAX_AXES: u32 = 4;
