//! Entries that are added to some elements: `W + s·S`, of a sparse `S`.
//!
//! Source: Bhardwaj et al. 2024 (arXiv:2406.13175, SHiRA). The factor runs along outputs and has pairs of a column and a value for each, in
//! the order of columns, behind which stands what no column is ([`NO_COLUMN`](crate::ops::derived::scatter::NO_COLUMN)). Entries of one element are added up.
//!
//! Rounding: once, at the end; beside a delta without a formula entries of one element are added in f32, `t = d · s`, then `value + t`.

use serde::{Deserialize, Serialize};

use crate::kernels::exact::Number;
use crate::ops::Delta;
use crate::ops::block::{Block, FactorView};
use crate::ops::formula::{Formula, Polynomial, Spot, position};

/// Entries of a sparse matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sparse;

/// The columns and values of an output.
fn row<'b>(factor: &FactorView<'b>, out: usize) -> &'b [[f32; 2]] {
    factor.from(out as u64)[..factor.inner].as_chunks().0
}

/// The value of an element's entry number `which`, if it has as many.
fn entry(factor: &FactorView<'_>, [out, input]: [usize; 2], which: usize) -> Option<f32> {
    let row = row(factor, out);
    let first = row.partition_point(|[column, _]| *column < input as f32);
    row.get(first + which).filter(|[column, _]| *column == input as f32).map(|[_, value]| *value)
}

/// Whether none of the entries is for `cols` neighboring inputs of an output, from an element on.
fn has_none(factor: &FactorView<'_>, [out, input]: [usize; 2], cols: usize) -> bool {
    let row = row(factor, out);
    let first = row.partition_point(|[column, _]| *column < input as f32);
    row.get(first).is_none_or(|[column, _]| *column >= (input + cols) as f32)
}

impl Formula for Sparse {
    #[inline(always)]
    fn apply<N: Number>(&self, spot: &Spot<'_, N>, mut running: N) -> N {
        let (factor, count) = (&spot.factors[0], spot.cols.len());
        if spot.window.rows.axis != Some(1) && has_none(factor, spot.position(0), count) {
            return running;
        }
        // What has no entry gets a zero of the sign that changes no zero.
        let none = 0.0f32.copysign(-spot.scale);
        let has = |lane, which| entry(factor, spot.position(lane), which);
        let mut which = 0;
        while (0..count).any(|lane| has(lane, which).is_some()) {
            let found = |at| entry(factor, at, which).unwrap_or(none);
            running = running.plus(&spot.gathered(found).scaled(spot.scale));
            which += 1;
        }
        running
    }
}

impl Delta for Sparse {
    fn is_added(&self) -> bool {
        true
    }

    fn polynomial(&self) -> Option<&dyn Polynomial> {
        Some(self)
    }

    fn apply(&self, block: &mut Block<'_>) {
        let factor = block.factors[0];
        let cols = block.window.cols.len();
        for p in 0..block.window.rows.len() {
            for q in 0..cols {
                let at = position(block.window, p, q);
                let of_element = (0..).map_while(|which| entry(&factor, at, which));
                block.scratch[p * cols + q] = of_element.fold(0.0, |sum, value| sum + value);
            }
        }
        block.add_scaled();
    }
}
