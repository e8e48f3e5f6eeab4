//! Real numbers, as far as the formulas of deltas need them: sums and products of f32 values, rounded once at the end.
//!
//! A formula is written once, over any [`Number`]: a [`Ball`](ball::Ball) is an f64 with a proven bound of its error (and
//! [`Lanes`](lanes::Lanes) many of these), and where the bound leaves two roundings open a [`Dyadic`](dyadic::Dyadic) loses nothing.
//! They round to a [`FloatFormat`](float_format::FloatFormat) by integers, to nearest even.

pub(crate) mod ball;
pub(crate) mod dyadic;
pub(crate) mod float_format;
pub(crate) mod lanes;

use std::ops::Range;

use crate::kernels::product::Matrix;

/// What a formula is evaluated with.
pub(crate) trait Number: Clone {
    /// A finite f32.
    fn of(value: f32) -> Self;

    /// Neighbours, as many as `count` says: one, but for [`Lanes`](lanes::Lanes).
    fn load(count: usize, value: impl Fn(usize) -> f32) -> Self;

    /// The sum.
    fn plus(self, other: &Self) -> Self;

    /// The product.
    fn times(self, other: &Self) -> Self;

    /// The product with a finite f32.
    fn scaled(self, by: f32) -> Self;

    /// The sum of the products of a row of one matrix and a column of another, for some columns: as many as there are numbers
    /// in one of these.
    fn dot(left: Matrix<'_>, row: usize, right: Matrix<'_>, cols: Range<usize>) -> Self;
}
