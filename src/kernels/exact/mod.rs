//! Real numbers, as far as the formulas of deltas need them: sums and products of f32 values, rounded once at the end.
//!
//! A formula is written once, over any [`Number`]: a [`Ball`](ball::Ball) is an f64 with a proven bound of its error (and
//! [`Lanes`](lanes::Lanes) several side by side, in f32 or f64), and where the bound leaves two roundings open a [`Dyadic`](dyadic::Dyadic) loses nothing.
//! They round to a [`FloatFormat`](float_format::FloatFormat) by integers, to nearest even.

pub(crate) mod ball;
pub(crate) mod dyadic;
pub(crate) mod float_format;
pub(crate) mod lanes;

use std::ops::Range;

/// What a formula is evaluated with.
pub(crate) trait Number: Clone {
    /// What shows that there can be such numbers on this CPU.
    type Cpu: Copy;
    /// A product of two factors, made or not.
    type Product<'p>: Copy;

    /// A finite f32.
    fn of(cpu: Self::Cpu, value: f32) -> Self;

    /// Neighbours, as many as `count` says, of which each lies `step` values behind the last: one, but for
    /// [`Lanes`](lanes::Lanes).
    fn load(cpu: Self::Cpu, values: &[f32], step: usize, count: usize) -> Self;

    /// Neighbours that lie anywhere.
    fn gather(cpu: Self::Cpu, count: usize, value: impl Fn(usize) -> f32) -> Self;

    /// Elements of a product: of a row, for some columns.
    fn product(cpu: Self::Cpu, product: Self::Product<'_>, row: usize, cols: Range<usize>) -> Self;

    /// The sum.
    fn plus(self, other: &Self) -> Self;

    /// The product.
    fn times(self, other: &Self) -> Self;

    /// The product with a finite f32.
    fn scaled(self, by: f32) -> Self;
}
