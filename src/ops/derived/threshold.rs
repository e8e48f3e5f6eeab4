//! The magnitude of a product's k-th largest element: what is no less is kept.
//!
//! PEFT: `merge_utils.py`, `magnitude_based_pruning`, which keeps `int(density · elements)`; here those that are as large as the last of them are kept, too.
//! The product is made in f32 as deltas make it, bit for bit, and gone through twice: once for the upper halves of magnitudes, once for the lower ones of
//! those that have the k-th one's upper half. Nothing of it is kept but two tables of counts.
//!
//! The sources are `A` and `B`, whole.

use serde::{Deserialize, Serialize};

use crate::kernels::dispatch::Kernels;
use crate::kernels::product::Matrix;
use crate::ops::derived::bad_source::BadSource;
use crate::ops::derived::{DerivedFrom, Recipe};

/// The magnitude of a product's k-th largest element.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Threshold {
    /// The rank of the product.
    pub rank: usize,
    /// Of `A` and `B`, whether values of one position lie together.
    pub by_position: [bool; 2],
    /// Which element, by magnitude, counted from one; 0 for a threshold that nothing reaches.
    pub kept: u64,
}

/// Counts of the halves of magnitudes.
const HALVES: usize = 1 << 16;
/// Elements of the product that are made together, or one row.
const AT_ONCE: usize = 1 << 16;
/// Bytes of both tables, a strip and what the product is packed in.
const BESIDE: u64 = 4 << 20;

impl Threshold {
    /// The matrix `[positions, rank]` that a source holds.
    fn matrix<'s>(&self, values: &'s [f32], side: usize) -> Matrix<'s> {
        let (rank, positions) = (self.rank, values.len() / self.rank.max(1));
        let (row_stride, col_stride) = if self.by_position[side] { (rank, 1) } else { (1, positions) };
        Matrix { data: values, rows: positions, cols: rank, row_stride, col_stride }
    }

    /// The threshold.
    fn of(&self, a: &[f32], b: &[f32]) -> f32 {
        let (a, b) = (self.matrix(a, 0), self.matrix(b, 1));
        let mut upper = vec![0u64; HALVES];
        for_each_magnitude(a, b, |bits| upper[(bits >> 16) as usize] += 1);
        let Some((half, before)) = place(&upper, self.kept) else { return f32::INFINITY };
        let mut lower = vec![0u64; HALVES];
        for_each_magnitude(a, b, |bits| {
            if (bits >> 16) as usize == half {
                lower[(bits & 0xffff) as usize] += 1;
            }
        });
        let rest = place(&lower, self.kept - before).map_or(0, |(rest, _)| rest);
        f32::from_bits((half << 16 | rest) as u32)
    }
}

/// Calls `see` with the bits of the magnitude of every element of `b·aᵀ`.
fn for_each_magnitude(a: Matrix<'_>, b: Matrix<'_>, mut see: impl FnMut(u32)) {
    let kernels = Kernels::detect();
    let at_once = (AT_ONCE / a.rows.max(1)).clamp(1, b.rows.max(1));
    let mut product = vec![0.0; at_once * a.rows];
    for first in (0..b.rows).step_by(at_once) {
        let rows = at_once.min(b.rows - first);
        let strip = Matrix { data: &b.data[first * b.row_stride..], rows, ..b };
        let product = &mut product[..rows * a.rows];
        kernels.product(strip, a.transposed(), product);
        product.iter().for_each(|value| see(value.abs().to_bits()));
    }
}

/// The last place that counts reach from behind before `kept` of them, and how many are behind it; none for none.
fn place(counts: &[u64], kept: u64) -> Option<(usize, u64)> {
    let mut behind = 0;
    for (at, count) in counts.iter().enumerate().rev() {
        if *count > 0 && behind + count >= kept {
            return (kept > 0).then_some((at, behind));
        }
        behind += count;
    }
    None
}

impl Recipe for Threshold {
    fn whole(&self) -> usize {
        2
    }

    /// Both sources again, of half the size, and a row.
    fn beside_whole(&self, bytes: u64) -> u64 {
        bytes.saturating_add(BESIDE)
    }

    fn prepare(&self, whole: &mut [Vec<f64>]) {
        let [a, b] = [0, 1].map(|side| -> Vec<f32> {
            std::mem::take(&mut whole[side]).iter().map(|value| *value as f32).collect()
        });
        whole[0] = vec![f64::from(self.of(&a, &b))];
    }

    fn make(&self, _: usize, sources: &DerivedFrom<'_>, values: &mut [f32]) -> Result<(), BadSource> {
        values.fill(sources.whole[0][0] as f32);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kth_magnitude_is_found_however_factors_lie() {
        // Two neighbors in the lower half, equal ones, zeros and signs.
        let b = [1.0f32, -2.0, 1.0 + f32::EPSILON, 0.0, -1.0];
        let a = [1.0f32, -3.0];
        let mut all: Vec<f32> = b.iter().flat_map(|b| a.map(|a| (a * b).abs())).collect();
        all.sort_unstable_by(|a, b| b.total_cmp(a));
        for kept in 1..=all.len() {
            for by_position in [[true, true], [false, false], [true, false]] {
                let threshold = Threshold { rank: 1, by_position, kept: kept as u64 };
                assert_eq!(threshold.of(&a, &b), all[kept - 1], "{kept}");
            }
        }
        let none = Threshold { rank: 1, by_position: [true, true], kept: 0 };
        assert_eq!(none.of(&a, &b), f32::INFINITY);
    }

    #[test]
    fn strips_and_ranks_are_those_of_the_product() {
        let (rows, cols, rank) = (300, 700, 3);
        let value = |at: usize| ((at * 2_654_435_761) % 1009) as f32 / 504.0 - 1.0;
        let a: Vec<f32> = (0..rank * cols).map(value).collect();
        let b: Vec<f32> = (0..rows * rank).map(|at| value(at + 77)).collect();
        let mut product = vec![0.0; rows * cols];
        let kernels = Kernels::scalar();
        let right = Matrix::row_major(&a, rank, cols);
        kernels.product(Matrix::row_major(&b, rows, rank), right, &mut product);
        let mut all: Vec<f32> = product.iter().map(|value| value.abs()).collect();
        all.sort_unstable_by(|a, b| b.total_cmp(a));
        for kept in [1, 2, 1000, 100_000, rows * cols] {
            let threshold = Threshold { rank, by_position: [false, true], kept: kept as u64 };
            assert_eq!(threshold.of(&a, &b), all[kept - 1], "{kept}");
        }
    }
}
