//! Elements whose rounding the fused pass leaves open, and the reference: one element at a time, from the formula itself.

use crate::kernels::exact::Number;
use crate::kernels::exact::ball::Ball;
use crate::kernels::exact::dyadic::Dyadic;
use crate::kernels::exact::float_format::FloatFormat;
use crate::kernels::fused::made::Factors;
use crate::kernels::fused::pack::Term;

/// The code of an element: `base`, which is finite, plus the products of all terms for a row and a column, rounded once to
/// nearest even. A sum of zero is +0.
pub(crate) fn settle(format: FloatFormat, base: f32, terms: &[Term<'_>], row: usize, col: usize) -> u32 {
    let near: Ball = element(base, terms, row, col);
    near.round(format).unwrap_or_else(|| element::<Dyadic>(base, terms, row, col).round(format))
}

/// `base + Σ scale · Σ left·right`.
fn element<N>(base: f32, terms: &[Term<'_>], row: usize, col: usize) -> N
where
    N: for<'p> Number<Cpu = (), Product<'p> = Factors<'p>>,
{
    terms.iter().fold(N::of((), base), |sum, Term { left, right, scale }| {
        let factors = Factors { left: *left, right: *right };
        sum.plus(&N::product((), factors, row, col..col + 1).scaled(*scale))
    })
}
