//! A low-rank product, and another of what a tensor started from: `W + s·(W₀·A₁·A₂ + B₁·B₂)`.
//!
//! Source: Chavan et al. 2023 (arXiv:2306.07967, GLoRA), as lycoris-lora 4.1 `modules/glora.py` has it. Factors are `A₁ [in, rank]`, `A₂ [rank, in]`,
//! `B₁ [out, rank]` and `B₂ [rank, in·kernel]`; of a convolution `A₁·A₂` works on the inputs at each place of the kernel.
//!
//! Rounding: `W₀·A₁`, that times `A₂`, `B₁·B₂` and their sum in f32, times `s` rounded, added to the running value.

use serde::{Deserialize, Serialize};

use crate::kernels::product::Matrix;
use crate::ops::Delta;
use crate::ops::access::Access;
use crate::ops::block::Block;
use crate::ops::factor::Factor;
use crate::ops::factor_values::FactorValues;

/// A product of what the tensor started from, and one beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generalized {
    /// Inputs.
    pub inputs: usize,
    /// Places of the kernel.
    pub kernel: usize,
    /// Rank of both products, no more than there are inputs.
    pub rank: usize,
}

impl Delta for Generalized {
    fn apply(&self, block: &mut Block<'_>) {
        let Generalized { inputs, kernel, rank } = *self;
        let (rows, elements) = (block.window.rows.len(), block.elements());
        let (start, step) = block.row(0);
        let row_stride = block.window.rows.step as usize * block.width;
        block.product_of(2, 3);
        let [a1, a2] = [0, 1].map(|i| block.factors[i].data);
        let (delta, made) = block.scratch.split_at_mut(elements);
        let (inner, product) = made.split_at_mut(elements);
        let (inner, product) = (&mut inner[..rows * rank], &mut product[..rows * inputs]);
        for place in 0..kernel {
            let data = &block.original[start + place * step..];
            let old = Matrix { data, rows, cols: inputs, row_stride, col_stride: kernel * step };
            block.kernels.product(old, Matrix::row_major(a1, inputs, rank), inner);
            let inner = Matrix::row_major(inner, rows, rank);
            block.kernels.product(inner, Matrix::row_major(a2, rank, inputs), product);
            for (row, product) in product.chunks_exact(inputs).enumerate() {
                let delta = &mut delta[row * inputs * kernel..][..inputs * kernel];
                for (delta, product) in delta.iter_mut().skip(place).step_by(kernel).zip(product) {
                    *delta += product;
                }
            }
        }
        block.add_scaled();
    }

    fn access(&self) -> Access {
        Access::Rows
    }

    fn needs_base_values(&self) -> bool {
        true
    }

    fn scratch_buffers(&self) -> usize {
        3
    }

    fn inner_dimension(&self, _: &[Factor]) -> u64 {
        self.inputs.max(self.rank) as u64
    }

    fn rank(&self, _: &[Factor]) -> Option<u64> {
        Some(self.rank as u64)
    }

    /// Either product acts without the other.
    fn no_effect(&self, scale: f32, factors: &[FactorValues]) -> Option<&'static str> {
        let is_nothing = |of: &[FactorValues]| of.iter().any(|factor| factor.all_zero);
        if factors.chunks(2).all(is_nothing) {
            return Some("a factor of each product is all zero (untrained adapter?)");
        }
        (scale == 0.0).then_some("its scale is 0")
    }
}
