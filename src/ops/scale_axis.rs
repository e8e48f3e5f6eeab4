//! A vector that multiplies one axis: `W' = l_o·W` over outputs, or `W' = W·l_i` over inputs; or that says which share of what the tensor
//! started from is added: `W' = W + s·v∘W₀`.
//!
//! Rounding: once, at the end; beside a delta without a formula the product to f32, and of a share `t = W₀ · (v · s)`, then `value + t`. Without a share
//! there is no scale, and vectors that are merged together multiply one another.
//! A convolution in groups has `in / groups` stored inputs: its outputs, group after group, meet parts of an input vector
//! that lie one behind another ([`Groups`]).

use serde::{Deserialize, Serialize};

use crate::kernels::exact::Number;
use crate::ops::Delta;
use crate::ops::block::{Block, FactorView};
use crate::ops::factor_values::FactorValues;
use crate::ops::formula::{Formula, Polynomial, Spot};

/// A vector that multiplies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScaleAxis {
    /// How a convolution's inputs lie, where the vector is for these: its factor is then whole, and runs along no axis.
    pub inputs: Option<Groups>,
    /// Whether it is a share that is added (lycoris-lora 4.1 `modules/ia3.py`, `W·(1 + v)`), which has a scale.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_share: bool,
}

/// How a convolution's inputs lie: which of the vector's values an element meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Groups {
    /// Outputs of a group.
    pub outputs: u64,
    /// Inputs of a group.
    pub inputs: u64,
    /// Elements of the kernel.
    pub kernel: u64,
}

impl Groups {
    /// The input that an element of output `out` is for, where `within` counts a group's inputs and their kernels.
    fn position(&self, out: u64, within: u64) -> u64 {
        out / self.outputs * self.inputs + within / self.kernel
    }
}

impl Formula for ScaleAxis {
    #[inline(always)]
    fn apply<N: Number>(&self, spot: &Spot<'_, N>, running: N) -> N {
        let values = self.values(spot);
        if self.is_share {
            return running.plus(&values.scaled(spot.scale).times(&spot.original()));
        }
        running.times(&values)
    }
}

impl ScaleAxis {
    /// One that multiplies running values.
    pub(crate) fn of(inputs: Option<Groups>) -> ScaleAxis {
        ScaleAxis { inputs, is_share: false }
    }

    /// What elements are multiplied by.
    #[inline(always)]
    fn values<N: Number>(self, spot: &Spot<'_, N>) -> N {
        let vector = spot.factors[0];
        match (self.inputs, vector.axis) {
            (Some(groups), _) => spot.gathered(|[out, input]| {
                vector.at(vector.first, groups.position(out as u64, input as u64) as usize)
            }),
            (None, axis) if axis == spot.window.rows.axis => {
                spot.all(vector.at(spot.window.rows.range.start + spot.row as u64, 0))
            }
            (None, _) => {
                let first = spot.window.cols.range.start + spot.cols.start as u64;
                spot.values(vector.from(first), vector.stride)
            }
        }
    }

    /// What the element at positions of the delta's two axes is multiplied by.
    fn at(self, vector: &FactorView<'_>, [out, input]: [u64; 2]) -> f32 {
        match (self.inputs, vector.axis) {
            (Some(groups), _) => vector.at(vector.first, groups.position(out, input) as usize),
            (None, Some(1)) => vector.at(input, 0),
            (None, _) => vector.at(out, 0),
        }
    }
}

impl ScaleAxis {
    fn add_share(self, block: &mut Block<'_>) {
        let vector = block.factors[0];
        let [(outs, out_step), (ins, in_step)] = block.axes();
        for (p, out) in outs.enumerate() {
            for (q, input) in ins.clone().enumerate() {
                block.scratch[p * out_step + q * in_step] = self.at(&vector, [out, input]);
            }
        }
        block.add_share();
    }
}

impl Delta for ScaleAxis {
    fn polynomial(&self) -> Option<&dyn Polynomial> {
        Some(self)
    }

    fn needs_base_values(&self) -> bool {
        self.is_share
    }

    fn apply(&self, block: &mut Block<'_>) {
        if self.is_share {
            return self.add_share(block);
        }
        let vector = block.factors[0];
        let (rows, cols) = (block.window.rows.range.start, block.window.cols.range.start);
        if let Some(groups) = self.inputs {
            // `placement` made of a convolution: its outputs are axis 0, its inputs with their kernel axis 1.
            let outputs_are_rows = block.window.rows.axis == Some(0);
            block.change(|p, q, value, _| {
                let (row, col) = (rows + p as u64, cols + q as u64);
                let (out, input) = if outputs_are_rows { (row, col) } else { (col, row) };
                value * vector.at(vector.first, groups.position(out, input) as usize)
            });
        } else if vector.axis == block.window.rows.axis {
            block.change(|p, _, value, _| value * vector.at(rows + p as u64, 0));
        } else {
            block.change(|_, q, value, _| value * vector.at(cols + q as u64, 0));
        }
    }

    /// A vector of zeros erases what it multiplies, and is no share.
    fn no_effect(&self, scale: f32, factors: &[FactorValues]) -> Option<&'static str> {
        if self.is_share {
            let is_nothing = scale == 0.0 || factors.iter().any(|vector| vector.all_zero);
            return is_nothing.then_some("its vector times its scale is all zero (untrained adapter?)");
        }
        let are_ones = factors.iter().all(|vector| vector.all_one);
        are_ones.then_some("its vector is all ones (untrained adapter?)")
    }
}
