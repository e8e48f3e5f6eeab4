//! A vector added to a vector: `b + s·v`, with one value for every output.
//!
//! Rounding: once, at the end; beside a delta without a formula `t = v · s`, then `value + t`, in f32.

use serde::{Deserialize, Serialize};

use crate::kernels::exact::Number;
use crate::ops::Delta;
use crate::ops::block::Block;
use crate::ops::formula::{Formula, Polynomial, Spot};

/// A vector that is added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddVector;

impl Formula for AddVector {
    #[inline(always)]
    fn apply<N: Number>(&self, spot: &Spot<'_, N>, running: N) -> N {
        let vector = spot.factors[0];
        let (first, at) = (spot.window.cols.range.start, spot.cols.start as u64);
        running.plus(&spot.values(vector.from(first + at), vector.stride).scaled(spot.scale))
    }
}

impl Delta for AddVector {
    fn polynomial(&self) -> Option<&dyn Polynomial> {
        Some(self)
    }

    fn apply(&self, block: &mut Block<'_>) {
        let positions = block.window.cols.range.clone();
        let vector = block.factors[0];
        for (value, position) in block.scratch.iter_mut().zip(positions) {
            *value = vector.at(position, 0);
        }
        block.add_scaled();
    }
}
