//! A new length for every output, or for every input, behind another delta: `W' = (m / ‖V‖)·V`, where `V` is `W` with that delta added. The norm of an
//! output runs over all its inputs, as [`Dora`](crate::ops::dora::Dora) has it of a product of two factors; that of an input over all outputs and the kernel.
//!
//! Source: lycoris-lora 4.1 `functional/general.py`, `weight_decompose`. The magnitudes are the last factor; those before it are the
//! delta's.
//!
//! Rounding: `V` as the delta's own arithmetic in f32 has it, the norm as DoRA's, `m / norm` in f64 rounded to f32 once, the product in f32.

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::ops::block::{Block, FactorView, Reduced};
use crate::ops::dora::{add_all_squares, lanes, norm};
use crate::ops::factor::Factor;
use crate::ops::factor_values::FactorValues;
use crate::ops::reduce::{ReduceBlock, Reduction};
use crate::ops::{Delta, DeltaKind};

/// Another delta, and a new length for every output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rescaled {
    /// What is added first.
    pub added: DeltaKind,
    /// Places of the kernel, where inputs have the lengths: the magnitudes are then a whole factor.
    pub inputs: Option<usize>,
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

    /// What a position of the axis with lengths is multiplied by.
    fn factor(&self, reduced: Reduced<'_>, magnitude: &FactorView<'_>, position: u64) -> f32 {
        let Some(kernel) = self.inputs.map(|kernel| kernel as u64) else {
            return (f64::from(magnitude.at(position, 0)) / norm(reduced, position)) as f32;
        };
        let input = position / kernel;
        // All of an input are there: sums of columns are known before any tile is written, and where rows are inputs there is no kernel.
        let squares = (input * kernel..(input + 1) * kernel).map(|place| reduced.at(place)[0]);
        (f64::from(magnitude.at(magnitude.first, input as usize)) / squares.sum::<f64>().sqrt()) as f32
    }

    fn own(factors: &[Factor]) -> &[Factor] {
        factors.split_last().map_or(&[], |(_, own)| own)
    }
}

impl Delta for Rescaled {
    fn apply(&self, block: &mut Block<'_>) {
        self.add(block);
        let (reduced, magnitude) = (block.reduced, block.factors[block.factors.len() - 1]);
        let (rows, cols) = (block.window.rows.clone(), block.window.cols.clone());
        let on_rows = rows.axis == Some(self.axis());
        let range = if on_rows { rows.range.clone() } else { cols.range.clone() };
        let factors: SmallVec<[f32; 1024]> =
            range.map(|position| self.factor(reduced, &magnitude, position)).collect();
        for p in 0..rows.len() {
            let (start, step) = block.row(p);
            for q in 0..cols.len() {
                let by = factors[if on_rows { p } else { q }];
                let value = &mut block.values[start + q * step];
                block.scratch[p * cols.len() + q] += *value * by - *value;
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
        usize::from(self.inputs.is_some())
    }

    fn values(&self) -> usize {
        lanes(self.inputs.is_some())
    }

    fn observe(&self, block: &mut Block<'_>) {
        self.add(block);
    }

    fn accumulate(&self, block: &ReduceBlock<'_>, state: &mut [f64]) {
        add_all_squares(block, state);
    }
}
