//! Products of factors that formulas are made of, made for a block at once: sums in f32, or f64 where results are f32, and
//! how far each may be off, as the reach of its row times that of its column (`body.rs`).

#![expect(unsafe_code, reason = "functions compiled for CPU features may be called only where they exist")]

use crate::kernels::fused::body::{COLS, PanelRow, ROWS, RowGroup, write_products};
use crate::kernels::fused::pack::{Term, pack_panel, pack_rows};
use crate::kernels::fused::vector::{CpuProof, FormulaVector, Real};
use crate::kernels::product::Matrix;

/// Two factors.
#[derive(Clone, Copy)]
pub(crate) struct Factors<'p> {
    /// `[rows, rank]`.
    pub(crate) left: Matrix<'p>,
    /// `[rank, cols]`.
    pub(crate) right: Matrix<'p>,
}

impl Factors<'_> {
    /// Whether all rows are one, and all columns.
    fn is_one_value(&self) -> bool {
        self.left.row_stride == 0 && self.right.col_stride == 0
    }
}

/// A product that is made.
#[derive(Clone, Copy)]
pub(crate) struct MadeProduct<'p, T> {
    /// Panel after panel, all rows of each.
    values: &'p [PanelRow<T>],
    /// The reach of each row.
    rows: &'p [[T; ROWS]],
    /// The reach of each column, panel by panel.
    cols: &'p [PanelRow<T>],
    is_one_value: bool,
}

impl<T: Real> MadeProduct<'_, T> {
    /// A row from a column on, to the end of a panel; with the reach of the row, and of the columns. None if the value is the
    /// same everywhere.
    #[inline(always)]
    pub(crate) fn row(&self, row: usize, col: usize) -> Option<(&[T], T, &[T])> {
        if self.is_one_value {
            return None;
        }
        let (panel, at) = (col / COLS, col % COLS);
        let values = &self.values[panel * self.rows.len() * ROWS + row].0[at..];
        Some((values, self.rows[row / ROWS][row % ROWS], &self.cols[panel].0[at..]))
    }

    /// The value that is the same everywhere, and its reaches.
    #[inline(always)]
    pub(crate) fn one_value(&self) -> [T; 3] {
        [self.values[0].0[0], self.rows[0][0], self.cols[0].0[0]]
    }
}

/// What a product is made in.
#[derive(Debug)]
pub(crate) struct ProductScratch<T> {
    panel: Vec<PanelRow<T>>,
    groups: Vec<[T; ROWS]>,
    rows: Vec<[T; ROWS]>,
    cols: Vec<PanelRow<T>>,
    values: Vec<PanelRow<T>>,
    /// The left factor that is packed.
    packed: Option<PackedKey>,
    /// Groups and panels of the product.
    made: (usize, usize),
    is_one_value: bool,
}

/// Where a factor lies, and its shape and strides.
type PackedKey = (usize, [usize; 4]);

impl<T: Real> ProductScratch<T> {
    /// Enough for products of `rows` × `cols` of that rank.
    pub(crate) fn new(rank: usize, rows: usize, cols: usize) -> ProductScratch<T> {
        let (groups, panels) = (rows.div_ceil(ROWS), cols.div_ceil(COLS));
        ProductScratch {
            panel: vec![PanelRow::zero(); rank],
            groups: vec![[T::default(); ROWS]; groups * rank],
            rows: vec![[T::default(); ROWS]; groups],
            cols: vec![PanelRow::zero(); panels],
            values: vec![PanelRow::zero(); groups * ROWS * panels],
            packed: None,
            made: (0, 0),
            is_one_value: false,
        }
    }

    /// Bytes of it.
    pub(crate) fn bytes(rank: usize, rows: usize, cols: usize) -> usize {
        let (groups, panels) = (rows.div_ceil(ROWS), cols.div_ceil(COLS));
        let panel_rows = rank + panels + groups * ROWS * panels;
        panel_rows * size_of::<PanelRow<T>>() + groups * (rank + 1) * size_of::<[T; ROWS]>()
    }

    /// Forgets which factor is packed: its bytes may change.
    pub(crate) fn forget(&mut self) {
        self.packed = None;
    }

    /// The product that was made last.
    pub(crate) fn made(&self) -> MadeProduct<'_, T> {
        let (groups, panels) = self.made;
        MadeProduct {
            values: &self.values[..groups * ROWS * panels],
            rows: &self.rows[..groups],
            cols: &self.cols[..panels],
            is_one_value: self.is_one_value,
        }
    }

    /// Makes a product. The left factor stays packed for the next with the same one.
    #[inline(always)]
    pub(crate) fn make<V: FormulaVector<Value = T>, const N: usize>(
        &mut self,
        _: CpuProof<V>,
        factors: Factors<'_>,
    ) {
        let Factors { mut left, mut right } = factors;
        self.is_one_value = factors.is_one_value();
        if self.is_one_value {
            (left.rows, left.row_stride, right.cols, right.col_stride) = (1, 1, 1, 1);
        }
        let (rank, groups) = (left.cols, left.rows.div_ceil(ROWS));
        self.made = (groups, right.cols.div_ceil(COLS));
        let term = [Term { left, right, scale: 1.0 }];
        if rank == 0 {
            self.values.fill(PanelRow::zero());
            self.rows.fill([T::default(); ROWS]);
            return;
        }
        let key = (left.data.as_ptr().addr(), [left.rows, rank, left.row_stride, left.col_stride]);
        if self.packed != Some(key) {
            pack_rows(&term, 0..left.rows, &mut self.groups[..groups * rank], &mut self.rows[..groups]);
            self.packed = Some(key);
        }
        let panel = &mut self.panel[..rank];
        for (at, reach) in (0..right.cols).step_by(COLS).zip(&mut self.cols) {
            let cols = at..(at + COLS).min(right.cols);
            pack_panel(&term, cols.clone(), panel, reach);
            let values = &mut self.values[at / COLS * groups * ROWS..];
            let packed = self.groups.chunks_exact(rank).zip(&self.rows).take(groups);
            for ((b, rows), out) in packed.zip(values.chunks_exact_mut(ROWS)) {
                let group = RowGroup { b, a: panel, rows, cols: reach };
                // SAFETY: the proof.
                unsafe { write_products::<V, N>(&group, cols.len(), out) };
            }
        }
    }
}
