//! A closer value of an element that the pass leaves open: the packed factors once more, summed in f64.
//!
//! They lie in the first-level cache, where those that `settle.rs` reads lie rows apart, and few elements are still open then.
//!
//! # The bound
//!
//! With u = 2⁻²⁴, n, r, c, b, a and a′ = fl(s·a) of `body.rs`, and R ranks:
//!
//! 1. Products of two f32 are exact in f64, and none underflows. Of R sums in any order the error is at most
//!    R·2⁻⁵²·‖b‖·‖a′‖ for R < 2⁵¹ (Higham and Cauchy and Schwarz, as there).
//! 2. a′ for s·a is off by at most u·(1 + 2u)·‖b‖·‖a′‖ + ‖b‖·√R·2⁻¹⁴⁹ in all, the second for what underflows.
//! 3. r·c / n ≥ u·(1 + 2⁻²⁰)·‖b‖·‖a′‖ + u·‖b‖·2⁻⁶⁰, as r has the factor n·u·(1 + 2⁻²⁰) and c the addend 2⁻⁶⁰. So it covers 2 for
//!    R < 2¹²⁸, and (r·c / n)·R·2⁻²⁸ covers 1.
//! 4. The base is added with an error of at most 2⁻⁵³ of the sum.
//!
//! Taken is (r·c / n)·(1 + R·2⁻²⁷) + 2⁻⁵¹·|sum|, which makes up for the roundings of the bound itself as well.

use crate::kernels::exact::ball::Ball;
use crate::kernels::exact::float_format::FloatFormat;
use crate::kernels::fused::body::{PanelRow, ROWS, RowGroup};
use crate::kernels::fused::pack::roundings;

/// 2⁻²⁷ and 2⁻⁵¹.
const OF_SUMS: f64 = 1.0 / (1_u64 << 27) as f64;
const OF_BASE: f64 = 1.0 / (1_u64 << 51) as f64;

/// The code of `base`, which is finite, plus the products of a group with all its ranks, for one of its rows and columns, if the
/// bound leaves no other.
pub(crate) fn closer(
    format: FloatFormat,
    base: f32,
    group: &RowGroup<'_, f32>,
    (row, col): (usize, usize),
) -> Option<u32> {
    let rank = group.a.len();
    let sum = f64::from(base) + product(group, row, col);
    let reach = f64::from(group.rows[row]) * f64::from(group.cols.0[col]);
    let bound = reach / roundings(rank) * (1.0 + rank as f64 * OF_SUMS) + OF_BASE * sum.abs();
    Ball::within(sum, bound).round(format)
}

/// `Σ b·a′`, in four sums, as each addition would else wait for the last.
fn product(group: &RowGroup<'_, f32>, row: usize, col: usize) -> f64 {
    let term = |b: &[f32; ROWS], a: &PanelRow<f32>| f64::from(b[row]) * f64::from(a.0[col]);
    let ((b, b_rest), (a, a_rest)) = (group.b.as_chunks::<4>(), group.a.as_chunks::<4>());
    let (mut first, mut second, mut third, mut fourth) = (0.0, 0.0, 0.0, 0.0);
    for (b, a) in b.iter().zip(a) {
        first += term(&b[0], &a[0]);
        second += term(&b[1], &a[1]);
        third += term(&b[2], &a[2]);
        fourth += term(&b[3], &a[3]);
    }
    let rest: f64 = b_rest.iter().zip(a_rest).map(|(b, a)| term(b, a)).sum();
    (first + second) + (third + fourth) + rest
}
