//! The bodies that add: a delta to a tile, squares to sums, and what is left of a delta after rounding. Compiled per CPU by
//! `dispatch.rs`.

use super::Survived;

/// Lanes of a sum of f64: independent of each other, and the same for every CPU.
pub(super) const LANES: usize = 8;

/// Multiplies, rounds, adds, rounds; leaves the product in `delta`. Rust never fuses the two, and the pinned arithmetic
/// forbids it: the result would depend on whether the CPU has the instruction.
#[inline(always)]
pub(super) fn add_scaled(acc: &mut [f32], delta: &mut [f32], scale: f32) {
    for (acc, delta) in acc.iter_mut().zip(delta) {
        *delta *= scale;
        *acc += *delta;
    }
}

/// Adds squares, exact in f64, to lanes; the first value to the first lane.
#[inline(always)]
pub(super) fn add_squares(values: &[f32], lanes: &mut [f64; LANES]) {
    let (eights, tail) = values.as_chunks::<LANES>();
    for eight in eights {
        for (lane, value) in lanes.iter_mut().zip(eight) {
            *lane += f64::from(*value) * f64::from(*value);
        }
    }
    for (lane, value) in lanes.iter_mut().zip(tail) {
        *lane += f64::from(*value) * f64::from(*value);
    }
}

/// Adds the square of each value, exact in f64, to the sum at its place.
#[inline(always)]
pub(super) fn add_squares_each(values: &[f32], sums: &mut [f64]) {
    for (sum, value) in sums.iter_mut().zip(values) {
        *sum += f64::from(*value) * f64::from(*value);
    }
}

/// Sums over a delta and what became of it; see [`super::Kernels::survived`].
#[inline(always)]
pub(super) fn survived(values: &[f32], before: &[f32], still: &[f32], delta: &[f32]) -> Survived {
    let (mut arrived, mut squares) = ([0.0f64; LANES], [0.0f64; LANES]);
    let (mut nonzero, mut unmoved) = ([0u32; LANES], [0u32; LANES]);
    let mut add = |values: &[f32], before: &[f32], still: &[f32], delta: &[f32]| {
        for i in 0..delta.len() {
            let wide = f64::from(delta[i]);
            arrived[i] += wide * f64::from(values[i] - before[i]);
            squares[i] += wide * wide;
            let counts = u32::from(delta[i] != 0.0);
            nonzero[i] += counts;
            unmoved[i] += counts & u32::from(values[i] == still[i]);
        }
    };
    let whole = delta.len() / LANES * LANES;
    let chunks = values.as_chunks::<LANES>().0.iter().zip(before.as_chunks::<LANES>().0);
    let chunks = chunks.zip(still.as_chunks::<LANES>().0).zip(delta.as_chunks::<LANES>().0);
    for (((values, before), still), delta) in chunks {
        add(values, before, still, delta);
    }
    add(&values[whole..], &before[whole..], &still[whole..], &delta[whole..]);
    Survived {
        arrived: arrived.iter().sum(),
        squares: squares.iter().sum(),
        nonzero: nonzero.iter().map(|n| u64::from(*n)).sum(),
        unmoved: unmoved.iter().map(|n| u64::from(*n)).sum(),
    }
}
