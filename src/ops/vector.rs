//! A vector added to a vector: `b + s·v`, with one value for every output.
//!
//! Rounding: `t = v · s`, then `value + t`, in f32.

use serde::{Deserialize, Serialize};

use crate::ops::Delta;
use crate::ops::block::Block;

/// A vector that is added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddVector;

impl Delta for AddVector {
    fn apply(&self, block: &mut Block<'_>) {
        let positions = block.window.cols.range.clone();
        let vector = block.factors[0];
        for (value, position) in block.scratch.iter_mut().zip(positions) {
            *value = vector.at(position, 0);
        }
        block.add_scaled();
    }
}
