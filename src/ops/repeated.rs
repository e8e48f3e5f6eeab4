//! Few values that are added all over a weight, in a pattern: `W + s·P(D)`, of a factor `D`.
//!
//! Source: Kang and Yin 2024 (arXiv:2409.15371, MiSS) and Chen et al. 2024 (arXiv:2407.19342, C3A). Each pattern says which of the values an
//! element meets; along an input axis they follow each other for a stretch, so that no index is computed for each element.
//!
//! Rounding: once, at the end; beside a delta without a formula `t = d · s`, then `value + t`, in f32.

use serde::{Deserialize, Serialize};

use crate::kernels::exact::Number;
use crate::ops::Delta;
use crate::ops::block::{Block, FactorView};
use crate::ops::factor::Factor;
use crate::ops::formula::{Formula, Polynomial, Spot, position};
use crate::ops::placement::Window;

/// Values that repeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Repeated {
    /// `Δ[o, i] = D[i mod inputs, o]`, of a factor that runs along outputs and has `inputs` values for each.
    Inputs {
        /// Inputs after which they repeat.
        inputs: usize,
    },
    /// `Δ[o, i] = D[i mod inputs, o mod outputs]`, of a factor that every tile has whole.
    Blocks {
        /// Inputs after which they repeat.
        inputs: usize,
        /// Outputs after which they repeat.
        outputs: usize,
    },
    /// `Δ[o, i] = D[o div side, i div side, (i − o) mod side]`: circulant blocks, of a factor that every tile has whole.
    Circulant {
        /// Rows and columns of a block.
        side: usize,
        /// Inputs of the weight.
        width: usize,
    },
}

/// Values for neighboring inputs.
struct ValueRun {
    /// Where the first is in the factor.
    at: usize,
    /// From each to the next.
    step: usize,
    /// How many there are.
    len: usize,
}

impl Repeated {
    /// The values from an element on.
    fn stretch(self, factor: &FactorView<'_>, [out, input]: [usize; 2]) -> ValueRun {
        match self {
            Repeated::Inputs { inputs } => {
                let (at, step) = ((out - factor.first as usize) * factor.stride, factor.inner_stride);
                ValueRun { at: at + input % inputs * step, step, len: inputs - input % inputs }
            }
            Repeated::Blocks { inputs, outputs } => {
                let at = input % inputs * outputs + out % outputs;
                ValueRun { at, step: outputs, len: inputs - input % inputs }
            }
            Repeated::Circulant { side, width } => {
                let (p, j) = (out % side, input % side);
                let block = out / side * width + (input - j);
                let len = if j < p { p - j } else { side - j };
                ValueRun { at: block + (j + side - p) % side, step: 1, len }
            }
        }
    }
}

impl Formula for Repeated {
    #[inline(always)]
    fn apply<N: Number>(&self, spot: &Spot<'_, N>, running: N) -> N {
        let factor = &spot.factors[0];
        let ValueRun { at, step, .. } = self.stretch(factor, spot.position(0));
        running.plus(&spot.values(&factor.data[at..], step).scaled(spot.scale))
    }

    /// As far as a stretch goes in one row; one element of a delta that lies the other way round.
    fn extent(&self, window: &Window) -> [usize; 2] {
        // Where values lie in a factor does not matter to how many there are.
        let none = FactorView { data: &[], axis: None, first: 0, stride: 0, inner: 0, inner_stride: 0 };
        let stretch = self.stretch(&none, position(window, 0, 0));
        [1, if window.rows.axis == Some(1) { 1 } else { stretch.len.min(window.cols.len()) }]
    }
}

impl Delta for Repeated {
    fn is_added(&self) -> bool {
        true
    }

    fn polynomial(&self) -> Option<&dyn Polynomial> {
        Some(self)
    }

    fn apply(&self, block: &mut Block<'_>) {
        let factor = block.factors[0];
        let cols = block.window.cols.len();
        for p in 0..block.window.rows.len() {
            for q in 0..cols {
                let ValueRun { at, .. } = self.stretch(&factor, position(block.window, p, q));
                block.scratch[p * cols + q] = factor.data[at];
            }
        }
        block.add_scaled();
    }

    fn rank(&self, _: &[Factor]) -> Option<u64> {
        match *self {
            Repeated::Inputs { inputs } | Repeated::Blocks { inputs, .. } => Some(inputs as u64),
            Repeated::Circulant { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where the value of an element is.
    type ElementPlace<'p> = &'p dyn Fn(usize, usize) -> usize;

    #[test]
    fn stretches_are_what_the_patterns_say() {
        let data: Vec<f32> = (0..60).map(|value| value as f32).collect();
        let view = |stride, inner_stride| FactorView {
            data: &data,
            axis: Some(0),
            first: 0,
            stride,
            inner: 5,
            inner_stride,
        };
        // `[5, out 12]` as its file has it, `[5, 3]`, and blocks of 3 of `[4, 5, 3]`.
        let inputs = |o: usize, i: usize| i % 5 * 12 + o;
        let blocks = |o: usize, i: usize| i % 5 * 3 + o % 3;
        let circulant = |o: usize, i: usize| (o / 3 * 5 + i / 3) * 3 + (i + 3 - o % 3) % 3;
        let all: [(Repeated, FactorView<'_>, ElementPlace<'_>); 3] = [
            (Repeated::Inputs { inputs: 5 }, view(1, 12), &inputs),
            (Repeated::Blocks { inputs: 5, outputs: 3 }, view(0, 1), &blocks),
            (Repeated::Circulant { side: 3, width: 15 }, view(0, 1), &circulant),
        ];
        for (pattern, factor, right) in all {
            for out in 0..12 {
                for input in 0..15 {
                    let ValueRun { at, step, len } = pattern.stretch(&factor, [out, input]);
                    assert!(len > 0, "{pattern:?} {out} {input}");
                    for k in 0..len.min(15 - input) {
                        assert_eq!(at + k * step, right(out, input + k), "{pattern:?} {out} {input} {k}");
                    }
                }
            }
        }
    }
}
