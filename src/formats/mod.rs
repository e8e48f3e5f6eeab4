//! Container formats: bytes to values and back. No paths, no I/O and no policy: who may be merged is decided elsewhere.
//!
//! Everything read here may come from a stranger. A parser takes the bytes it is given, checks all of a format's rules,
//! allocates in proportion to those bytes and never by a number found in them, and answers with a typed problem that the
//! caller hangs below an error naming the file.

pub(crate) mod allowance;
pub(crate) mod container;
pub(crate) mod foreign;
pub(crate) mod gguf;
pub(crate) mod header_bytes;
pub(crate) mod index;
pub(crate) mod json;
pub(crate) mod json_edit;
pub(crate) mod lfs;
pub(crate) mod pytorch;
pub(crate) mod safetensors;
#[cfg(test)]
mod testing;

use crate::formats::container::Container;
use crate::formats::gguf::container::Gguf;
use crate::formats::pytorch::container::Pytorch;
use crate::formats::safetensors::container::Safetensors;

/// All containers. A file is read by the row whose ending its name has, else by the first.
pub(crate) const CONTAINERS: &[&dyn Container] =
    &[&Safetensors, &Gguf, &Pytorch(".bin"), &Pytorch(".pt"), &Pytorch(".pth"), &Pytorch(".ckpt")];
