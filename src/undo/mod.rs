//! The undo file: what taking a merge back by arithmetic does not give, element by element.
//!
//! `round(W' − Δ)` is the base's weight but for about one element in a hundred. [`exceptions`] are these, of bytes in memory:
//! [`writer`] puts those of all changed tensors into a file, [`file`] puts them right in tiles that are made again. [`layout`]
//! is where what lies in the file. Nothing here knows how a tensor is made.

pub(crate) mod bits;
pub(crate) mod exceptions;
pub(crate) mod file;
pub(crate) mod layout;
pub(crate) mod writer;
