//! A checkpoint folder, from its headers and small files: which tensors it has, in which shards, and what else belongs to it.
//!
//! Nothing here reads a tensor's values (but for the samples that tell one state of a shard from another) and nothing
//! decides what is done with them.

mod catalogue;
mod config;
mod discover;
mod extras;
mod identity;
mod library;
mod peek;
mod pipeline;
mod weights;
mod weights_name;

pub use catalogue::{BaseShard, BaseTensor, Catalogue};
pub use config::Config;
pub use discover::{Checkpoint, Listing, read_header};
pub use extras::{carried, is_beside};
pub use identity::{header_hash, sampled};
pub use library::Library;
pub use pipeline::is_pipeline;
pub use weights::{Coded, Stored, Weights};
pub use weights_name::is_index;
