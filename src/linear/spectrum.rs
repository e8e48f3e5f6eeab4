//! Right singular vectors of a matrix whose rows come one by one, as often as is asked for: from `WᵀW` where that is small, else in the space that it spans
//! with a few random vectors (block Lanczos with full orthogonalization; Golub, Underwood 1977).
//!
//! The vectors of the space are those of a matrix that differs from this one by no more than 2⁻²⁷ of its largest singular value, an eighth of what f32 rounds of
//! it: `‖WᵀW·V − V·Θ‖ ≤ 2⁻²⁷·σ₁·σ`, with the last `σ` that is asked for.

use std::ops::Range;

use crate::linear::panel::{Panel, add_rows};
use crate::linear::qr::orthonormalize;
use crate::linear::sketch::random_panel;
use crate::linear::symmetric::{Eigen, eigen};

/// Vectors of the space that are added by each pass.
const BLOCK: usize = 8;
/// Columns up to which the whole of `WᵀW` is made.
const SMALL: usize = 512;
/// How near the last of the singular values and the next one may be, by the latter, in parts of the largest one over it: nearer, and f32 could not tell them apart
/// to a sixteenth of their vectors.
const APART: f64 = 1.0 / (1 << 20) as f64;
/// What is left of a vector that is one of the matrix.
const LEFT: f64 = 1.0 / (1 << 27) as f64;

/// Why there are no such vectors.
pub(crate) type NoSpectrum = &'static str;

const NEAR: NoSpectrum =
    "its singular values are too near each other where some of them are taken and others are not";
const SLOW: NoSpectrum = "its singular values cannot be told apart in the steps that are taken";

/// The vectors at some positions of the singular values, counted from the largest, as they are found.
pub(crate) struct Spectrum {
    wanted: Range<usize>,
    /// Singular values that there are, the smaller side of the matrix.
    rank: usize,
    way: Way,
}

enum Way {
    /// `WᵀW`.
    Whole(Panel),
    Space(Space),
}

impl Spectrum {
    /// Of a matrix of so many rows and columns.
    pub(crate) fn new([rows, cols]: [usize; 2], wanted: Range<usize>) -> Spectrum {
        let way = match space_blocks(cols, &wanted) {
            None => Way::Whole(Panel::zeros(cols, cols)),
            Some(most) => Way::Space(Space::new(cols, most)),
        };
        Spectrum { wanted, rank: rows.min(cols), way }
    }

    /// Bytes that are held for such a matrix.
    pub(crate) fn bytes([_, cols]: [usize; 2], wanted: Range<usize>) -> u64 {
        let square = |size: usize| Panel::bytes(size as u64, size as u64);
        match space_blocks(cols, &wanted) {
            // The matrix, its vectors and those that are wanted.
            None => 3 * square(cols),
            Some(most) => {
                let space = most * BLOCK;
                Panel::bytes(cols as u64, (space + 3 * BLOCK) as u64) + 4 * square(space)
            }
        }
    }

    /// Takes in a row.
    pub(crate) fn add(&mut self, row: &[f64]) {
        match &mut self.way {
            Way::Whole(square) => {
                for (i, value) in row.iter().enumerate().filter(|(_, value)| **value != 0.0) {
                    add_rows(square.row_mut(i), &[*value], row);
                }
            }
            Way::Space(space) => space.add(row),
        }
    }

    /// Behind the last row: the vectors, as rows, or nothing if all rows are wanted again.
    ///
    /// # Errors
    /// That there are no such vectors, and why.
    pub(crate) fn turn(&mut self) -> Result<Option<Panel>, NoSpectrum> {
        let found = match &mut self.way {
            Way::Whole(square) => {
                let square = std::mem::replace(square, Panel::zeros(0, 0));
                Some(eigen(square, self.wanted.clone()))
            }
            Way::Space(space) => space.turn(&self.wanted)?,
        };
        let Some(Eigen { values, vectors }) = found else { return Ok(None) };
        self.is_apart(&values).then_some(Some(vectors)).ok_or(NEAR)
    }

    /// Whether those that are wanted are apart from those that are not, by the squares of all.
    fn is_apart(&self, squares: &[f64]) -> bool {
        let value = |at: usize| squares.get(at).map_or(0.0, |square| square.max(0.0).sqrt());
        let ends = [self.wanted.start, self.wanted.end];
        ends.into_iter().filter(|end| (1..self.rank).contains(end)).all(|end| {
            let (above, below) = (value(end - 1), value(end));
            above == 0.0 || above - below > APART * value(0)
        })
    }
}

/// Blocks of the space that the vectors are looked for in; none where the whole is made.
fn space_blocks(cols: usize, wanted: &Range<usize>) -> Option<usize> {
    let most = 16 * wanted.len() + SMALL;
    (wanted.start == 0 && cols > most + BLOCK).then_some(most / BLOCK)
}

/// A space that grows by a block with each pass.
struct Space {
    /// Orthonormal columns.
    blocks: Vec<Panel>,
    /// `WᵀW` times the last of them.
    times: Panel,
    /// `WᵀW` in the space.
    inner: Vec<Vec<Panel>>,
    /// A row times the last block.
    product: Vec<f64>,
    most: usize,
}

impl Space {
    fn new(cols: usize, most: usize) -> Space {
        let mut first = random_panel(cols, BLOCK);
        orthonormalize(&mut first);
        let times = Panel::zeros(cols, BLOCK);
        Space { blocks: vec![first], times, inner: Vec::new(), product: vec![0.0; BLOCK], most }
    }

    fn add(&mut self, row: &[f64]) {
        let block = self.blocks.last().expect("there is a first");
        self.product.fill(0.0);
        add_rows(&mut self.product, row, block.all());
        for (i, value) in row.iter().enumerate() {
            add_rows(self.times.row_mut(i), &[*value], &self.product);
        }
    }

    /// Grows by what the pass found, or ends.
    fn turn(&mut self, wanted: &Range<usize>) -> Result<Option<Eigen>, NoSpectrum> {
        let cols = self.times.rows();
        let times = std::mem::replace(&mut self.times, Panel::zeros(cols, BLOCK));
        let mut next = times.clone();
        let column: Vec<Panel> = self.blocks.iter().map(|block| inner(block, &times)).collect();
        self.inner.push(column);
        // Twice is enough to be orthogonal; what is nothing but rounding becomes a random direction, and is made orthogonal again.
        for _ in 0..2 {
            for _ in 0..2 {
                for block in &self.blocks {
                    let part = inner(block, &next);
                    subtract(&mut next, block, &part);
                }
            }
            orthonormalize(&mut next);
        }
        let over = inner(&next, &times);
        let count = self.blocks.len();
        let is_last = count == self.most;
        if count * BLOCK > wanted.end && (is_last || count.is_multiple_of(8)) {
            let found = self.found(wanted, &over);
            if found.is_some() || is_last {
                return found.map(Some).ok_or(SLOW);
            }
        }
        self.blocks.push(next);
        Ok(None)
    }

    /// The vectors, if they are near enough; `over` is what leads out of the space.
    fn found(&self, wanted: &Range<usize>, over: &Panel) -> Option<Eigen> {
        let (count, size) = (self.blocks.len(), self.blocks.len() * BLOCK);
        let mut square = Panel::zeros(size, size);
        for (right, column) in self.inner.iter().enumerate() {
            for (left, part) in column.iter().enumerate() {
                for i in 0..BLOCK {
                    for j in 0..BLOCK {
                        square.set(left * BLOCK + i, right * BLOCK + j, part.at(i, j));
                        square.set(right * BLOCK + j, left * BLOCK + i, part.at(i, j));
                    }
                }
            }
        }
        let Eigen { values, vectors } = eigen(square, wanted.clone());
        let mut left = 0.0;
        for k in 0..vectors.rows() {
            let last = &vectors.row(k)[size - BLOCK..];
            for i in 0..BLOCK {
                let out: f64 = over.row(i).iter().zip(last).map(|(over, last)| over * last).sum();
                left += out * out;
            }
        }
        let of_last = values.get(wanted.end - 1).copied()?.max(0.0);
        if left.sqrt() > LEFT * (values[0].max(0.0) * of_last).sqrt() {
            return None;
        }
        let mut found = Panel::zeros(vectors.rows(), self.times.rows());
        for k in 0..vectors.rows() {
            let (vector, by) = (found.row_mut(k), vectors.row(k));
            for (place, block) in self.blocks.iter().enumerate().take(count) {
                let by = &by[place * BLOCK..][..BLOCK];
                for (value, row) in vector.iter_mut().zip(block.all().chunks_exact(BLOCK)) {
                    *value += row.iter().zip(by).map(|(row, by)| row * by).sum::<f64>();
                }
            }
        }
        Some(Eigen { values, vectors: found })
    }
}

/// `oneᵀ·other`.
fn inner(one: &Panel, other: &Panel) -> Panel {
    let mut sums = Panel::zeros(one.cols(), other.cols());
    for row in 0..one.rows() {
        for (i, value) in one.row(row).iter().enumerate() {
            add_rows(sums.row_mut(i), &[*value], other.row(row));
        }
    }
    sums
}

/// `from -= panel·by`.
fn subtract(from: &mut Panel, panel: &Panel, by: &Panel) {
    let mut weights = vec![0.0; panel.cols()];
    for row in 0..from.rows() {
        weights.iter_mut().zip(panel.row(row)).for_each(|(weight, value)| *weight = -value);
        add_rows(from.row_mut(row), &weights, by.all());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linear::symmetric::dot;

    /// A matrix with those singular values, and its right vectors, as rows.
    fn matrix(rows: usize, cols: usize, value: impl Fn(usize) -> f64) -> (Panel, Panel) {
        let size = rows.min(cols);
        let (mut left, mut right) = (random_panel(rows, size), random_panel(cols, size));
        orthonormalize(&mut left);
        orthonormalize(&mut right);
        let mut matrix = Panel::zeros(rows, cols);
        let mut vectors = Panel::zeros(size, cols);
        for k in 0..size {
            for row in 0..rows {
                for col in 0..cols {
                    let more = left.at(row, k) * value(k) * right.at(col, k);
                    matrix.set(row, col, matrix.at(row, col) + more);
                }
            }
            (0..cols).for_each(|col| vectors.set(k, col, right.at(col, k)));
        }
        (matrix, vectors)
    }

    fn found(matrix: &Panel, wanted: Range<usize>) -> Result<(Panel, usize), NoSpectrum> {
        let mut spectrum = Spectrum::new([matrix.rows(), matrix.cols()], wanted);
        for pass in 1.. {
            (0..matrix.rows()).for_each(|row| spectrum.add(matrix.row(row)));
            if let Some(vectors) = spectrum.turn()? {
                return Ok((vectors, pass));
            }
        }
        unreachable!("it ends")
    }

    #[test]
    fn vectors_of_any_positions_are_found() {
        for (rows, cols) in [(7, 5), (5, 7), (30, 30), (1, 4)] {
            let (matrix, right) = matrix(rows, cols, |k| 0.9f64.powi(k as i32));
            let size = rows.min(cols);
            for wanted in [0..1, 0..size / 2, size - size / 3 - 1..size, 0..size] {
                let (vectors, passes) = found(&matrix, wanted.clone()).expect("they are apart");
                assert_eq!((passes, vectors.rows()), (1, wanted.len()));
                for (k, at) in wanted.enumerate() {
                    let cosine = dot(vectors.row(k), right.row(at)).abs();
                    assert!((cosine - 1.0).abs() < 1e-9, "{rows} {cols} {at}: {cosine}");
                }
            }
        }
    }

    #[test]
    fn a_wide_matrix_is_gone_through_a_few_times() {
        let (rows, cols, wanted) = (60, 600, 0..4);
        let (matrix, right) = matrix(rows, cols, |k| 1.0 / (1.0 + k as f64));
        assert!(space_blocks(cols, &wanted).is_some());
        let (vectors, passes) = found(&matrix, wanted.clone()).expect("they are apart");
        assert!((2..=16).contains(&passes), "{passes}");
        for k in wanted {
            let cosine = dot(vectors.row(k), right.row(k)).abs();
            assert!((cosine - 1.0).abs() < 1e-12, "{k}: {cosine}");
        }
    }

    #[test]
    fn what_f32_cannot_tell_apart_is_refused() {
        let (matrix, _) = matrix(9, 9, |k| if k < 3 { 1.0 } else { 1.0 - 1e-7 * k as f64 });
        assert!(found(&matrix, 0..3).is_err() && found(&matrix, 0..9).is_ok());
        // A matrix of low rank has no others to be mixed up with.
        let (low, _) = self::matrix(9, 9, |k| if k < 3 { 1.0 } else { 0.0 });
        assert!(found(&low, 0..3).is_ok());
    }
}
