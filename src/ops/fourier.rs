//! A matrix of few frequencies: `W + s·Re(F⁻¹(S))`, of the inverse transform of a sparse `S` over both axes.
//!
//! Source: Gao et al. 2024 (arXiv:2405.03003, FourierFT). `Δ[y, x] = s/(out·in)·Σ S[r, c]·cos(2π(r·y/out + c·x/in))`. The factor has for each row of `S` pairs
//! of a column and a value, as [`Sparse`](crate::ops::sparse::Sparse) has them. For each stored row the entries are brought to one frequency of the other
//! axis each, and these are transformed back: a mixed-radix transform in the order of Stockham, which takes any length.
//!
//! Rounding: twiddles from sines and cosines of their own ([`crate::kernels::circle`]), all else in f64, and the sum with what was there to f32 once. A row
//! depends on no other.

use serde::{Deserialize, Serialize};

use crate::kernels::circle::of_circle;
use crate::ops::access::Access;
use crate::ops::block::Block;
use crate::ops::derived::scatter::NO_COLUMN;
use crate::ops::{Delta, Preparation};

/// A matrix of few frequencies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fourier {
    /// Outputs and inputs.
    pub size: [usize; 2],
    /// Values that the factor has for each row: two for each entry of the fullest.
    pub width: usize,
    /// Whether inputs are stored rows.
    pub is_transposed: bool,
}

impl Fourier {
    /// Values of the factor in memory: the entries, and the twiddles of a stored row in f64, which start at a whole one.
    pub(crate) fn prepared_len(&self) -> u64 {
        (self.size[0] * self.width + 4 * self.along() + 1) as u64
    }

    /// Elements of a stored row.
    fn along(&self) -> usize {
        self.size[usize::from(!self.is_transposed)]
    }

    /// Adds up the frequencies of a stored row, as real and imaginary parts by turns.
    fn gather(&self, entries: &[f32], position: u64, sums: &mut [f64]) {
        sums.fill(0.0);
        for (row, of_row) in entries.chunks_exact(self.width).enumerate() {
            for &[column, value] in of_row.as_chunks().0.iter().take_while(|[column, _]| *column < NO_COLUMN)
            {
                let (frequency, fixed, whole) = if self.is_transposed {
                    (row, column as u64, self.size[1] as u64)
                } else {
                    (column as usize, row as u64, self.size[0] as u64)
                };
                let turns = (u128::from(fixed) * u128::from(position) % u128::from(whole)) as u64;
                let [cos, sin] = of_circle(turns, whole);
                sums[2 * frequency] += f64::from(value) * cos;
                sums[2 * frequency + 1] += f64::from(value) * sin;
            }
        }
    }
}

/// Transforms `values` back, real and imaginary parts by turns, without the division by their number. `spare` has room for as many.
fn transform(values: &mut [f64], spare: &mut [f64], twiddles: &[f64]) {
    let len = values.len() / 2;
    let (mut from, mut to) = (values, spare);
    let (mut left, mut apart, mut swaps) = (len, 1, 0);
    while left > 1 {
        let radix = smallest_factor(left);
        let rows = left / radix;
        for k in 0..rows {
            for t in 0..radix {
                let [turn_cos, turn_sin] = twiddle(twiddles, k * t * apart, len);
                for q in 0..apart {
                    let [mut re, mut im] = [0.0; 2];
                    for r in 0..radix {
                        let at = 2 * (q + apart * (k + rows * r));
                        let [cos, sin] = twiddle(twiddles, r * t % radix * (len / radix), len);
                        re += from[at] * cos - from[at + 1] * sin;
                        im += from[at] * sin + from[at + 1] * cos;
                    }
                    let at = 2 * (q + apart * (radix * k + t));
                    to[at] = re * turn_cos - im * turn_sin;
                    to[at + 1] = re * turn_sin + im * turn_cos;
                }
            }
        }
        (from, to) = (to, from);
        (left, apart, swaps) = (rows, apart * radix, swaps + 1);
    }
    // After an odd number of exchanges the result is in what was spare.
    if swaps % 2 == 1 {
        to.copy_from_slice(from);
    }
}

/// The cosine and the sine of `part / len` of a circle.
fn twiddle(twiddles: &[f64], part: usize, len: usize) -> [f64; 2] {
    let at = 2 * (part % len);
    [twiddles[at], twiddles[at + 1]]
}

/// The smallest number above one that divides another.
fn smallest_factor(number: usize) -> usize {
    (2..)
        .take_while(|factor| factor * factor <= number)
        .find(|factor| number.is_multiple_of(*factor))
        .unwrap_or(number)
}

impl Delta for Fourier {
    fn is_added(&self) -> bool {
        true
    }

    fn apply(&self, block: &mut Block<'_>) {
        let (cols, along) = (block.window.cols.len(), self.along());
        assert_eq!(cols, along, "the op asked for whole rows");
        let (entries, behind) = block.factors[0].data.split_at(self.size[0] * self.width);
        let (_, twiddles, _) = bytemuck::pod_align_to::<f32, f64>(behind);
        let (elements, divisor) = (block.elements(), (self.size[0] * self.size[1]) as f64);
        for p in 0..block.window.rows.len() {
            let (start, step) = block.row(p);
            let (deltas, rest) = block.scratch.split_at_mut(elements);
            let (_, rest, _) = bytemuck::pod_align_to_mut::<f32, f64>(rest);
            let (sums, spare) = rest[..4 * along].split_at_mut(2 * along);
            self.gather(entries, block.window.rows.range.start + p as u64, sums);
            transform(sums, spare, twiddles);
            for (q, delta) in deltas[p * cols..(p + 1) * cols].iter_mut().enumerate() {
                let value = &mut block.values[start + q * step];
                let new = (f64::from(*value) + sums[2 * q] / divisor * f64::from(block.scale)) as f32;
                *delta = new - *value;
                *value = new;
            }
        }
    }

    fn access(&self) -> Access {
        Access::Rows
    }

    /// Beside the change, two rows of complex numbers in f64, and what aligns them.
    fn scratch_buffers(&self) -> usize {
        10
    }

    fn preparation(&self) -> Option<&dyn Preparation> {
        Some(self)
    }
}

impl Preparation for Fourier {
    fn prepare(&self, values: &mut [f32]) {
        let along = self.along();
        let (_, behind) = values.split_at_mut(self.size[0] * self.width);
        let (_, twiddles, _) = bytemuck::pod_align_to_mut::<f32, f64>(behind);
        for (part, twiddle) in twiddles[..2 * along].as_chunks_mut().0.iter_mut().enumerate() {
            *twiddle = of_circle(part as u64, along as u64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transform_of_any_length_is_the_sum_that_it_stands_for() {
        for len in [1usize, 2, 3, 4, 6, 7, 9, 12, 15, 16, 30, 43, 86, 128] {
            let values: Vec<f64> = (0..2 * len).map(|i| ((i * 29 % 17) as f64 - 8.0) / 5.0).collect();
            let twiddles: Vec<f64> = (0..len as u64).flat_map(|part| of_circle(part, len as u64)).collect();
            let (mut made, mut spare) = (values.clone(), vec![f64::NAN; 2 * len]);
            transform(&mut made, &mut spare, &twiddles);
            for x in 0..len {
                let [mut re, mut im] = [0.0; 2];
                for c in 0..len {
                    let (sin, cos) = ((c * x) as f64 / len as f64 * std::f64::consts::TAU).sin_cos();
                    re += values[2 * c] * cos - values[2 * c + 1] * sin;
                    im += values[2 * c] * sin + values[2 * c + 1] * cos;
                }
                let off = (made[2 * x] - re).abs().max((made[2 * x + 1] - im).abs());
                assert!(off < 1e-11, "{x} of {len}: {off:e}");
            }
        }
    }
}
