//! A product of two factors around a core: `W + s·(B·t·A)`, for a convolution.
//!
//! Source: Yeh et al. 2023 (arXiv:2309.14859, LyCORIS), section 3.1, `use_tucker` of LoCon. Factors are `B [out, rank]`, `A [rank, in]` and the core `t
//! [rank, rank, kernel]`, whose first axis is that of `B`; the sum is [`rebuild`]'s.
//!
//! Rounding: the product in f32, times `s` rounded, added to the running value.

use serde::{Deserialize, Serialize};

use crate::ops::Delta;
use crate::ops::block::Block;
use crate::ops::cp_core::{CoreSizes, rebuild};
use crate::ops::factor::Factor;

/// A product of two factors around a core.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tucker {
    /// The sizes of its core.
    pub core: CoreSizes,
}

impl Delta for Tucker {
    fn is_added(&self) -> bool {
        true
    }

    fn apply(&self, block: &mut Block<'_>) {
        rebuild(block, 0, self.core);
        block.add_scaled();
    }

    fn rank(&self, factors: &[Factor]) -> Option<u64> {
        factors.first().map(|factor| factor.inner)
    }
}
