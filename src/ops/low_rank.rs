//! The product of two factors: `W + s·(B·A)`, or `W + W₀∘(s·B·A)` where it is a share of what the tensor started from.
//!
//! The first is LoRA's (Hu et al. 2021, arXiv:2106.09685, section 4.1), the second HiRA's (Huang et al. 2025, HiRA:
//! Parameter-Efficient Hadamard High-Rank Adaptation, ICLR). Factors are `A [rank, in]` and `B [out, rank]`, in this order.
//! Which of them runs along stored rows is the placement's affair, so that transposed storage needs nothing here.
//!
//! Rounding: once, at the end. PEFT rounds HiRA's product, scaled product and sum to the base's type (peft-methods.md 2.5).
//! Beside a delta without a formula, and for what is measured, the product is in f32; then `t = product · s`, and `value + t`;
//! for a share `t = W₀ · (product · s)`.

use serde::{Deserialize, Serialize};
use smallvec::smallvec;

use crate::kernels::exact::Number;
use crate::ops::Delta;
use crate::ops::block::{Block, FactorView};
use crate::ops::factor::Factor;
use crate::ops::formula::{FactorPairs, Formula, Polynomial, Spot};
use crate::ops::placement::Window;

/// A product of two factors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LowRank {
    /// Whether it is multiplied by what the tensor started from, element by element.
    pub is_share: bool,
}

impl LowRank {
    /// The product, added.
    pub(crate) const ADDED: LowRank = LowRank { is_share: false };
    /// The product times what the tensor started from, added.
    pub(crate) const SHARE: LowRank = LowRank { is_share: true };
}

impl Formula for LowRank {
    #[inline(always)]
    fn apply<N: Number>(&self, spot: &Spot<'_, N>, running: N) -> N {
        let delta = spot.product(0).scaled(spot.scale);
        running.plus(&if self.is_share { delta.times(&spot.original()) } else { delta })
    }

    fn products<'b>(&self, factors: &'b [FactorView<'b>], window: &Window) -> FactorPairs<'b> {
        smallvec![factors[0].pair(&factors[1], window)]
    }
}

impl Delta for LowRank {
    fn apply(&self, block: &mut Block<'_>) {
        block.product_of(0, 1);
        if self.is_share {
            block.add_share();
        } else {
            block.add_scaled();
        }
    }

    fn needs_base_values(&self) -> bool {
        self.is_share
    }

    fn polynomial(&self) -> Option<&dyn Polynomial> {
        Some(self)
    }

    fn product(&self) -> Option<[usize; 2]> {
        (!self.is_share).then_some([0, 1])
    }

    fn inner_dimension(&self, factors: &[Factor]) -> u64 {
        factors.first().map_or(0, |a| a.inner)
    }

    fn rank(&self, factors: &[Factor]) -> Option<u64> {
        factors.first().map(|a| a.inner)
    }
}
