//! A checkpoint folder, from its headers and small files: which tensors it has, in which shards, and what else belongs to it.
//!
//! Nothing here reads a tensor's values (but for the samples that tell one state of a shard from another) and nothing
//! decides what is done with them.

mod catalogue;
mod config;
mod discover;
mod extras;
mod identity;
mod peek;
mod weights;

pub use catalogue::{BaseShard, BaseTensor, Catalogue};
pub use config::Config;
pub use discover::{Checkpoint, read_header};
pub use extras::carried;
pub use identity::{header_hash, sampled};
pub use weights::{Coded, Stored, Weights};
