//! Adapters: a PEFT folder's config and tensors, and the methods that turn its tensors into ops.
//!
//! [`Adapter`] is a folder as it is; [`keys`] is the grammar of its tensors' names. A [`Method`] claims the tensors it
//! knows, through a [`Claiming`] that also finds the base tensors they mean, and later applies its ops to tiles. One file
//! per method and one row in [`METHODS`].

pub mod claimed;
pub(crate) mod claiming;
pub mod config;
pub mod expert_layout;
mod folder;
mod foreign;
pub mod keys;
mod layers;
mod locating;
pub mod methods;
pub(crate) mod pieces;
pub mod producers;
pub mod python_pattern;
mod quantised;
mod same;
mod scan;
mod targets;

pub use claimed::{Change, Claimed, Effect};
pub use claiming::Claiming;
pub use config::AdapterConfig;
pub use expert_layout::{ExpertLayout, Orientation, Packing};
pub use folder::{Adapter, AdapterTensor, base_named};
pub(crate) use foreign::foreign;
pub use methods::{Block, FactorView, Folded, METHODS, Method, Seen, find, reads};
pub use scan::{Contents, TensorContents, scan};
pub use targets::check_targets;
