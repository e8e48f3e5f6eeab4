//! Reductions: what a delta must know of every position of one axis before it can be applied, as DoRA its norms.

use crate::kernels::dispatch::Kernels;
use crate::ops::block::Block;
use crate::ops::placement::Window;

/// What a delta reduces its tensor to, position by position of one of its axes.
pub(crate) trait Reduction {
    /// The axis of the delta whose positions have a result each.
    fn axis(&self) -> usize;

    /// How many f64 values are kept for each position.
    fn values(&self) -> usize;

    /// Turns a block of what the tensor starts from into what is accumulated.
    fn observe(&self, block: &mut Block<'_>);

    /// Adds what was observed to the state of its positions. Pieces come in the order of rows, and within a row in the
    /// order of columns, but may be of any size: the result must not depend on where they are cut.
    fn accumulate(&self, block: &ReduceBlock<'_>, state: &mut [f64]);
}

/// A block of observed values, to be accumulated.
pub(crate) struct ReduceBlock<'s> {
    /// The values, row-major, rows of `width`.
    pub values: &'s [f32],
    /// Elements of a row of `values`.
    pub width: usize,
    /// Which part of the op's delta they are, and where.
    pub window: &'s Window,
    /// The axis of the delta whose positions the state is of.
    pub axis: usize,
    /// The position that the state's first values belong to.
    pub first: u64,
    /// Values of the state for each position.
    pub per: usize,
    /// Which implementation runs.
    pub kernels: Kernels,
}
