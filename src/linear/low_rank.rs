//! [`LowRankSketch`]: the best product of two factors of a matrix that passes twice, piece by piece.
//!
//! In the first pass `Y = D·Ω` is summed, with a random Ω of a few columns more than the rank; Q are orthonormal columns that span what Y
//! does. In the second `Dᵀ·Q` is. Its decomposition is that of `Q·Qᵀ·D`, which is D but for what no column of Q sees
//! (Halko, Martinsson, Tropp 2011, algorithm 5.1). A sum over columns, and in the second pass over rows, runs from the first to the last,
//! whatever the pieces.

use crate::linear::panel::{Panel, add_rows};
use crate::linear::qr::orthonormalize;
use crate::linear::sketch::random_panel;
use crate::linear::svd::{SmallSvd, svd};

/// Columns of a sketch beyond the rank.
const OVERSAMPLED: u64 = 10;
/// A sketch has whole vectors of columns.
const WHOLE: u64 = 8;
/// Rows and columns of a block of the second pass, whose columns are turned into rows.
const BLOCK_ROWS: usize = 64;
const BLOCK_COLS: usize = 128;

/// Rows and columns of a matrix, and the rank of the product that is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SketchSize {
    /// Rows.
    pub(crate) rows: usize,
    /// Columns.
    pub(crate) cols: usize,
    /// Rank: it may be larger than what the matrix can have.
    pub(crate) rank: usize,
}

impl SketchSize {
    /// Columns of the sketch.
    fn width(self) -> u64 {
        let wanted = (self.rank as u64 + OVERSAMPLED).next_multiple_of(WHOLE);
        wanted.min(self.rows as u64).min(self.cols as u64)
    }

    /// The most bytes that a sketch and its factors take at once.
    pub(crate) fn bytes(self) -> u64 {
        let (rows, cols) = (self.rows as u64, self.cols as u64);
        let (width, rank) = (self.width(), self.rank as u64);
        let factor = rows.max(cols).saturating_mul(rank).saturating_mul(size_of::<f32>() as u64);
        let small = Panel::bytes(width, width).saturating_mul(6);
        Panel::bytes(rows + cols, width).saturating_add(factor).saturating_add(small)
    }
}

/// A piece of a matrix: some columns of some rows, row by row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MatrixPiece<'v> {
    /// The first row.
    pub(crate) row: usize,
    /// The first column.
    pub(crate) col: usize,
    /// Columns.
    pub(crate) cols: usize,
    /// The values.
    pub(crate) values: &'v [f64],
}

/// The first pass.
pub(crate) struct LowRankSketch {
    size: SketchSize,
    random: Panel,
    sketch: Panel,
}

impl LowRankSketch {
    /// Of a matrix of that size.
    pub(crate) fn new(size: SketchSize) -> LowRankSketch {
        let width = size.width() as usize;
        let (random, sketch) = (random_panel(size.cols, width), Panel::zeros(size.rows, width));
        LowRankSketch { size, random, sketch }
    }

    /// Adds a piece. Those of a row come in the order of its columns.
    pub(crate) fn add(&mut self, piece: MatrixPiece<'_>) {
        let random = self.random.some_rows(piece.col, piece.cols);
        for (i, row) in piece.values.chunks_exact(piece.cols.max(1)).enumerate() {
            add_rows(self.sketch.row_mut(piece.row + i), row, random);
        }
    }

    /// What the second pass adds to.
    pub(crate) fn spanned(self) -> SpannedMatrix {
        let LowRankSketch { size, random, sketch: mut basis } = self;
        drop(random);
        orthonormalize(&mut basis);
        let width = basis.cols();
        SpannedMatrix { size, basis, across: Panel::zeros(size.cols, width) }
    }
}

/// The second pass.
pub(crate) struct SpannedMatrix {
    size: SketchSize,
    basis: Panel,
    /// The transpose of the matrix times the basis.
    across: Panel,
}

impl SpannedMatrix {
    /// Adds a piece. Those of a column come in the order of its rows.
    pub(crate) fn add(&mut self, piece: MatrixPiece<'_>) {
        let cols = piece.cols.max(1);
        let mut turned = vec![0.0; BLOCK_ROWS * BLOCK_COLS];
        for (block, rows) in piece.values.chunks(BLOCK_ROWS * cols).enumerate() {
            let (first, count) = (piece.row + block * BLOCK_ROWS, rows.len() / cols);
            let basis = self.basis.some_rows(first, count);
            for start in (0..piece.cols).step_by(BLOCK_COLS) {
                let width = BLOCK_COLS.min(piece.cols - start);
                for (i, row) in rows.chunks_exact(cols).enumerate() {
                    for (j, value) in row[start..start + width].iter().enumerate() {
                        turned[j * BLOCK_ROWS + i] = *value;
                    }
                }
                for (j, column) in turned.chunks_exact(BLOCK_ROWS).take(width).enumerate() {
                    add_rows(self.across.row_mut(piece.col + start + j), &column[..count], basis);
                }
            }
        }
    }

    /// The best product.
    pub(crate) fn factors(self) -> LowRankFactors {
        let SpannedMatrix { size, basis: mut left, across: mut right } = self;
        let triangle = orthonormalize(&mut right);
        let SmallSvd { left: of_right, values, right: of_left } = svd(&triangle);
        left.times(&of_left);
        right.times(&of_right);
        LowRankFactors { rank: size.rank, left, right, values }
    }
}

/// `left·diag(values)·rightᵀ`, of which the first values are kept.
pub(crate) struct LowRankFactors {
    rank: usize,
    left: Panel,
    right: Panel,
    values: Vec<f64>,
}

impl LowRankFactors {
    /// Σ s² of the singular values that are kept: ‖·‖² of the product.
    pub(crate) fn square(&self) -> f64 {
        self.values.iter().take(self.rank).map(|value| value * value).sum()
    }

    /// The factor `[rows, rank]`: `left·√values`, with zeros where the rank is larger than the matrix has.
    pub(crate) fn tall(&self) -> Vec<f32> {
        self.side(&self.left, |place, k| place * self.rank + k)
    }

    /// The factor `[rank, cols]`: `√values·rightᵀ`.
    pub(crate) fn wide(&self) -> Vec<f32> {
        let cols = self.right.rows();
        self.side(&self.right, |place, k| k * cols + place)
    }

    fn side(&self, panel: &Panel, at: impl Fn(usize, usize) -> usize) -> Vec<f32> {
        let mut factor = vec![0.0; panel.rows() * self.rank];
        let roots: Vec<f64> = self.values.iter().take(self.rank).map(|value| value.sqrt()).collect();
        for place in 0..panel.rows() {
            for (k, (root, value)) in roots.iter().zip(panel.row(place)).enumerate() {
                factor[at(place, k)] = (root * value) as f32;
            }
        }
        factor
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A matrix whose values are the sum of as many products as the rank, and a little more.
    fn matrix(rows: usize, cols: usize, rank: usize, noise: f64) -> Vec<f64> {
        let (a, b) = (random_panel(rows, rank), random_panel(cols, rank + 1));
        let rest = random_panel(rows * cols, 1);
        let value = |i: usize, j: usize| {
            let sum: f64 = (0..rank).map(|k| a.at(i, k) * b.at(j, k + 1) / (1.0 + k as f64)).sum();
            sum + noise * rest.at(i * cols + j, 0)
        };
        (0..rows * cols).map(|at| value(at / cols, at % cols)).collect()
    }

    fn factors(values: &[f64], size: SketchSize, (high, wide): (usize, usize)) -> LowRankFactors {
        let each = |add: &mut dyn FnMut(MatrixPiece<'_>)| {
            for row in (0..size.rows).step_by(high) {
                for col in (0..size.cols).step_by(wide) {
                    let (rows, cols) = (high.min(size.rows - row), wide.min(size.cols - col));
                    let piece: Vec<f64> = (row..row + rows)
                        .flat_map(|row| values[row * size.cols + col..][..cols].to_vec())
                        .collect();
                    add(MatrixPiece { row, col, cols, values: &piece });
                }
            }
        };
        let mut sketch = LowRankSketch::new(size);
        each(&mut |piece| sketch.add(piece));
        let mut spanned = sketch.spanned();
        each(&mut |piece| spanned.add(piece));
        spanned.factors()
    }

    /// ‖D - B·A‖² / ‖D‖².
    fn rest(values: &[f64], size: SketchSize, factors: &LowRankFactors) -> f64 {
        let (b, a) = (factors.tall(), factors.wide());
        let product = |i: usize, j: usize| -> f64 {
            (0..size.rank).map(|k| f64::from(b[i * size.rank + k]) * f64::from(a[k * size.cols + j])).sum()
        };
        let (mut error, mut all) = (0.0, 0.0);
        for (at, value) in values.iter().enumerate() {
            error += (value - product(at / size.cols, at % size.cols)).powi(2);
            all += value * value;
        }
        error / all
    }

    #[test]
    fn what_has_the_rank_is_given_back() {
        for (rows, cols, of, rank) in
            [(30, 50, 4, 4), (90, 40, 4, 6), (5, 70, 5, 8), (6, 3, 2, 2), (1, 1, 1, 1), (150, 300, 16, 16)]
        {
            let size = SketchSize { rows, cols, rank };
            let values = matrix(rows, cols, of, 0.0);
            let found = factors(&values, size, (rows, cols));
            let rest = rest(&values, size, &found);
            assert!(rest < 1e-13, "{size:?}: {rest}");
            let square: f64 = values.iter().map(|value| value * value).sum();
            assert!((found.square() / square - 1.0).abs() < 1e-12, "{size:?}");
        }
    }

    #[test]
    fn what_is_kept_is_what_the_product_has() {
        let size = SketchSize { rows: 80, cols: 60, rank: 5 };
        let values = matrix(80, 60, 9, 0.05);
        let found = factors(&values, size, (80, 60));
        let square: f64 = values.iter().map(|value| value * value).sum();
        let (kept, rest) = (found.square() / square, rest(&values, size, &found));
        assert!(kept < 0.999 && kept > 0.9, "{kept}");
        assert!((1.0 - kept - rest).abs() < 1e-6, "{kept} {rest}");
    }

    #[test]
    fn pieces_change_no_bit() {
        let size = SketchSize { rows: 130, cols: 300, rank: 7 };
        let values = matrix(130, 300, 20, 0.1);
        let whole = factors(&values, size, (130, 300));
        for pieces in [(1, 300), (1, 17), (64, 300), (100, 300)] {
            let cut = factors(&values, size, pieces);
            assert_eq!((cut.tall(), cut.wide()), (whole.tall(), whole.wide()), "{pieces:?}");
            assert_eq!(cut.square(), whole.square());
        }
    }

    #[test]
    fn the_bytes_are_those_of_the_largest_panels() {
        let size = SketchSize { rows: 8192, cols: 3072, rank: 16 };
        assert_eq!(size.width(), 32);
        assert!(size.bytes() > 8 * 32 * (8192 + 3072) && size.bytes() < 4_000_000, "{}", size.bytes());
        assert_eq!(SketchSize { rows: 3, cols: 5, rank: 16 }.width(), 3);
    }
}
