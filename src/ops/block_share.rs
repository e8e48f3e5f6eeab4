//! Blocks of what is there times a small matrix, and that matrix: `W + W·M + M`, block by block of `[side, side]`.
//!
//! Source: Kang and Yin 2024 (arXiv:2409.15371), "bat". All blocks of the same outputs have one matrix; the factor is `[blocks, side, side]`, as many
//! blocks as make up the outputs. It works on what deltas before it left.
//!
//! Rounding: the products of a row in f64, in the order of a block's inputs, and their sum with what was there, rounded to f32 once.

use serde::{Deserialize, Serialize};

use crate::ops::Delta;
use crate::ops::access::Access;
use crate::ops::block::Block;
use crate::ops::whole_rows::{BUFFERS, change_rows};

/// A share by blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockShare {
    /// Rows and columns of a block.
    pub side: usize,
}

impl Delta for BlockShare {
    fn apply(&self, block: &mut Block<'_>) {
        let (side, matrices) = (self.side, block.factors[0].data);
        change_rows(block, &mut |out, row, spare| {
            let (of_out, within) = (out as usize / side, out as usize % side);
            let matrix = &matrices[of_out * side * side..][..side * side];
            spare.copy_from_slice(row);
            for (new, old) in row.chunks_exact_mut(side).zip(spare.chunks_exact(side)) {
                for (k, new) in new.iter_mut().enumerate() {
                    let terms = old.iter().enumerate().map(|(j, old)| old * f64::from(matrix[j * side + k]));
                    *new += terms.sum::<f64>() + f64::from(matrix[within * side + k]);
                }
            }
        });
    }

    fn access(&self) -> Access {
        Access::Rows
    }

    fn scratch_buffers(&self) -> usize {
        BUFFERS
    }
}
