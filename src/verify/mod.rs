//! A directory held against what it should be: the hashes of its record, or what merging its inputs gives.
//!
//! [`hashes::check_hashes`] reads every file once. [`inputs::Verification`] runs the merge into a store that keeps nothing, and
//! compares the bytes as they pass with those on disk: by their places where shardfold made the directory, else by the names of
//! tensors. All findings are reported together; none of them is an error before the end.

pub(crate) mod comparison;
pub(crate) mod difference;
pub(crate) mod files;
pub(crate) mod finding;
pub(crate) mod found_tensors;
pub(crate) mod hashes;
pub(crate) mod inputs;
pub(crate) mod sample;
#[cfg(test)]
mod stopping;
pub(crate) mod unmerged;
pub(crate) mod verified;
