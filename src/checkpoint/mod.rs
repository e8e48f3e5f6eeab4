//! A checkpoint directory, from its headers and small files: which tensors it has, in which shards, and what else belongs to it.
//!
//! Nothing here reads a tensor's values (but for the samples that tell one state of a shard from another) and nothing
//! decides what is done with them.

pub(crate) mod catalogue;
pub(crate) mod compare;
pub(crate) mod config;
pub(crate) mod diffusers;
pub(crate) mod discover;
pub(crate) mod ecosystem;
#[cfg(feature = "hub")]
pub(crate) mod fetched;
pub(crate) mod header;
pub(crate) mod header_room;
pub(crate) mod identity;
pub(crate) mod listing;
pub(crate) mod llama_cpp;
pub(crate) mod one_file;
pub(crate) mod plain_lists;
pub(crate) mod quantized;
pub(crate) mod side_files;
pub(crate) mod single_file;
pub(crate) mod small_tensors;
pub(crate) mod stated;
pub(crate) mod tokenizer;
pub(crate) mod unread;
pub(crate) mod weights_name;
