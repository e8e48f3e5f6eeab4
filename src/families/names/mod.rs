//! From the names of a running model, which adapters use, to the tensors of a checkpoint.
//!
//! The two differ more often than not for models with towers and for mixtures of experts: transformers renames, stacks,
//! splits and transposes while it loads. The way it does so is data ([`table`]): the rules are run forwards over the names on
//! disk ([`rules`], [`pattern`], [`namespace`]), which of them, and how an adapter's paths are to be read, is decided by what
//! places all paths ([`reading`], [`candidates`], [`Spaces`]), and what a rule does with tensors becomes pieces ([`ops`], [`piece`]).
//! Projections that are joined on one side only are cut or put together by [`experts`] and [`joined`].
//!
//! Nothing here reads values, and nothing knows methods or plans. The rules are facts of key-mapping.md 5 and 6.

pub mod candidates;
pub mod disk;
pub mod experts;
pub mod geometry;
pub mod joined;
mod known;
mod lookup;
pub mod namespace;
pub mod ops;
pub mod pattern;
pub mod piece;
pub mod reading;
pub mod rules;
mod spaces;
pub mod table;

#[cfg(test)]
mod tests;

pub use disk::{Disk, Logicals};
pub use known::{Accepts, Known};
pub use lookup::Names;
pub use namespace::Parameter;
pub use piece::{Along, Piece, Placed, Stride};
pub use spaces::Spaces;
