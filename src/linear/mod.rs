//! Matrices that are few columns wide: a random sketch of a larger one, orthonormal columns, a small singular value decomposition,
//! and the best product of two factors that they come to; the spectrum of a symmetric matrix; and what solves a square one.
//!
//! Everything is f64 in a fixed order of sums, of additions, products, quotients and square roots alone, which IEEE 754 rounds in one
//! way: the same bytes on every CPU. Nothing here knows files, threads or adapters.

pub(crate) mod low_rank;
pub(crate) mod lu;
pub(crate) mod panel;
pub(crate) mod qr;
pub(crate) mod sketch;
pub(crate) mod spectrum;
pub(crate) mod svd;
pub(crate) mod symmetric;
