//! A matrix added to a matrix: `W + s·D`, of a factor that runs along the rows of `D`.
//!
//! Rounding: once, at the end; beside a delta without a formula `t = d · s`, then `value + t`, in f32.

use serde::{Deserialize, Serialize};

use crate::kernels::exact::Number;
use crate::ops::Delta;
use crate::ops::block::Block;
use crate::ops::formula::{Formula, Polynomial, Spot};

/// A matrix that is added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddMatrix;

impl Formula for AddMatrix {
    #[inline(always)]
    fn apply<N: Number>(&self, spot: &Spot<'_, N>, running: N) -> N {
        let rows = spot.factors[0];
        let (down, along) = (&spot.window.rows, &spot.window.cols);
        let row = down.range.start + spot.row as u64;
        let column = along.range.start + spot.cols.start as u64;
        let values = if down.axis == Some(1) {
            spot.values(&rows.from(column)[row as usize * rows.inner_stride..], rows.stride)
        } else {
            spot.values(&rows.from(row)[column as usize * rows.inner_stride..], rows.inner_stride)
        };
        running.plus(&values.scaled(spot.scale))
    }
}

impl Delta for AddMatrix {
    fn polynomial(&self) -> Option<&dyn Polynomial> {
        Some(self)
    }

    fn apply(&self, block: &mut Block<'_>) {
        let rows = block.factors[0];
        let [(outs, out_step), (ins, in_step)] = block.axes();
        for (p, out) in outs.enumerate() {
            for (q, input) in ins.clone().enumerate() {
                block.scratch[p * out_step + q * in_step] = rows.at(out, input as usize);
            }
        }
        block.add_scaled();
    }
}
