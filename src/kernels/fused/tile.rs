//! The walk over a rectangle of codes: panels of columns, groups of rows, and what is open in each group.

#![expect(unsafe_code, reason = "functions compiled for CPU features may be called only where they exist")]

use std::ops::Range;

use crate::kernels::exact::float_format::FloatFormat;
use crate::kernels::fused::body;
use crate::kernels::fused::body::{COLS, OpenBits, PanelRow, RANK_STEP, ROWS, RowGroup, ValueRows};
use crate::kernels::fused::closer::closer;
use crate::kernels::fused::code::HalfCode;
use crate::kernels::fused::pack::{Term, pack_panel, pack_rows, rank_of};
use crate::kernels::fused::settle::settle;
use crate::kernels::fused::vector::CodeVector;
use crate::kernels::outcome::Narrowed;

/// Bytes of a code.
const WIDTH: usize = 2;
/// Values of the left factors that are packed at once, where a group of rows takes no more: 256 KiB.
const PACKED: usize = 1 << 16;

/// A rectangle of codes, changed in place.
#[derive(Debug)]
pub struct Codes<'c> {
    /// From the first code on.
    pub bytes: &'c mut [u8],
    /// Bytes from one row to the next.
    pub stride: usize,
    /// Number of rows.
    pub rows: usize,
    /// Number of columns.
    pub cols: usize,
    /// What products are added to where the codes do not hold it, row-major without gaps. The codes are these values rounded then,
    /// so that it shows which of them products change.
    pub values: Option<&'c [f32]>,
}

impl<'c> Codes<'c> {
    /// Panics unless the rectangle and all terms have the same sizes.
    pub(crate) fn check(&self, terms: &[Term<'_>]) {
        let last = self.rows.saturating_sub(1) * self.stride + self.cols * WIDTH;
        assert!(self.rows == 0 || last <= self.bytes.len(), "the rectangle must lie in its bytes");
        let is_whole = self.values.is_none_or(|values| values.len() == self.rows * self.cols);
        assert!(is_whole, "there must be a value for each code");
        for Term { left, right, .. } in terms {
            assert_eq!((left.rows, right.cols), (self.rows, self.cols), "a product must cover the rectangle");
            assert_eq!(left.cols, right.rows, "factors must have one rank");
            assert!(left.is_within_data() && right.is_within_data(), "factors must lie in their data");
        }
    }

    fn start(&self, row: usize, col: usize) -> usize {
        row * self.stride + col * WIDTH
    }

    /// The values from an element on, and elements from one row to the next.
    fn values_from(&self, row: usize, col: usize) -> Option<ValueRows<'c>> {
        self.values.map(|values| (&values[row * self.cols + col..], self.cols))
    }

    /// What products are added to at an element.
    fn base(&self, format: FloatFormat, row: usize, col: usize) -> Base {
        let start = self.start(row, col);
        let code = u32::from(u16::from_le_bytes([self.bytes[start], self.bytes[start + 1]]));
        let value = match self.values {
            Some(values) => Some(values[row * self.cols + col]).filter(|value| value.is_finite()),
            None => format.is_finite(code).then(|| format.value(code)),
        };
        Base { code, value }
    }

    /// Puts a code in place of the base's, and counts it.
    fn replace(
        &mut self,
        format: FloatFormat,
        (row, col): (usize, usize),
        (base, new): (Base, u32),
        narrowed: &mut Narrowed,
    ) {
        let start = self.start(row, col);
        self.bytes[start..start + WIDTH].copy_from_slice(&(new as u16).to_le_bytes());
        narrowed.changed += u64::from(new != base.code);
        narrowed.finite &= format.is_finite(new) || base.value.is_none();
    }

    /// Settles one element in place.
    fn settle_one(
        &mut self,
        format: FloatFormat,
        terms: &[Term<'_>],
        (row, col): (usize, usize),
        narrowed: &mut Narrowed,
    ) {
        let base = self.base(format, row, col);
        let new = match base.value {
            Some(value) => settle(format, value, terms, row, col),
            None => format.quiet(base.code),
        };
        self.replace(format, (row, col), (base, new), narrowed);
    }
}

/// What products are added to: the code that is there, and its value, if it is finite.
#[derive(Clone, Copy)]
struct Base {
    code: u32,
    value: Option<f32>,
}

/// What the fused pass writes to beside the codes.
#[derive(Debug)]
pub struct FusedScratch {
    panel: Vec<PanelRow<f32>>,
    groups: Vec<[f32; ROWS]>,
    reaches: Vec<[f32; ROWS]>,
    /// Sums of products, where ranks are cut: for each group as many rows.
    sums: Vec<PanelRow<f32>>,
}

impl FusedScratch {
    /// Enough for terms whose ranks add up to `rank`.
    pub fn new(rank: usize) -> FusedScratch {
        let groups = group_lines(rank).checked_div(rank).unwrap_or(0);
        FusedScratch {
            panel: vec![PanelRow::zero(); rank],
            groups: vec![[0.0; ROWS]; groups * rank],
            reaches: vec![[0.0; ROWS]; groups],
            sums: vec![PanelRow::zero(); sum_rows(rank, groups)],
        }
    }

    /// Bytes of it.
    pub fn bytes(rank: usize) -> usize {
        let groups = group_lines(rank).checked_div(rank).unwrap_or(0);
        let panel_rows = rank + sum_rows(rank, groups);
        panel_rows * size_of::<PanelRow<f32>>() + (rank + 1) * groups * size_of::<[f32; ROWS]>()
    }
}

/// Rows of sums for so many groups.
fn sum_rows(rank: usize, groups: usize) -> usize {
    if rank > RANK_STEP { groups * ROWS } else { 0 }
}

/// Lines of all groups that are packed at once: of one at the least, and of no more than 256 rows.
fn group_lines(rank: usize) -> usize {
    let groups = (PACKED / ROWS).checked_div(rank).unwrap_or(0);
    rank * groups.clamp(1, 256 / ROWS)
}

/// Merges element by element: the reference.
pub(crate) fn reference(format: FloatFormat, codes: &mut Codes<'_>, terms: &[Term<'_>]) -> Narrowed {
    let mut narrowed = Narrowed { finite: true, changed: 0 };
    for row in 0..codes.rows {
        for col in 0..codes.cols {
            codes.settle_one(format, terms, (row, col), &mut narrowed);
        }
    }
    narrowed
}

/// Merges with vectors: `N` at a time along a row.
///
/// # Safety
/// As for [`Vector`](crate::kernels::fused::vector::Vector).
#[inline(always)]
pub(crate) unsafe fn merge<V: CodeVector, C: HalfCode, const N: usize>(
    codes: &mut Codes<'_>,
    terms: &[Term<'_>],
    scratch: &mut FusedScratch,
) -> Narrowed {
    let mut narrowed = Narrowed { finite: true, changed: 0 };
    let rank = rank_of(terms);
    if rank == 0 {
        return narrowed;
    }
    // Scratch for a higher rank has lines for more groups than it has reaches.
    let packed = (scratch.groups.len() / rank).min(scratch.reaches.len()) * ROWS;
    for top in (0..codes.rows).step_by(packed) {
        let rows = top..(top + packed).min(codes.rows);
        pack_rows(terms, rows.clone(), &mut scratch.groups, &mut scratch.reaches);
        for left in (0..codes.cols).step_by(COLS) {
            let part = PanelPart { rows: rows.clone(), cols: left..(left + COLS).min(codes.cols) };
            // SAFETY: the caller's promise.
            unsafe { merge_panel::<V, C, N>(&part, codes, (terms, rank), scratch, &mut narrowed) };
        }
    }
    narrowed
}

/// Merges all groups of a panel: for some ranks at a time, so that what is read of the panel stays in the first-level cache.
///
/// # Safety
/// As for [`Vector`](crate::kernels::fused::vector::Vector).
#[inline(always)]
unsafe fn merge_panel<V: CodeVector, C: HalfCode, const N: usize>(
    of: &PanelPart,
    codes: &mut Codes<'_>,
    (terms, rank): (&[Term<'_>], usize),
    scratch: &mut FusedScratch,
    narrowed: &mut Narrowed,
) {
    let FusedScratch { panel, groups, reaches, sums } = scratch;
    let (panel, mut reach) = (&mut panel[..rank], PanelRow::zero());
    pack_panel(terms, of.cols.clone(), panel, &mut reach);
    for first in (0..rank).step_by(RANK_STEP) {
        let ranks = first..(first + RANK_STEP).min(rank);
        let groups = groups.chunks_exact(rank).zip(&*reaches);
        for ((i, top), (b, rows)) in of.rows.clone().step_by(ROWS).enumerate().zip(groups) {
            let whole = RowGroup { b, a: &*panel, rows, cols: &reach };
            let group = RowGroup { b: &b[ranks.clone()], a: &panel[ranks.clone()], ..whole };
            let mut sums = sums.get_mut(i * ROWS..(i + 1) * ROWS);
            let before = sums.as_deref().filter(|_| first > 0);
            // SAFETY: the caller's promise.
            unsafe {
                if ranks.end == rank {
                    of.prefetch::<V>(codes, top + ROWS);
                    let rows = top..(top + ROWS).min(of.rows.end);
                    let part = PanelPart { rows, cols: of.cols.clone() };
                    part.merge::<V, C, N>((&group, before), codes, (terms, &whole), narrowed);
                } else if let Some(sums) = &mut sums {
                    body::add_products::<V, N>(&group, first == 0, sums);
                }
            }
        }
    }
}

/// The rows of a group and the columns of a panel.
struct PanelPart {
    rows: Range<usize>,
    cols: Range<usize>,
}

impl PanelPart {
    /// Says that the group from row `top` on comes next: rows lie too far apart for the CPU to foresee it.
    ///
    /// # Safety
    /// As for [`Vector`](crate::kernels::fused::vector::Vector).
    #[inline(always)]
    unsafe fn prefetch<V: CodeVector>(&self, codes: &Codes<'_>, top: usize) {
        const LINE: usize = 64;
        for row in top..(top + ROWS).min(self.rows.end) {
            let row = &codes.bytes[codes.start(row, self.cols.start)..][..self.cols.len() * WIDTH];
            for line in row.chunks(LINE) {
                // SAFETY: the caller's promise.
                unsafe { V::prefetch(line) };
            }
        }
    }

    /// Merges a group, and settles what it leaves open: `whole` is the same with all its ranks.
    ///
    /// # Safety
    /// As for [`Vector`](crate::kernels::fused::vector::Vector).
    #[inline(always)]
    unsafe fn merge<V: CodeVector, C: HalfCode, const N: usize>(
        &self,
        (group, before): (&RowGroup<'_, f32>, Option<&[PanelRow<f32>]>),
        codes: &mut Codes<'_>,
        (terms, whole): (&[Term<'_>], &RowGroup<'_, f32>),
        narrowed: &mut Narrowed,
    ) {
        let mut open: OpenBits = [0; ROWS];
        let start = codes.start(self.rows.start, self.cols.start);
        let values = codes.values_from(self.rows.start, self.cols.start);
        narrowed.changed += if self.rows.len() == ROWS && self.cols.len() == COLS {
            // SAFETY: the caller's promise.
            unsafe {
                body::merge::<V, C, N>(
                    group,
                    (before, values),
                    (&mut codes.bytes[start..], codes.stride),
                    &mut open,
                )
            }
        } else {
            let mut edge = [0; ROWS * COLS * WIDTH];
            self.copy_in(codes, &mut edge);
            let mut of_edge = [0.0; ROWS * COLS];
            let values = values.map(|values| self.values_in(values, &mut of_edge));
            // SAFETY: the caller's promise.
            let changed = unsafe {
                body::merge::<V, C, N>(group, (before, values), (&mut edge, COLS * WIDTH), &mut open)
            };
            self.copy_out(&edge, codes);
            changed
        };
        if open != [0; ROWS] {
            self.settle(C::FORMAT, open, codes, (terms, whole), narrowed);
        }
    }

    /// Copies the part to where a whole group has room.
    fn copy_in(&self, codes: &Codes<'_>, edge: &mut [u8]) {
        let bytes = self.cols.len() * WIDTH;
        for (row, to) in self.rows.clone().zip(edge.chunks_exact_mut(COLS * WIDTH)) {
            to[..bytes].copy_from_slice(&codes.bytes[codes.start(row, self.cols.start)..][..bytes]);
        }
    }

    /// Copies its values to where those of a whole group have room.
    fn values_in<'e>(&self, (values, stride): ValueRows<'_>, edge: &'e mut [f32]) -> ValueRows<'e> {
        let rows = values.chunks(stride).zip(edge.chunks_exact_mut(COLS)).take(self.rows.len());
        for (from, to) in rows {
            to[..self.cols.len()].copy_from_slice(&from[..self.cols.len()]);
        }
        (edge, COLS)
    }

    /// Copies the part back.
    fn copy_out(&self, edge: &[u8], codes: &mut Codes<'_>) {
        let bytes = self.cols.len() * WIDTH;
        for (row, from) in self.rows.clone().zip(edge.chunks_exact(COLS * WIDTH)) {
            let start = codes.start(row, self.cols.start);
            codes.bytes[start..start + bytes].copy_from_slice(&from[..bytes]);
        }
    }

    /// Settles what is open.
    #[inline(never)]
    fn settle(
        &self,
        format: FloatFormat,
        open: OpenBits,
        codes: &mut Codes<'_>,
        (terms, whole): (&[Term<'_>], &RowGroup<'_, f32>),
        narrowed: &mut Narrowed,
    ) {
        for ((i, row), mut bits) in self.rows.clone().enumerate().zip(open) {
            while bits != 0 {
                let j = bits.trailing_zeros() as usize;
                let col = self.cols.start + j;
                let base = codes.base(format, row, col);
                match base.value.and_then(|value| closer(format, value, whole, (i, j))) {
                    Some(new) => codes.replace(format, (row, col), (base, new), narrowed),
                    None => codes.settle_one(format, terms, (row, col), narrowed),
                }
                bits &= bits - 1;
            }
        }
    }
}
