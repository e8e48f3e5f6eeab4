//! How a plan is run on this host under this budget: memory split into slabs and slots, output cut into tiles.
//!
//! A schedule is local and never hashed: another budget, another number of workers or another cut give the same bytes.
//! [`mod@split`] decides the sizes, [`shape`] how a tensor is cut under them, and [`steps`] yields tiles in the
//! order of the output's bytes.

pub mod blocks;
pub mod packing;
mod rects;
pub mod shape;
mod spans;
pub mod split;
pub mod steps;

#[cfg(test)]
mod tests;

pub use blocks::{BlockSpec, Slab, shared_blocks};
pub use shape::{Cutting, Merged, Output, Requirement, Stretch};
pub use split::{Asked, Budget, Schedule, Scratch, WORKERS_MOST, split};
pub use steps::{Tile, Work, tiles};
