//! How a plan is run on this host under this budget: memory split into tile buffers and factor buffers, output cut into
//! tiles.
//!
//! A schedule is local and never hashed, and never changes the plan: another budget, another number of workers or another
//! cut give the same bytes. [`requirement`] says what a plan needs, [`budget`] decides the sizes, [`cut`] and [`rects`] how
//! a tensor is cut under them, [`order`] yields tiles in the order of the output's bytes, and [`repack`] where factors lie
//! that were repacked for this run.

pub(crate) mod arithmetic;
pub(crate) mod budget;
pub(crate) mod cut;
pub(crate) mod extent;
pub(crate) mod order;
pub(crate) mod rects;
pub(crate) mod reduces;
pub(crate) mod region;
pub(crate) mod repack;
pub(crate) mod requirement;
pub(crate) mod spans;
#[cfg(test)]
mod tests;
pub(crate) mod tile;
