//! Factors as the fused pass reads them: several products laid behind one another, scales folded in, and the reach of each
//! row and column, which bounds how far the sums may be off (`body.rs`).

use crate::kernels::fused::body::{CHAIN, COLS, PanelRow, ROWS};
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

/// What a reach has besides, for what underflows.
const UNDERFLOW: f64 = 1.0 / (1_u64 << 60) as f64;

/// γ′ of `body.rs`, the error of a sum of so many products by their sizes.
fn error_of_sum(rank: usize) -> f64 {
    let roundings = (rank.min(CHAIN) + rank.div_ceil(CHAIN)) as f64 / (1 << 24) as f64;
    roundings / (1.0 - roundings).max(0.0) * (1.0 + 1.0 / (1 << 20) as f64)
}

/// Rounded up to f32.
fn upper(value: f64) -> f32 {
    (value as f32).next_up()
}

/// Lays out `b [rank, ROWS]` for the groups of some rows, and their reaches; rows that are missing in the last are zero.
#[inline(always)]
pub(crate) fn pack_rows(
    terms: &[Term<'_>],
    rows: std::ops::Range<usize>,
    groups: &mut [[f32; ROWS]],
    reaches: &mut [[f32; ROWS]],
) {
    let rank = rank_of(terms);
    let error = error_of_sum(rank);
    for ((group, reach), first) in groups.chunks_exact_mut(rank).zip(reaches).zip(rows.clone().step_by(ROWS))
    {
        group.fill([0.0; ROWS]);
        reach.fill(0.0);
        for i in 0..ROWS.min(rows.end - first) {
            let mut squares = 0.0;
            let mut lines = group.iter_mut();
            for Term { left, .. } in terms {
                for (k, line) in (0..left.cols).zip(&mut lines) {
                    let value = left.at(first + i, k);
                    line[i] = value;
                    squares += f64::from(value) * f64::from(value);
                }
            }
            if squares > 0.0 {
                reach[i] = upper(squares.sqrt() * error + UNDERFLOW);
            }
        }
    }
}

/// Lays out `s·a [rank, COLS]` for a panel of columns, and their reaches; columns that are missing are zero.
#[inline(always)]
pub(crate) fn pack_panel(
    terms: &[Term<'_>],
    cols: std::ops::Range<usize>,
    panel: &mut [PanelRow],
    reach: &mut PanelRow,
) {
    let (mut squares, mut any) = ([0.0_f64; COLS], [0_u32; COLS]);
    let mut lines = panel.iter_mut();
    for Term { right, scale, .. } in terms {
        for (k, line) in (0..right.rows).zip(&mut lines) {
            read_row(*right, k, &cols, &mut line.0);
            for ((value, squares), any) in line.0.iter_mut().zip(&mut squares).zip(&mut any) {
                *any |= value.to_bits() << 1;
                *value *= scale;
                *squares += f64::from(*value) * f64::from(*value);
            }
        }
    }
    for ((reach, squares), any) in reach.0.iter_mut().zip(squares).zip(any) {
        *reach = if any == 0 { 0.0 } else { upper(squares.sqrt() + UNDERFLOW) };
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
