//! Files of `torch.save`: a zip with a pickle of the state dict, and each storage as an entry of its own; before torch 1.6 pickles and
//! storages one behind the other ([`legacy`]).
//!
//! ```text
//! ROOT/data.pkl       {name: tensor of a storage, from an offset, of a size, with strides}
//! ROOT/data/KEY       the bytes of a storage; entries are stored as they are
//! ROOT/byteorder      `little`
//! ```
//!
//! A pickle is a program. Here it runs on a machine that knows tensors, storages and dictionaries ([`pickle`]): nothing is ever imported
//! or called, and any other name, and any other operation, is refused. What is read of these files are adapters. Sources: torch
//! `torch/_utils.py`, `torch/serialization.py`; CPython's `pickletools`; PKWARE's APPNOTE 6.3 for [`zip`]; quantized-bases.md 14.

pub(crate) mod container;
mod legacy;
mod pickle;
mod problem;
mod state_dict;
#[cfg(test)]
mod tests;
mod zip;

/// Bytes that the name of a tensor may have, in any file.
const MAX_NAME_BYTES: usize = 512;
/// Axes that a tensor may have, which torch bounds too.
const MAX_AXES: usize = 64;
/// Bytes that a pickle may have: tensors by the hundred thousand.
const MAX_PICKLE_BYTES: u64 = 64 << 20;
/// Bytes that the list of a zip's entries may have.
const MAX_DIRECTORY_BYTES: u64 = 64 << 20;
