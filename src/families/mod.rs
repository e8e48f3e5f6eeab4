//! Model families: how the module paths of a running model become names and tensors on disk, and how its layers are stored.
//!
//! Families are data: [`names`] runs the rules that transformers has for a class over the names of a checkpoint. What is no
//! plain rename comes out as pieces of tensors. [`tied`](tied_head) knows embeddings that are heads too.

pub mod names;
mod tied;

use crate::checkpoint::Config;

pub use names::experts::{all_experts, expert};
pub use names::{Disk, Logicals, Names, Piece, Placed, Stride};
pub use tied::{TiedHead, is_embedding, is_head, tied_head};

/// What is known of a model's names and storage, in a few words.
pub fn known(config: &Config) -> &'static str {
    let is_conv1d = config.model_type().is_some_and(names::table::conv1d);
    let is_class = false;
    match (is_conv1d, is_class) {
        (true, _) => "the Conv1D storage of its model type",
        (false, true) => "names as transformers has them",
        (false, false) => "plain names",
    }
}
