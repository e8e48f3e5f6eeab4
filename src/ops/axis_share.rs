//! A share of what a tensor started from, for each position of one axis: `W + s·v∘W₀`.
//!
//! Source: lycoris-lora 4.1 `modules/ia3.py`, `W·(1 + v)`: (IA)³ (Liu et al. 2022, arXiv:2205.05638) as a difference, which can have a scale.
//! Which values of the vector elements meet is [`ScaleAxis`]'s.
//!
//! Rounding: once, at the end; beside a delta without a formula `t = W₀ · (v · s)`, then `value + t`, in f32.

use serde::{Deserialize, Serialize};

use crate::kernels::exact::Number;
use crate::ops::Delta;
use crate::ops::block::Block;
use crate::ops::formula::{Formula, Polynomial, Spot};
use crate::ops::scale_axis::ScaleAxis;

/// A share for each position of an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AxisShare {
    /// Which positions.
    pub axis: ScaleAxis,
}

impl Formula for AxisShare {
    #[inline(always)]
    fn apply<N: Number>(&self, spot: &Spot<'_, N>, running: N) -> N {
        running.plus(&self.axis.values(spot).scaled(spot.scale).times(&spot.original()))
    }
}

impl Delta for AxisShare {
    fn polynomial(&self) -> Option<&dyn Polynomial> {
        Some(self)
    }

    fn needs_base_values(&self) -> bool {
        true
    }

    fn apply(&self, block: &mut Block<'_>) {
        let vector = block.factors[0];
        let [(outs, out_step), (ins, in_step)] = block.axes();
        for (p, out) in outs.enumerate() {
            for (q, input) in ins.clone().enumerate() {
                block.scratch[p * out_step + q * in_step] = self.axis.at(&vector, [out, input]);
            }
        }
        block.add_share();
    }
}
