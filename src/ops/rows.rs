//! Rows in place of rows: `W[index_j] = row_j`, of a factor that runs along the rows of a matrix.

use serde::{Deserialize, Serialize};

use crate::kernels::exact::Number;
use crate::ops::Delta;
use crate::ops::block::Block;
use crate::ops::factor_values::FactorValues;
use crate::ops::formula::{Formula, Polynomial, Spot};

/// Rows that replace others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplaceRows;

impl Formula for ReplaceRows {
    #[inline(always)]
    fn apply<N: Number>(&self, spot: &Spot<'_, N>, _: N) -> N {
        let rows = spot.factors[0];
        spot.gathered(|[row, column]| rows.at(row as u64, column))
    }
}

impl Delta for ReplaceRows {
    fn polynomial(&self) -> Option<&dyn Polynomial> {
        Some(self)
    }

    fn apply(&self, block: &mut Block<'_>) {
        let rows = block.factors[0];
        let (down, along) = (&block.window.rows, &block.window.cols);
        let (first_row, first_col) = (down.range.start, along.range.start);
        let is_row = down.axis == Some(0);
        block.change(|p, q, _, _| {
            let (p, q) = (first_row + p as u64, first_col + q as u64);
            let (row, column) = if is_row { (p, q) } else { (q, p) };
            rows.at(row, column as usize)
        });
    }

    /// Rows are values, zeros too.
    fn no_effect(&self, _: f32, _: &[FactorValues]) -> Option<&'static str> {
        None
    }
}
