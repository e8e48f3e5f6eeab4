//! The element-wise product of two low-rank products: `W + s·(B₁·A₁)∘(B₂·A₂)`.
//!
//! Source: Hyeon-Woo et al. 2021 (arXiv:2108.06098, FedPara). Factors are `B₁ [out, rank]`, `A₁ [rank, in]`, `B₂`, `A₂`; with
//! cores each product is [`Core`]'s, of `a [rank, out]`, `b [rank, in]` and the core, twice.
//!
//! Rounding: once, at the end. With cores, and beside a delta without a formula: both products in f32, their product rounded, times `s` rounded, added to the running value, as in PEFT.

use serde::{Deserialize, Serialize};
use smallvec::smallvec;

use crate::kernels::exact::Number;
use crate::ops::Delta;
use crate::ops::block::{Block, FactorView};
use crate::ops::cp_core::{CoreSizes, rebuild};
use crate::ops::factor::Factor;
use crate::ops::formula::{FactorPairs, Formula, Polynomial, Spot};
use crate::ops::placement::Window;

/// A product of two products.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hadamard {
    /// The sizes of both products' cores, if they have cores.
    pub core: Option<CoreSizes>,
}

impl Formula for Hadamard {
    #[inline(always)]
    fn apply<N: Number>(&self, spot: &Spot<'_, N>, running: N) -> N {
        running.plus(&spot.product(0).times(&spot.product(1)).scaled(spot.scale))
    }

    fn products<'b>(&self, factors: &'b [FactorView<'b>], window: &Window) -> FactorPairs<'b> {
        smallvec![factors[0].pair(&factors[1], window), factors[2].pair(&factors[3], window)]
    }
}

impl Delta for Hadamard {
    fn is_added(&self) -> bool {
        true
    }

    /// With cores it keeps the pinned arithmetic.
    fn polynomial(&self) -> Option<&dyn Polynomial> {
        self.core.is_none().then_some(self)
    }

    fn apply(&self, block: &mut Block<'_>) {
        if let Some(sizes) = self.core {
            rebuild(block, 0, sizes);
            rebuild(block, 1, sizes);
        } else {
            block.product_into(0, 0, 1);
            block.product_into(1, 2, 3);
        }
        let (first, second) = block.scratch.split_at_mut(block.window.elements() as usize);
        first.iter_mut().zip(second).for_each(|(first, second)| *first *= *second);
        block.add_scaled();
    }

    fn scratch_buffers(&self) -> usize {
        2
    }

    fn inner_dimension(&self, factors: &[Factor]) -> u64 {
        if self.core.is_some() { 0 } else { self.rank(factors).unwrap_or(0) }
    }

    fn rank(&self, factors: &[Factor]) -> Option<u64> {
        factors.first().map(|factor| factor.inner)
    }
}
