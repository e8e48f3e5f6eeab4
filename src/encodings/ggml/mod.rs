//! The types of blocks that GGUF files hold: how each is decoded, and encoded again.

pub(crate) mod blocks;
pub(crate) mod code_layout;
pub(crate) mod fit;
pub(crate) mod grid_blocks;
pub(crate) mod grids;
pub(crate) mod new_k;
pub(crate) mod new_simple;
pub(crate) mod open_block;
pub(crate) mod scales;
pub(crate) mod trits;
pub(crate) mod types;
