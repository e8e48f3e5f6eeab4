//! A new length for every output behind another delta: `W' = (m / ‖V‖)·V`, where `V` is `W` with that delta added, and the norm of an
//! output runs over all its inputs: [`Dora`](crate::ops::dora::Dora) of what is no product of two factors.
//!
//! Source: lycoris-lora 4.1 `functional/general.py`, `weight_decompose`. The magnitudes are the last factor; those before it are the
//! delta's.
//!
//! Rounding: `V` as the delta's own arithmetic in f32 has it, the norm as DoRA's, `m / norm` in f64 rounded to f32 once, the product in f32.

use serde::{Deserialize, Serialize};

use crate::ops::block::Block;
use crate::ops::dora::{add_all_squares, lanes, norm};
use crate::ops::factor::{Factor, FactorValues};
use crate::ops::reduce::{ReduceBlock, Reduction};
use crate::ops::{Delta, DeltaKind};

/// Another delta, and a new length for every output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rescaled {
    /// What is added first.
    pub added: DeltaKind,
}

impl Rescaled {
    /// Adds the delta to a block.
    fn add(&self, block: &mut Block<'_>) {
        let factors = block.factors.split_last().map_or(&[][..], |(_, own)| own);
        let Block { original, width, window, scale, reduced, kernels, .. } = *block;
        let (values, scratch) = (&mut *block.values, &mut *block.scratch);
        self.added.delta().apply(&mut Block {
            values,
            original,
            width,
            window,
            factors,
            scale,
            reduced,
            scratch,
            kernels,
        });
    }

    fn own(factors: &[Factor]) -> &[Factor] {
        factors.split_last().map_or(&[], |(_, own)| own)
    }
}

impl Delta for Rescaled {
    fn apply(&self, block: &mut Block<'_>) {
        self.add(block);
        let (reduced, magnitude) = (block.reduced, block.factors[block.factors.len() - 1]);
        let factor = |position: u64| (f64::from(magnitude.at(position, 0)) / norm(reduced, position)) as f32;
        let (rows, cols) = (block.window.rows.clone(), block.window.cols.len());
        let of_rows = magnitude.axis == rows.axis;
        for p in 0..rows.len() {
            let (start, step) = block.row(p);
            let of_row = of_rows.then(|| factor(rows.range.start + p as u64));
            for q in 0..cols {
                let by = of_row.unwrap_or_else(|| factor(block.window.cols.range.start + q as u64));
                let value = &mut block.values[start + q * step];
                block.scratch[p * cols + q] += *value * by - *value;
                *value *= by;
            }
        }
    }

    fn scratch_buffers(&self) -> usize {
        self.added.delta().scratch_buffers()
    }

    fn inner_dimension(&self, factors: &[Factor]) -> u64 {
        self.added.delta().inner_dimension(Rescaled::own(factors))
    }

    fn rank(&self, factors: &[Factor]) -> Option<u64> {
        self.added.delta().rank(Rescaled::own(factors))
    }

    /// A magnitude of its own acts without a delta.
    fn no_effect(&self, _: f32, _: &[FactorValues]) -> Option<&'static str> {
        None
    }

    fn reduction(&self) -> Option<&dyn Reduction> {
        Some(self)
    }
}

impl Reduction for Rescaled {
    fn axis(&self) -> usize {
        0
    }

    fn values(&self) -> usize {
        lanes(false)
    }

    fn observe(&self, block: &mut Block<'_>) {
        self.add(block);
    }

    fn accumulate(&self, block: &ReduceBlock<'_>, state: &mut [f64]) {
        add_all_squares(block, state);
    }
}
