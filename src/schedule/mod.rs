//! How a plan is run on this host under this budget: memory split into slabs and slots, output cut into tiles.
//!
//! A schedule is local and never hashed: another budget, another number of workers or another cut give the same bytes.
//! [`mod@split`] decides the sizes, [`shape`] how a tensor is cut under them, and [`steps`] yields tiles in the
//! order of the output's bytes.

pub(crate) mod blocks;
pub(crate) mod budget;
pub(crate) mod cut;
pub(crate) mod rects;
pub(crate) mod repack;
pub(crate) mod spans;
pub(crate) mod steps;
#[cfg(test)]
mod tests;
