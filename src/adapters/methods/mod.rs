//! What adapters do to weights: one file per method, one row in [`METHODS`].
//!
//! A method works twice. While the plan is made, it claims the adapter's tensors that it knows ([`Method::claim`]). While
//! the plan runs, it applies its ops to blocks of f32 values ([`Method::apply`]), with the parts of its factors that the
//! block needs already decoded. It never sees a file, a thread, an encoding or a budget.

mod lora;
mod lora_bias;
mod replace;

use std::ops::Range;

use crate::kernels::{Kernels, Matrix};
use crate::plan::Window;

use super::Claiming;
use super::config::Field;

/// One kind of change to a weight.
pub trait Method: Sync {
    /// Its name in plans and messages.
    fn name(&self) -> &'static str;

    /// The `peft_type` whose adapters it reads; none if it reads any.
    fn peft_type(&self) -> Option<&'static str>;

    /// The fields of `adapter_config.json` that it honours, or knows to have no effect; all others are refused.
    fn fields(&self) -> &'static [(&'static str, Field)] {
        &[]
    }

    /// Claims the adapter's tensors that belong to it. What is wrong with them goes into `claiming`, all of it.
    fn claim(&self, claiming: &mut Claiming<'_>);

    /// Applies an op of its own to a block.
    fn apply(&self, block: &mut Block<'_>);
}

/// Every method, in the order in which they claim: the last takes what names a base tensor outright.
pub static METHODS: &[&dyn Method] = &[&lora::Lora, &lora_bias::LoraBias, &replace::Replace];

/// The method of that name.
pub fn find(name: &str) -> Option<&'static dyn Method> {
    METHODS.iter().copied().find(|method| method.name() == name)
}

/// A block of an output tensor in f32, and what one op needs to change it.
pub struct Block<'b> {
    /// Running values, row-major, rows of `width`.
    pub values: &'b mut [f32],
    /// Elements of a row of `values`.
    pub width: usize,
    /// Which part of the op's delta falls on the block, and where.
    pub window: &'b Window,
    /// The op's factors, as far as the block needs them.
    pub factors: &'b [FactorView<'b>],
    /// What the delta is multiplied by.
    pub scale: f32,
    /// Room for at least as many values as the window has.
    pub scratch: &'b mut [f32],
    /// Which implementation runs.
    pub kernels: Kernels,
}

impl Block<'_> {
    /// Adds `scale · delta` to the window's elements, where row `p` of the delta is `delta(scratch, p)`.
    ///
    /// Two roundings: `t = delta · scale`, then `value + t`.
    pub fn add(&mut self, delta: impl Fn(&[f32], usize) -> Range<usize>) {
        let (rows, cols) = (&self.window.rows, &self.window.cols);
        for p in 0..rows.len() {
            let start = (rows.at + p as u64 * rows.step) as usize * self.width + cols.at as usize;
            let delta = &self.scratch[delta(self.scratch, p)];
            if cols.step == 1 {
                self.kernels.add_scaled(&mut self.values[start..start + cols.len()], delta, self.scale);
            } else {
                for (q, &d) in delta.iter().enumerate() {
                    self.values[start + q * cols.step as usize] += d * self.scale;
                }
            }
        }
    }
}

/// The part of a factor that a tile needs, decoded: `inner` values for each position of an axis.
#[derive(Clone, Copy)]
pub struct FactorView<'b> {
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
    pub fn rows(&self, positions: &Range<u64>) -> Matrix<'b> {
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
    pub fn cols(&self, positions: &Range<u64>) -> Matrix<'b> {
        let Matrix { data, rows, cols, row_stride, col_stride } = self.rows(positions);
        Matrix { data, rows: cols, cols: rows, row_stride: col_stride, col_stride: row_stride }
    }

    /// Value `k` of `position`.
    pub fn at(&self, position: u64, k: usize) -> f32 {
        self.data[(position - self.first) as usize * self.stride + k * self.inner_stride]
    }
}
