//! Which arithmetic makes a tensor: one pass in registers, formulas with bounds, or the pinned order of each delta. All tiles of
//! a tensor take the same way, so that its bytes do not depend on how it is cut.

use crate::kernels::exact::float_format::FloatFormat;
use crate::ops::op::Op;

use crate::schedule::cut::{MergedTensor, Output};
use crate::schedule::region::out_encoding;

/// How the values of a tensor are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arithmetic {
    /// Products of factors are added in registers to codes of two bytes where they lie, or to decoded values; rounded once.
    Fused(FloatFormat),
    /// All deltas have formulas of sums and products; rounded once.
    Formulas(FloatFormat),
    /// Delta by delta in f32, in a pinned order.
    Pinned,
}

impl MergedTensor<'_> {
    /// How its values are made.
    pub(crate) fn arithmetic(&self) -> Arithmetic {
        let Some(format) = out_encoding(self.tensor).float_format() else { return Arithmetic::Pinned };
        let has_formulas = self.ops.iter().all(|op| op.delta().polynomial().is_some());
        if self.output != Output::Encoded || self.ops.is_empty() || !has_formulas {
            return Arithmetic::Pinned;
        }
        if format.width == 16 && self.ops.iter().all(|op| self.is_dense_product(op)) {
            return Arithmetic::Fused(format);
        }
        Arithmetic::Formulas(format)
    }

    /// Whether an op adds nothing but a product of factors, and not to every second column or the like.
    fn is_dense_product(&self, op: &Op) -> bool {
        let grid = op.placement.grid(self.view);
        let is_dense = grid.is_some_and(|grid| grid.rows.step == 1 && grid.cols.step == 1);
        is_dense && op.delta().product().is_some()
    }
}
