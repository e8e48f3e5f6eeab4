//! Rotations of outputs in pairs that stand half a group apart, and their lengths: `y_j = f_j·w_j − t_j·w_{j+h}`, `y_{j+h} = f_{j+h}·w_{j+h} + t_{j+h}·w_j`
//! with `f = α·cos θ` and `t = α·sin θ`.
//!
//! Source: Liao and Monz 2024 (arXiv:2409.00119, RoAd). The factors are all `θ` and all `α`; [`Angles`] says which of them an output has. The bias of a
//! layer is rotated as its weight is. There is no scale; rotations work on what deltas before them left.
//!
//! Rounding: sines and cosines ([`crate::kernels::circle`]), their products with `α` and all else in f64, rounded to f32 once.

use serde::{Deserialize, Serialize};

use crate::kernels::circle::cos_sin;
use crate::ops::Delta;
use crate::ops::access::Access;
use crate::ops::block::{Block, FactorView};
use crate::ops::factor_values::FactorValues;

/// A rotation of outputs in pairs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RotatePairs {
    /// Outputs of a group.
    pub group: usize,
    /// Which angles and lengths outputs have.
    pub angles: Angles,
    /// Whether it is a bias that is rotated, whose outputs are one row.
    pub is_vector: bool,
}

/// Which angles and lengths outputs have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Angles {
    /// One for each pair.
    Pairs,
    /// One for each output.
    Outputs,
    /// Two for each output, group by group: those of all cosines, then those of all sines.
    Both,
}

impl Angles {
    /// How many there are for so many outputs.
    pub(crate) fn count(self, outputs: u64) -> u64 {
        match self {
            Angles::Pairs => outputs / 2,
            Angles::Outputs => outputs,
            Angles::Both => outputs.saturating_mul(2),
        }
    }
}

impl RotatePairs {
    /// `f` and `t` of an output.
    fn multipliers(&self, theta: &FactorView<'_>, alpha: &FactorView<'_>, out: usize) -> [f64; 2] {
        let (first, within) = (out / self.group, out % self.group);
        let half = self.group / 2;
        let places = match self.angles {
            Angles::Pairs => [first * half + within % half; 2],
            Angles::Outputs => [out; 2],
            Angles::Both => [first * 2 * self.group + within, (first * 2 + 1) * self.group + within],
        };
        let of = |place: usize, which: usize| {
            f64::from(alpha.data[place]) * cos_sin(f64::from(theta.data[place]))[which]
        };
        [of(places[0], 0), of(places[1], 1)]
    }
}

impl Delta for RotatePairs {
    fn apply(&self, block: &mut Block<'_>) {
        let (theta, alpha) = (block.factors[0], block.factors[1]);
        let window = block.window;
        let (half, cols) = (self.group / 2, window.cols.len());
        // Outputs, and how often a pair of them is there.
        let (outs, times) = if self.is_vector { (&window.cols, 1) } else { (&window.rows, cols) };
        assert!(outs.len().is_multiple_of(self.group), "the op asked for whole groups");
        for first in (0..outs.len()).step_by(self.group).flat_map(|group| group..group + half) {
            let pair = [first, first + half];
            let [[f, t], [other_f, other_t]] =
                pair.map(|out| self.multipliers(&theta, &alpha, outs.range.start as usize + out));
            for q in 0..times {
                let places = pair.map(|out| if self.is_vector { (0, out) } else { (out, q) });
                let at = places.map(|(p, q)| {
                    let (start, step) = block.row(p);
                    start + q * step
                });
                let [a, b] = at.map(|at| f64::from(block.values[at]));
                let rotated = [f * a - t * b, other_f * b + other_t * a];
                for ((at, (p, q)), new) in at.into_iter().zip(places).zip(rotated) {
                    let new = new as f32;
                    block.scratch[p * cols + q] = new - block.values[at];
                    block.values[at] = new;
                }
            }
        }
    }

    fn access(&self) -> Access {
        if self.is_vector { Access::Rows } else { Access::RowGroups(self.group as u64) }
    }

    /// Lengths act without angles.
    fn no_effect(&self, _: f32, factors: &[FactorValues]) -> Option<&'static str> {
        let is_nothing = factors[0].all_zero && factors[1].all_one;
        is_nothing.then_some("it rotates by nothing (untrained adapter?)")
    }
}
