//! Factors as the fused pass reads them: several products laid behind one another, scales folded in, and the reach of each
//! row and column, which bounds how far the sums may be off (`body.rs`).

use crate::kernels::fused::body::{CHAIN, COLS, PanelRow, ROWS};
use crate::kernels::fused::vector::Real;
use crate::kernels::product::Matrix;

/// One product of factors and what it is multiplied by.
#[derive(Clone, Copy, Debug)]
pub struct Term<'a> {
    /// `[rows, rank]`.
    pub left: Matrix<'a>,
    /// `[rank, cols]`.
    pub right: Matrix<'a>,
    /// What the product is multiplied by.
    pub scale: f32,
}

/// The sum of the ranks.
pub(crate) fn rank_of(terms: &[Term<'_>]) -> usize {
    terms.iter().map(|term| term.left.cols).sum()
}

/// n of `body.rs`: how many roundings a product of that rank passes at most.
pub(crate) fn roundings(rank: usize) -> f64 {
    (rank.min(CHAIN) + rank.div_ceil(CHAIN)) as f64
}

/// γ′ of `body.rs`, the error of a sum of so many products by their sizes.
fn error_of_sum<T: Real>(rank: usize) -> f64 {
    let roundings = roundings(rank) * T::ROUNDING;
    roundings / (1.0 - roundings).max(0.0) * (1.0 + 1.0 / (1 << 20) as f64)
}

/// Lays out `b [rank, ROWS]` for the groups of some rows, and their reaches; rows that are missing in the last are zero.
#[inline(always)]
pub(crate) fn pack_rows<T: Real>(
    terms: &[Term<'_>],
    rows: std::ops::Range<usize>,
    groups: &mut [[T; ROWS]],
    reaches: &mut [[T; ROWS]],
) {
    let rank = rank_of(terms);
    let error = error_of_sum::<T>(rank);
    for ((group, reach), first) in groups.chunks_exact_mut(rank).zip(reaches).zip(rows.clone().step_by(ROWS))
    {
        let count = ROWS.min(rows.end - first);
        let (mut squares, mut lines) = ([0.0; ROWS], group.iter_mut());
        for Term { left, .. } in terms {
            for (k, line) in (0..left.cols).zip(&mut lines) {
                let start = first * left.row_stride + k * left.col_stride;
                *line = [T::default(); ROWS];
                // All rows in turn, as each sum of squares would else wait for its last addition.
                for i in 0..count {
                    let value = left.data[start + i * left.row_stride];
                    line[i] = T::of(value);
                    squares[i] += f64::from(value) * f64::from(value);
                }
            }
        }
        *reach = squares.map(|squares| reach_of::<T>(squares.sqrt() * error, squares == 0.0));
    }
}

/// A size, rounded up; nothing reaches from what is all zero.
fn reach_of<T: Real>(size: f64, is_zero: bool) -> T {
    if is_zero { T::default() } else { T::upper(size + T::UNDERFLOW) }
}

/// Lays out `s·a [rank, COLS]` for a panel of columns, and their reaches; columns that are missing are zero.
#[inline(always)]
pub(crate) fn pack_panel<T: Real>(
    terms: &[Term<'_>],
    cols: std::ops::Range<usize>,
    panel: &mut [PanelRow<T>],
    reach: &mut PanelRow<T>,
) {
    let (mut squares, mut any) = ([0.0_f64; COLS], [0_u32; COLS]);
    let (mut lines, mut row) = (panel.iter_mut(), [0.0; COLS]);
    for Term { right, scale, .. } in terms {
        for (k, line) in (0..right.rows).zip(&mut lines) {
            read_row(*right, k, &cols, &mut row);
            let columns = line.0.iter_mut().zip(&row).zip(&mut squares).zip(&mut any);
            for (((value, read), squares), any) in columns {
                *any |= read.to_bits() << 1;
                *value = T::of(*read).times(*scale);
                *squares += value.double() * value.double();
            }
        }
    }
    for ((reach, squares), any) in reach.0.iter_mut().zip(squares).zip(any) {
        *reach = reach_of(squares.sqrt(), any == 0);
    }
}

/// Some columns of a row, and zeros behind.
#[inline(always)]
fn read_row(matrix: Matrix<'_>, row: usize, cols: &std::ops::Range<usize>, out: &mut [f32; COLS]) {
    let start = row * matrix.row_stride + cols.start * matrix.col_stride;
    let count = cols.len();
    if matrix.col_stride == 1 {
        out[..count].copy_from_slice(&matrix.data[start..start + count]);
    } else {
        let values = matrix.data[start..].iter().step_by(matrix.col_stride);
        out[..count].iter_mut().zip(values).for_each(|(to, value)| *to = *value);
    }
    out[count..].fill(0.0);
}
