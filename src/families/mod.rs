//! Model families: how the module paths of a running model become names on disk, and how its layers are stored.
//!
//! One file per family and one row in [`FAMILIES`]; the first that recognises the config is taken, and plain names are the
//! last. (Families that rename, split or fuse come as files here.)

mod conv1d;
pub mod names;
mod plain;
mod tied;

use crate::checkpoint::Config;

pub use names::{Disk, Logicals, Names, Piece, Placed, Stride};
pub use tied::{TiedHead, is_embedding, is_head, tied_head};

/// One family of models.
pub trait Family: Sync {
    /// Its name, for messages.
    fn name(&self) -> &'static str;

    /// Whether the config describes a model of this family.
    fn recognises(&self, config: &Config) -> bool;

    /// The name on disk of a module's parameter.
    fn name_on_disk(&self, module: &str, parameter: &str) -> String;

    /// Whether its linear layers are stored as `[in, out]`.
    fn stores_linear_transposed(&self) -> bool;
}

/// Every family; plain names recognise any config and stand last.
pub static FAMILIES: &[&dyn Family] = &[&conv1d::Conv1d, &plain::Plain];

/// The family of the model that `config` describes.
pub fn of(config: &Config) -> &'static dyn Family {
    let found = FAMILIES.iter().copied().find(|family| family.recognises(config));
    found.expect("plain names recognise any config")
}
