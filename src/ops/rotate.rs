//! A rotation of rows: `W·blockdiag(R)ᵀ`, block by block, or `W·blockdiag(R)`.
//!
//! Source: Qiu et al. 2023 (arXiv:2306.07280), equation 3, and Qiu et al. 2025 (arXiv:2506.19847) for the series. A row of
//! the factor `[blocks, b(b−1)/2]` is the part above the diagonal of a skew `Q`, which may first be shortened to a length.
//! Then either `R = (I − Q)(I + Q)⁻¹`, or a series that goes the other way: `I + 2Q + 2Q² + … + Qⁿ⁻¹` of `n` terms, where
//! three are no fewer than four, two are `I + 2Q` and less is `I`. One block may serve all of a row. There is no scale;
//! rotations work on what those before them left.
//!
//! Rounding: `R` in f64, rounded to f32 once when the factor is read; the product in f32 over the whole block. The scratch
//! that this takes is behind the blocks, in the factor's own slot.

use serde::{Deserialize, Serialize};

use crate::kernels::product::Matrix;
use crate::ops::access::Access;
use crate::ops::block::Block;
use crate::ops::factor::Factor;
use crate::ops::{Delta, Preparation};

/// A rotation of rows.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rotate {
    /// How `R` is made of `Q`.
    pub cayley: Cayley,
    /// Rows of a block.
    pub side: usize,
    /// Blocks that there are.
    pub blocks: usize,
    /// Elements of a row.
    pub width: usize,
    /// Whether rows are multiplied by the blocks and not by their transposes.
    pub is_embedding: bool,
}

/// The Cayley transform: exact, or by a series.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cayley {
    /// Terms of the series; none for the exact rotation.
    pub series: Option<usize>,
    /// What `Q` is shortened to, times the root of the number of blocks, if it is.
    pub eps: Option<f64>,
}

/// Rows of a rotation that are made at a time.
const ROWS: usize = 8;

impl Rotate {
    /// Values of the factor in memory: the blocks, and behind them what makes them, a matrix of f32, or of f64 that starts
    /// at a whole one.
    pub(crate) fn prepared_len(&self) -> u64 {
        let block = (self.side * self.side) as u64;
        let scratch = if self.cayley.series.is_some() { block } else { 2 * block + 1 };
        self.blocks as u64 * block + scratch
    }

    /// Rotates the block of columns from `first` on, of all rows of the window.
    fn rotate_columns(&self, block: &mut Block<'_>, first: usize) {
        let (rows, cols) = (block.window.rows.len(), block.window.cols.len());
        let (side, size) = (self.side, self.side * self.side);
        let r = &block.factors[0].data[first / side % self.blocks * size..][..size];
        let r = Matrix::row_major(r, side, side);
        let r = if self.is_embedding { r } else { r.transposed() };
        let (start, col_stride) = block.row(0);
        let row_stride = block.window.rows.step as usize * block.width;
        let values = &mut block.values[start + first * col_stride..];
        let (delta, rotated) = block.scratch.split_at_mut(rows * cols);
        let rotated = &mut rotated[..rows * side];
        let old = Matrix { data: values, rows, cols: side, row_stride, col_stride };
        block.kernels.product(old, r, rotated);
        for (p, rotated) in rotated.chunks_exact(side).enumerate() {
            let delta = &mut delta[p * cols + first..][..side];
            for (q, (delta, new)) in delta.iter_mut().zip(rotated).enumerate() {
                let value = &mut values[p * row_stride + q * col_stride];
                *delta = new - *value;
                *value = *new;
            }
        }
    }
}

impl Delta for Rotate {
    fn apply(&self, block: &mut Block<'_>) {
        let cols = block.window.cols.len();
        assert_eq!(cols, self.width, "the op asked for whole rows");
        for first in (0..cols).step_by(self.side) {
            self.rotate_columns(block, first);
        }
    }

    fn access(&self) -> Access {
        Access::Rows
    }

    fn scratch_buffers(&self) -> usize {
        2
    }

    fn inner_dimension(&self, _: &[Factor]) -> u64 {
        self.side as u64
    }

    fn preparation(&self) -> Option<&dyn Preparation> {
        Some(self)
    }
}

impl Preparation for Rotate {
    fn prepare(&self, values: &mut [f32]) {
        let Rotate { cayley, side, blocks, .. } = *self;
        let (rotations, scratch) = values.split_at_mut(blocks * side * side);
        let packed = side * (side - 1) / 2;
        // From the last block to the first: each ends behind all that is packed before it.
        for block in (0..blocks).rev() {
            let skew = &rotations[block * packed..(block + 1) * packed];
            let shrink = cayley.eps.map_or(1.0, |eps| shrink(skew, eps / (blocks as f64).sqrt()));
            let at = block * side * side;
            match cayley.series {
                Some(terms) => {
                    let dense = &mut scratch[..side * side];
                    unpack(skew, side, |i, value| dense[i] = value);
                    series(dense, side, shrink, terms, &mut rotations[at..at + side * side]);
                }
                None => {
                    let (_, dense, _) = bytemuck::pod_align_to_mut::<f32, f64>(scratch);
                    let dense = &mut dense[..side * side];
                    // I − Q
                    unpack(skew, side, |i, value| dense[i] = -f64::from(value) * shrink);
                    exact(dense, side, &mut rotations[at..at + side * side]);
                }
            }
        }
    }
}

/// What `Q` is multiplied by to be no longer than `most`. Its length is that of both its halves.
fn shrink(skew: &[f32], most: f64) -> f64 {
    let half: f64 = skew.iter().map(|&value| f64::from(value) * f64::from(value)).sum();
    let length = (2.0 * half).sqrt();
    if length > most { most / length } else { 1.0 }
}

/// Gives every element of the skew matrix to `put`: its index, and its value; zeros on the diagonal.
fn unpack(packed: &[f32], side: usize, mut put: impl FnMut(usize, f32)) {
    let mut packed = packed.iter();
    for row in 0..side {
        put(row * side + row, 0.0);
        for col in row + 1..side {
            let value = *packed.next().expect("as many as there are above the diagonal");
            put(row * side + col, value);
            put(col * side + row, -value);
        }
    }
}

/// The series of `shrink · skew`, some rows at a time, by Horner's rule: row `i` is
/// `((eᵢ·Q·c + eᵢ·c')·Q + …)`, with powers of one matrix only, which is f32 as the file has it.
fn series(skew: &[f32], side: usize, shrink: f64, terms: usize, rotation: &mut [f32]) {
    let highest = match terms {
        0 | 1 => 0,
        2 => 1,
        terms => (terms - 1).max(3),
    };
    // The highest power has 1, but where it is the second term; the others 2, and the identity 1.
    let coefficient = |power: usize| if power == 0 || (power == highest && power > 1) { 1.0 } else { 2.0 };
    let (mut sums, mut next) = (vec![0.0; ROWS * side], vec![0.0; ROWS * side]);
    for (chunk, rotation) in rotation.chunks_mut(ROWS * side).enumerate() {
        let (sums, next) = (&mut sums[..rotation.len()], &mut next[..rotation.len()]);
        let diagonal = |row: usize| row * side + chunk * ROWS + row;
        let rows = rotation.len() / side;
        sums.fill(0.0);
        (0..rows).for_each(|row| sums[diagonal(row)] = coefficient(highest));
        for power in (0..highest).rev() {
            next.fill(0.0);
            for (k, skew) in skew.chunks_exact(side).enumerate() {
                for (sums, next) in sums.chunks_exact(side).zip(next.chunks_exact_mut(side)) {
                    let factor = sums[k] * shrink;
                    if factor != 0.0 {
                        next.iter_mut().zip(skew).for_each(|(next, q)| *next += factor * f64::from(*q));
                    }
                }
            }
            sums.copy_from_slice(next);
            (0..rows).for_each(|row| sums[diagonal(row)] += coefficient(power));
        }
        rotation.iter_mut().zip(sums.iter()).for_each(|(to, sum)| *to = *sum as f32);
    }
}

/// The exact rotation of `Q`, given `−Q` without its diagonal: `(I − Q)(I + Q)⁻¹ = 2·(I + Q)⁻¹ − I`, whose row `i` is
/// `2x − eᵢ` with `(I − Q)·x = eᵢ`, as `I − Q` is the transpose of `I + Q`. Elimination with the largest pivots; no skew `Q`
/// makes `I − Q` singular.
pub(crate) fn exact(matrix: &mut [f64], side: usize, rotation: &mut [f32]) {
    (0..side).for_each(|i| matrix[i * side + i] += 1.0);
    let mut order: Vec<usize> = (0..side).collect();
    for k in 0..side {
        let size = |row: usize| matrix[row * side + k].abs();
        let best = (k + 1..side).fold(k, |best, row| if size(row) > size(best) { row } else { best });
        order.swap(k, best);
        let (above, below) = matrix.split_at_mut((k + 1) * side);
        let pivot = &mut above[k * side..];
        if best > k {
            pivot.swap_with_slice(&mut below[(best - k - 1) * side..(best - k) * side]);
        }
        for row in below.chunks_exact_mut(side) {
            let factor = row[k] / pivot[k];
            row[k] = factor;
            if factor != 0.0 {
                row[k + 1..]
                    .iter_mut()
                    .zip(&pivot[k + 1..])
                    .for_each(|(value, pivot)| *value -= factor * pivot);
            }
        }
    }
    let mut x = vec![0.0; side];
    for (i, rotation) in rotation.chunks_exact_mut(side).enumerate() {
        for (row, factors) in matrix.chunks_exact(side).enumerate() {
            let known: f64 = factors[..row].iter().zip(&x).map(|(factor, x)| factor * x).sum();
            x[row] = f64::from(u8::from(order[row] == i)) - known;
        }
        for (row, factors) in matrix.chunks_exact(side).enumerate().rev() {
            let known: f64 = factors[row + 1..].iter().zip(&x[row + 1..]).map(|(factor, x)| factor * x).sum();
            x[row] = (x[row] - known) / factors[row];
        }
        for (j, (to, x)) in rotation.iter_mut().zip(&x).enumerate() {
            *to = (2.0 * x - f64::from(u8::from(i == j))) as f32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers between -1 and 1 times `size`.
    fn packed(blocks: usize, side: usize, size: f32) -> Vec<f32> {
        let mut state = 88172645463325252u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state % 2001) as f32 / 1000.0 - 1.0
        };
        (0..blocks * side * (side - 1) / 2).map(|_| size * next()).collect()
    }

    type Square = Vec<Vec<f64>>;

    fn times(a: &Square, b: &Square) -> Square {
        let n = a.len();
        let element = |i: usize, j: usize| (0..n).map(|k| a[i][k] * b[k][j]).sum();
        (0..n).map(|i| (0..n).map(|j| element(i, j)).collect()).collect()
    }

    fn plus(a: &Square, b: &Square, factor: f64) -> Square {
        a.iter().zip(b).map(|(a, b)| a.iter().zip(b).map(|(a, b)| a + factor * b).collect()).collect()
    }

    fn identity(n: usize) -> Square {
        (0..n).map(|i| (0..n).map(|j| f64::from(u8::from(i == j))).collect()).collect()
    }

    fn skew(packed: &[f32], side: usize, factor: f64) -> Square {
        let mut square = vec![vec![0.0; side]; side];
        let above = (0..side).flat_map(|i| (i + 1..side).map(move |j| (i, j)));
        for ((i, j), &value) in above.zip(packed) {
            (square[i][j], square[j][i]) = (f64::from(value) * factor, -f64::from(value) * factor);
        }
        square
    }

    fn largest(a: &Square) -> f64 {
        a.iter().flatten().fold(0.0, |most, value| value.abs().max(most))
    }

    /// What `prepare` makes of packed blocks.
    fn prepared(cayley: Cayley, side: usize, packed: &[f32]) -> Vec<Square> {
        let blocks = packed.len() / (side * (side - 1) / 2);
        let rotate = Rotate { cayley, side, blocks, width: blocks * side, is_embedding: false };
        let prepared_len = rotate.prepared_len() as usize;
        // At both evennesses, as a slot's start is not a multiple of eight by itself.
        let mut all = Vec::new();
        for skip in [0, 1] {
            let mut values = vec![f32::NAN; skip + prepared_len];
            values[skip..skip + packed.len()].copy_from_slice(packed);
            rotate.prepare(&mut values[skip..]);
            all.push(values[skip..skip + blocks * side * side].to_vec());
        }
        assert_eq!(all[0], all[1]);
        let row = |row: &[f32]| row.iter().map(|&value| f64::from(value)).collect();
        all[0].chunks(side * side).map(|block| block.chunks(side).map(row).collect()).collect()
    }

    #[test]
    fn the_series_is_that_of_peft() {
        // Sides around the rows that are made at a time, and one block or several.
        for (side, blocks) in [(2, 5), (3, 1), (7, 2), (8, 3), (9, 2), (17, 1)] {
            let packed = packed(blocks, side, 0.2);
            for terms in 0..=9 {
                let cayley = Cayley { series: Some(terms), eps: None };
                let made = prepared(cayley, side, &packed);
                for (made, packed) in made.iter().zip(packed.chunks(side * (side - 1) / 2)) {
                    // As PEFT's loop has it.
                    let q = skew(packed, side, 1.0);
                    let mut r = identity(side);
                    if terms > 1 {
                        r = plus(&r, &q, 2.0);
                    }
                    if terms > 2 {
                        let mut power = times(&q, &q);
                        r = plus(&r, &power, 2.0);
                        for _ in 3..(terms - 1).max(3) {
                            power = times(&power, &q);
                            r = plus(&r, &power, 2.0);
                        }
                        r = plus(&r, &times(&power, &q), 1.0);
                    }
                    let off = largest(&plus(made, &r, -1.0));
                    assert!(off <= largest(&r) * 2f64.powi(-24), "{side} {terms}: {off}");
                }
            }
        }
    }

    #[test]
    fn the_exact_rotation_solves_its_equation() {
        // Larger elements than the identity's need other pivots than those on the diagonal.
        for (side, blocks, size) in [(2, 3, 0.1), (3, 2, 40.0), (8, 2, 1.0), (17, 2, 300.0), (33, 1, 0.01)] {
            let packed = packed(blocks, side, size);
            let made = prepared(Cayley { series: None, eps: None }, side, &packed);
            for (r, packed) in made.iter().zip(packed.chunks(side * (side - 1) / 2)) {
                let (q, one) = (skew(packed, side, 1.0), identity(side));
                let (plus_q, minus_q) = (plus(&one, &q, 1.0), plus(&one, &q, -1.0));
                let unit = 2f64.powi(-24);
                let off = largest(&plus(&times(r, &plus_q), &minus_q, -1.0));
                assert!(off <= side as f64 * unit * largest(&plus_q), "{side} {size}: {off}");
                let turned: Square = (0..side).map(|i| r.iter().map(|row| row[i]).collect()).collect();
                let off = largest(&plus(&times(r, &turned), &one, -1.0));
                assert!(off <= 2.0 * side as f64 * unit, "{side} {size}: no rotation, by {off}");
            }
        }
    }

    #[test]
    fn a_constraint_shortens_what_is_longer() {
        let (side, blocks) = (4, 3);
        let mut packed = packed(blocks, side, 0.5);
        packed[6..12].iter_mut().for_each(|value| *value *= 1e-3); // the second block is short already
        let eps = 0.1;
        for series in [Some(5), None] {
            let made = prepared(Cayley { series, eps: Some(eps) }, side, &packed);
            for (i, (r, packed)) in made.iter().zip(packed.chunks(6)).enumerate() {
                let length = packed.iter().map(|q| 2.0 * f64::from(*q).powi(2)).sum::<f64>().sqrt();
                let most = eps / 3f64.sqrt();
                let factor = if length > most { most / length } else { 1.0 };
                assert_eq!(factor == 1.0, i == 1);
                let q = skew(packed, side, factor);
                let q2 = times(&q, &q);
                // To the second order, with the sign that each kind has.
                let sign = if series.is_some() { 2.0 } else { -2.0 };
                let near = plus(&plus(&identity(side), &q, sign), &q2, 2.0);
                assert!(largest(&plus(r, &near, -1.0)) < 3.0 * most.powi(3));
            }
        }
    }
}
