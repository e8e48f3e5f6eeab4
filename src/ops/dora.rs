//! A low-rank product and a new length for every output: `W' = (m / ‖V‖)·V` with `V = W + s·(B·A)`, where `m` has one value
//! for every output and the norm of an output runs over all its inputs.
//!
//! Source: Liu et al. 2024 (arXiv:2402.09353), equation 5. Since PEFT 0.21 the norm is taken from the original weight,
//! whatever other adapters did before (`W' = (m/‖W + Δ‖)·(running + Δ)`); a reduction sees just that. Factors are `A [rank,
//! in]`, `B [out, rank]` and the magnitudes. Where an output is a stored column its norm needs a pass of its own.
//!
//! Rounding: `V` in f32, its square exact in f64, the sum of squares in f64 in the order of inputs (along stored rows in
//! eight lanes by column, added pairwise), `m / √sum` in f64 rounded to f32 once, the product in f32.

use serde::{Deserialize, Serialize};

use smallvec::SmallVec;

use crate::kernels::dispatch::Kernels;
use crate::ops::Delta;
use crate::ops::block::Block;
use crate::ops::block::Reduced;
use crate::ops::factor::Factor;
use crate::ops::factor_values::FactorValues;
use crate::ops::placement::Window;
use crate::ops::reduce::{ReduceBlock, Reduction};

/// A low-rank delta, and a new length for every output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dora {
    /// Whether outputs are stored columns.
    pub is_transposed: bool,
}

/// Lanes of a sum along stored rows.
const LANES: usize = 8;

/// A number for each row or column of a block; blocks of more are rare, and allocate.
type PerPosition = SmallVec<[f32; 1024]>;

impl Delta for Dora {
    fn apply(&self, block: &mut Block<'_>) {
        block.product_of(0, 1);
        let (reduced, magnitude, scale) = (block.reduced, block.factors[2], block.scale);
        let Window { rows, cols } = block.window;
        let factor = |position: u64| (f64::from(magnitude.at(position, 0)) / norm(reduced, position)) as f32;
        if magnitude.axis == rows.axis {
            let factors: PerPosition = rows.range.clone().map(factor).collect();
            block.change(|p, _, value, delta| (value + delta * scale) * factors[p]);
        } else {
            let factors: PerPosition = cols.range.clone().map(factor).collect();
            block.change(|_, q, value, delta| (value + delta * scale) * factors[q]);
        }
    }

    fn inner_dimension(&self, factors: &[Factor]) -> u64 {
        factors.first().map_or(0, |a| a.inner)
    }

    fn rank(&self, factors: &[Factor]) -> Option<u64> {
        factors.first().map(|a| a.inner)
    }

    /// A magnitude of its own acts without a delta.
    fn no_effect(&self, _: f32, _: &[FactorValues]) -> Option<&'static str> {
        None
    }

    fn reduction(&self) -> Option<&dyn Reduction> {
        Some(self)
    }
}

impl Reduction for Dora {
    fn axis(&self) -> usize {
        0
    }

    fn values(&self) -> usize {
        lanes(self.is_transposed)
    }

    fn observe(&self, block: &mut Block<'_>) {
        block.product_of(0, 1);
        block.add_scaled();
    }

    fn accumulate(&self, block: &ReduceBlock<'_>, state: &mut [f64]) {
        add_all_squares(block, state);
    }
}

/// How many sums of squares a norm is made of, by whether outputs are stored columns.
pub(crate) fn lanes(is_transposed: bool) -> usize {
    if is_transposed { 1 } else { LANES }
}

/// Adds the squares of a block to the sums of its positions.
pub(crate) fn add_all_squares(block: &ReduceBlock<'_>, state: &mut [f64]) {
    let Window { rows, cols } = block.window;
    for p in 0..rows.len() {
        let start = (rows.at + p as u64 * rows.step) as usize * block.width + cols.at as usize;
        let values = &block.values[start..];
        if rows.axis == Some(block.axis) {
            let position = (rows.range.start - block.first) as usize + p;
            add_row(block, values, &mut state[position * block.per..][..block.per]);
        } else {
            add_to_columns(block, values, state);
        }
    }
}

/// Adds the squares of a row, all of one position, to the position's lanes.
fn add_row(block: &ReduceBlock<'_>, values: &[f32], lanes: &mut [f64]) {
    let cols = &block.window.cols;
    if cols.step == 1
        && let Ok(lanes) = <&mut [f64; LANES]>::try_from(&mut *lanes)
    {
        return add_squares(block.kernels, &values[..cols.len()], cols.range.start, lanes);
    }
    for q in 0..cols.len() {
        let lane = (cols.range.start as usize + q) % block.per;
        lanes[lane] += square(values[q * cols.step as usize]);
    }
}

/// Adds the squares of a row to one position each.
fn add_to_columns(block: &ReduceBlock<'_>, values: &[f32], state: &mut [f64]) {
    let cols = &block.window.cols;
    let first = (cols.range.start - block.first) as usize;
    if cols.step == 1 && block.per == 1 {
        return block.kernels.add_squares_each(&values[..cols.len()], &mut state[first..first + cols.len()]);
    }
    // A weight that is turned round on disk: its claim took outputs for rows, and the first of their lanes does.
    let sums = state[first * block.per..].iter_mut().step_by(block.per).take(cols.len());
    for (q, sum) in sums.enumerate() {
        *sum += square(values[q * cols.step as usize]);
    }
}

fn square(value: f32) -> f64 {
    f64::from(value) * f64::from(value)
}

/// Adds squares to the lanes of a row, the first of them at column `column`.
fn add_squares(kernels: Kernels, values: &[f32], column: u64, lanes: &mut [f64; LANES]) {
    let into_lane = (column as usize) % LANES;
    let (head, rest) = values.split_at(((LANES - into_lane) % LANES).min(values.len()));
    for (lane, value) in lanes[into_lane..].iter_mut().zip(head) {
        *lane += square(*value);
    }
    kernels.add_squares(rest, lanes);
}

/// The norm of a position, from its lanes: one half is added to the other until one is left.
pub(crate) fn norm(reduced: Reduced<'_>, position: u64) -> f64 {
    let of_position = reduced.at(position);
    let mut lanes = [0.0; LANES];
    lanes[..of_position.len()].copy_from_slice(of_position);
    let mut left = of_position.len();
    while left > 1 {
        left /= 2;
        for lane in 0..left {
            lanes[lane] += lanes[lane + left];
        }
    }
    lanes[0].sqrt()
}
