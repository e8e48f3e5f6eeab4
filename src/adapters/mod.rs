//! Adapters: the formats they come in, what their tensors are, and the claims that turn tensors into ops.
//!
//! A [`dialect`] reads a format into an [`adapter`]: tensors with paths of the grammar of [`parts`], and [`options`]. Claims
//! take the tensors they know and find the base tensors these mean; `inspect` reads the same. One file and one row per
//! format, one row per family of tails, one file and one row per claim.

pub(crate) mod adapter;
pub(crate) mod adapter_weight;
pub(crate) mod claim;
pub(crate) mod dialect;
pub(crate) mod evidence;
pub(crate) mod expert_options;
pub(crate) mod foreign;
pub(crate) mod gguf_lora;
pub(crate) mod image;
pub(crate) mod lone_file;
pub(crate) mod mlx_lm;
pub(crate) mod open;
pub(crate) mod options;
pub(crate) mod other_base;
pub(crate) mod own_model;
pub(crate) mod parts;
pub(crate) mod peft;
pub(crate) mod problem;
pub(crate) mod row_order;
pub(crate) mod scan;
pub(crate) mod tensors;
pub(crate) mod unmerged;
pub(crate) mod weight_files;
