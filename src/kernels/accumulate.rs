//! The bodies that add: a delta to a tile, squares to sums, and what is left of a delta after rounding. Compiled per CPU by
//! `dispatch.rs`.

use crate::kernels::outcome::RetentionSums;

/// Lanes of a sum of f64: independent of each other, and the same for every CPU.
pub(crate) const LANES: usize = 8;

/// Multiplies, rounds, adds, rounds; leaves the product in `delta`. Rust never fuses the two, and the pinned arithmetic
/// forbids it: the result would depend on whether the CPU has the instruction.
#[inline(always)]
pub(crate) fn add_scaled(acc: &mut [f32], delta: &mut [f32], scale: f32) {
    for (acc, delta) in acc.iter_mut().zip(delta) {
        *delta *= scale;
        *acc += *delta;
    }
}

/// Adds squares, exact in f64, to lanes; the first value to the first lane.
#[inline(always)]
pub(crate) fn add_squares(values: &[f32], lanes: &mut [f64; LANES]) {
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
pub(crate) fn add_squares_each(values: &[f32], sums: &mut [f64]) {
    for (sum, value) in sums.iter_mut().zip(values) {
        *sum += f64::from(*value) * f64::from(*value);
    }
}

/// Elements that are summed in f32 before the sum goes on in f64: enough to be fast, few enough to be exact to 2⁻²¹.
pub(crate) const RUN: usize = 8 * LANES;

/// Sums over a delta and what became of it; see [`crate::kernels::dispatch::Kernels::retention_sums`].
#[inline(always)]
pub(crate) fn retention_sums(values: &[f32], before: &[f32], still: &[f32], delta: &[f32]) -> RetentionSums {
    let mut sums = RetentionSums::default();
    let runs = values.chunks(RUN).zip(before.chunks(RUN)).zip(still.chunks(RUN)).zip(delta.chunks(RUN));
    for (((values, before), still), delta) in runs {
        let mut run = Run::default();
        let (values, values_tail) = values.as_chunks::<LANES>();
        let (before, before_tail) = before.as_chunks::<LANES>();
        let (still, still_tail) = still.as_chunks::<LANES>();
        let (delta, delta_tail) = delta.as_chunks::<LANES>();
        for (((values, before), still), delta) in values.iter().zip(before).zip(still).zip(delta) {
            run.add(values, before, still, delta);
        }
        if !delta_tail.is_empty() {
            // Zeros at the end count as no element.
            run.add(&padded(values_tail), &padded(before_tail), &padded(still_tail), &padded(delta_tail));
        }
        sums.arrived += f64::from(total(run.arrived));
        sums.squares += f64::from(total(run.squares));
        sums.still_squares += f64::from(total(run.still_squares));
        sums.nonzero += run.nonzero.iter().map(|n| u64::from(*n)).sum::<u64>();
        sums.unchanged += run.unchanged.iter().map(|n| u64::from(*n)).sum::<u64>();
    }
    sums
}

#[inline(always)]
fn padded(tail: &[f32]) -> [f32; LANES] {
    let mut eight = [0.0; LANES];
    eight[..tail.len()].copy_from_slice(tail);
    eight
}

/// The sum of eight lanes, pair by pair.
#[inline(always)]
pub(crate) fn total([a, b, c, d, e, f, g, h]: [f32; LANES]) -> f32 {
    ((a + e) + (c + g)) + ((b + f) + (d + h))
}

/// The sums of a run, lane by lane.
#[derive(Default)]
struct Run {
    arrived: [f32; LANES],
    squares: [f32; LANES],
    still_squares: [f32; LANES],
    nonzero: [u32; LANES],
    unchanged: [u32; LANES],
}

impl Run {
    #[inline(always)]
    fn add(
        &mut self,
        values: &[f32; LANES],
        before: &[f32; LANES],
        still: &[f32; LANES],
        delta: &[f32; LANES],
    ) {
        for i in 0..LANES {
            self.arrived[i] += delta[i] * (values[i] - before[i]);
            self.squares[i] += delta[i] * delta[i];
            self.still_squares[i] += still[i] * still[i];
            let is_one = u32::from(delta[i] != 0.0);
            self.nonzero[i] += is_one;
            self.unchanged[i] += is_one & u32::from(values[i] == still[i]);
        }
    }
}
