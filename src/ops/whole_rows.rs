//! Rows of a block one by one in f64, for deltas that mix the inputs of each output.
//!
//! What becomes of a row depends on nothing but the row, so that the result does not depend on how a weight is cut.

use crate::ops::block::Block;

/// Scratch buffers that [`change_rows`] needs: what was added, a row and a spare one in f64, and what aligns them.
pub(crate) const BUFFERS: usize = 6;

/// Lanes of a sum.
const LANES: usize = 8;

/// What becomes of the row of an output: its values, and room for as many.
pub(crate) type RowChange<'c> = dyn FnMut(u64, &mut [f64], &mut [f64]) + 'c;

/// Gives every row of a window to `change`: its position, its values, and room for as many. Each is rounded to f32 once afterwards.
pub(crate) fn change_rows(block: &mut Block<'_>, change: &mut RowChange<'_>) {
    let (elements, cols) = (block.elements(), block.window.cols.len());
    for p in 0..block.window.rows.len() {
        let (start, step) = block.row(p);
        let (deltas, rest) = block.scratch.split_at_mut(elements);
        let (_, rest, _) = bytemuck::pod_align_to_mut::<f32, f64>(rest);
        let (row, spare) = rest.split_at_mut(cols);
        for (q, value) in row.iter_mut().enumerate() {
            *value = f64::from(block.values[start + q * step]);
        }
        change(block.window.rows.range.start + p as u64, row, &mut spare[..cols]);
        let deltas = &mut deltas[p * cols..(p + 1) * cols];
        for (q, (delta, new)) in deltas.iter_mut().zip(&*row).enumerate() {
            let value = &mut block.values[start + q * step];
            let new = *new as f32;
            *delta = new - *value;
            *value = new;
        }
    }
}

/// The sum of products, in eight lanes by place that are added pairwise.
pub(crate) fn dot(row: &[f64], values: &[f32]) -> f64 {
    let mut lanes = [0.0; LANES];
    for (row, values) in row.chunks(LANES).zip(values.chunks(LANES)) {
        for ((lane, row), value) in lanes.iter_mut().zip(row).zip(values) {
            *lane += row * f64::from(*value);
        }
    }
    added(lanes)
}

/// The sum of squares, likewise.
pub(crate) fn squares(row: &[f64]) -> f64 {
    let mut lanes = [0.0; LANES];
    for row in row.chunks(LANES) {
        for (lane, row) in lanes.iter_mut().zip(row) {
            *lane += row * row;
        }
    }
    added(lanes)
}

/// The sum of all lanes: one half is added to the other until one is left.
fn added(mut lanes: [f64; LANES]) -> f64 {
    let mut left = LANES;
    while left > 1 {
        left /= 2;
        for lane in 0..left {
            lanes[lane] += lanes[lane + left];
        }
    }
    lanes[0]
}
