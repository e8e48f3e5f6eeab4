//! Blocks: what a delta sees of a tensor at a time, f32 values and the parts of its factors for them.

use std::ops::Range;

use crate::kernels::dispatch::Kernels;
use crate::kernels::fused::made::Factors;
use crate::kernels::product::Matrix;
use crate::ops::placement::Window;

/// A block of an output tensor in f32, and what one op needs to change it.
pub(crate) struct Block<'b> {
    /// Running values, row-major, rows of `width`.
    pub values: &'b mut [f32],
    /// What the tensor started from at the same places, if the op wants it; else empty.
    pub original: &'b [f32],
    /// Elements of a row of `values`.
    pub width: usize,
    /// Which part of the op's delta falls on the block, and where.
    pub window: &'b Window,
    /// The op's factors, as far as the block needs them, in the op's order.
    pub factors: &'b [FactorView<'b>],
    /// What the delta is multiplied by.
    pub scale: f32,
    /// The result of a reduction, if the op needs one.
    pub reduced: Reduced<'b>,
    /// [Scratch buffers](crate::ops::Delta::scratch_buffers) of the window's size, one behind another. The first must hold
    /// what was added when the op has been applied.
    pub scratch: &'b mut [f32],
    /// Which implementation runs.
    pub kernels: Kernels,
}

impl Block<'_> {
    /// Elements of the window.
    pub(crate) fn elements(&self) -> usize {
        self.window.rows.len() * self.window.cols.len()
    }

    /// Where row `p` of the window stands in `values`: its first element, and the steps to the next ones.
    pub(crate) fn row(&self, p: usize) -> (usize, usize) {
        let (rows, cols) = (&self.window.rows, &self.window.cols);
        ((rows.at + p as u64 * rows.step) as usize * self.width + cols.at as usize, cols.step as usize)
    }

    /// Writes the product of the factors `u` and `v` into the first scratch buffer, as the window lies: whichever of them runs along
    /// rows is the left one.
    pub(crate) fn product_of(&mut self, u: usize, v: usize) {
        self.product_into(0, u, v);
    }

    /// The same into another scratch buffer.
    pub(crate) fn product_into(&mut self, buffer: usize, u: usize, v: usize) {
        let elements = self.elements();
        let (u, v) = (self.factors[u], self.factors[v]);
        let (left, right) = u.beside(&v, self.window);
        self.kernels.product(left, right, &mut self.scratch[buffer * elements..][..elements]);
    }

    /// The positions on the delta's two axes that the window has, and in a scratch buffer the elements from one to the next: rows of
    /// the window are positions on the first axis, unless the tensor has one output and no kernel.
    pub(crate) fn axes(&self) -> [(Range<u64>, usize); 2] {
        let (rows, cols) = (&self.window.rows, &self.window.cols);
        let (along_rows, along_cols) = ((rows.range.clone(), cols.len()), (cols.range.clone(), 1));
        match rows.axis {
            Some(1) => [along_cols, along_rows],
            _ => [along_rows, along_cols],
        }
    }

    /// Adds `scale ·` the first scratch buffer to the window's elements.
    ///
    /// Two roundings: `t = delta · scale`, then `value + t`. Afterwards the buffer holds `t`.
    pub(crate) fn add_scaled(&mut self) {
        let cols = self.window.cols.len();
        for p in 0..self.window.rows.len() {
            let (start, step) = self.row(p);
            let delta = &mut self.scratch[p * cols..(p + 1) * cols];
            if step == 1 {
                self.kernels.add_scaled(&mut self.values[start..start + cols], delta, self.scale);
            } else {
                for (q, d) in delta.iter_mut().enumerate() {
                    *d *= self.scale;
                    self.values[start + q * step] += *d;
                }
            }
        }
    }

    /// Adds `original · (scale ·` the first scratch buffer`)` to the window's elements.
    ///
    /// Three roundings: `delta · scale`, `t` = that times the original, then `value + t`. Afterwards the buffer holds `t`.
    pub(crate) fn add_share(&mut self) {
        let cols = self.window.cols.len();
        for p in 0..self.window.rows.len() {
            let (start, step) = self.row(p);
            let delta = &mut self.scratch[p * cols..(p + 1) * cols];
            for (q, d) in delta.iter_mut().enumerate() {
                *d = self.original[start + q * step] * (*d * self.scale);
                self.values[start + q * step] += *d;
            }
        }
    }

    /// Puts `change(p, q, value, scratch)` in place of every element of the window, where `scratch` is what the first buffer holds
    /// for it. Afterwards the buffer holds the differences.
    pub(crate) fn change(&mut self, change: impl Fn(usize, usize, f32, f32) -> f32) {
        let cols = self.window.cols.len();
        for p in 0..self.window.rows.len() {
            let (start, step) = self.row(p);
            let delta = &mut self.scratch[p * cols..(p + 1) * cols];
            for (q, d) in delta.iter_mut().enumerate() {
                let value = &mut self.values[start + q * step];
                let new = change(p, q, *value, *d);
                *d = new - *value;
                *value = new;
            }
        }
    }
}

/// The part of a factor that a tile needs, decoded: `inner` values for each position of an axis.
#[derive(Clone, Copy)]
pub(crate) struct FactorView<'b> {
    /// The values.
    pub data: &'b [f32],
    /// The delta's axis that it runs along, if it does.
    pub axis: Option<usize>,
    /// The first position that `data` holds.
    pub first: u64,
    /// Values from one position to the next.
    pub stride: usize,
    /// Values per position.
    pub inner: usize,
    /// Values from one of those to the next.
    pub inner_stride: usize,
}

impl<'b> FactorView<'b> {
    /// `positions` as the rows of a matrix with `inner` columns.
    pub(crate) fn rows(&self, positions: &Range<u64>) -> Matrix<'b> {
        let skip = (positions.start - self.first) as usize * self.stride;
        Matrix {
            data: &self.data[skip..],
            rows: (positions.end - positions.start) as usize,
            cols: self.inner,
            row_stride: self.stride,
            col_stride: self.inner_stride,
        }
    }

    /// `positions` as the columns of a matrix with `inner` rows.
    pub(crate) fn cols(&self, positions: &Range<u64>) -> Matrix<'b> {
        self.rows(positions).transposed()
    }

    /// This factor and another as the matrices whose product covers a window: whichever runs along rows is the left one.
    pub(crate) fn beside(&self, other: &FactorView<'b>, window: &Window) -> (Matrix<'b>, Matrix<'b>) {
        let (rows, cols) = (&window.rows, &window.cols);
        let (left, right) = if self.axis == rows.axis { (self, other) } else { (other, self) };
        (left.rows(&rows.range), right.cols(&cols.range))
    }

    /// The same as factors of a product.
    pub(crate) fn pair(&self, other: &FactorView<'b>, window: &Window) -> Factors<'b> {
        let (left, right) = self.beside(other, window);
        Factors { left, right }
    }

    /// The first value of a position, and all behind it.
    pub(crate) fn from(&self, position: u64) -> &'b [f32] {
        &self.data[(position - self.first) as usize * self.stride..]
    }

    /// Value `k` of `position`.
    pub(crate) fn at(&self, position: u64, k: usize) -> f32 {
        self.data[(position - self.first) as usize * self.stride + k * self.inner_stride]
    }
}

/// The result of a reduction for the positions of a block.
#[derive(Clone, Copy, Default)]
pub(crate) struct Reduced<'b> {
    /// The values, position after position.
    pub state: &'b [f64],
    /// The position that the first of them belong to.
    pub first: u64,
    /// Values for each position.
    pub per: usize,
}

impl<'b> Reduced<'b> {
    /// What is known of `position`.
    pub(crate) fn at(&self, position: u64) -> &'b [f64] {
        let start = (position - self.first) as usize * self.per;
        &self.state[start..start + self.per]
    }
}
