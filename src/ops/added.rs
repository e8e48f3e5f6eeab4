//! Values added to values of the same places: `W + s·D`, of a factor that runs along the first axis, and has for each of its positions the
//! values of the second; of a vector one.
//!
//! Rounding: once, at the end; beside a delta without a formula `t = d · s`, then `value + t`, in f32.

use serde::{Deserialize, Serialize};

use crate::kernels::exact::Number;
use crate::ops::Delta;
use crate::ops::block::Block;
use crate::ops::formula::{Formula, Polynomial, Spot};

/// Values that are added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Added;

impl Formula for Added {
    #[inline(always)]
    fn apply<N: Number>(&self, spot: &Spot<'_, N>, running: N) -> N {
        let factor = spot.factors[0];
        let (down, along) = (&spot.window.rows, &spot.window.cols);
        let row = down.range.start + spot.row as u64;
        let column = along.range.start + spot.cols.start as u64;
        let values = if along.axis == factor.axis {
            spot.values(&factor.from(column)[row as usize * factor.inner_stride..], factor.stride)
        } else {
            spot.values(&factor.from(row)[column as usize * factor.inner_stride..], factor.inner_stride)
        };
        running.plus(&values.scaled(spot.scale))
    }
}

impl Delta for Added {
    fn is_added(&self) -> bool {
        true
    }

    fn polynomial(&self) -> Option<&dyn Polynomial> {
        Some(self)
    }

    fn apply(&self, block: &mut Block<'_>) {
        let factor = block.factors[0];
        let (rows, cols) = (block.window.rows.range.clone(), block.window.cols.range.clone());
        let (is_along, width) = (block.window.cols.axis == factor.axis, block.window.cols.len());
        for (p, row) in rows.enumerate() {
            for (q, col) in cols.clone().enumerate() {
                let at = if is_along { (col, row as usize) } else { (row, col as usize) };
                block.scratch[p * width + q] = factor.at(at.0, at.1);
            }
        }
        block.add_scaled();
    }
}
