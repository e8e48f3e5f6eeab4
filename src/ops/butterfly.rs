//! Rotations of rows by a butterfly of blocks, and a multiplier for every output: `s∘(W·(O_{m−1}⋯O₁·O₀)ᵀ)`, `Oᵢ = Pᵢ·blockdiag(Qᵢ)·Pᵢᵀ`.
//!
//! Source: Liu et al. 2024 (arXiv:2311.06243, BOFT). The factor `[m, blocks, b, b]` holds matrices `R` of which `S = (R − Rᵀ)/2` and `Q = (I − S)(I + S)⁻¹`.
//! With one stage blocks are neighbors. In stage `i` of several a chunk of `2ⁱ·b` inputs is cut into groups of `b / 2`, and blocks are made
//! of the even ones and the odd ones by turns. The second factor has the multipliers. There is no scale; rotations work on what deltas before
//! them left.
//!
//! Rounding: `Q` in f64, rounded to f32 once when the factor is read; all stages of a row and the multiplier in f64, in the order of a block's inputs,
//! rounded to f32 once.

use serde::{Deserialize, Serialize};

use crate::ops::access::Access;
use crate::ops::block::Block;
use crate::ops::factor_values::FactorValues;
use crate::ops::rotate::exact;
use crate::ops::whole_rows::{BUFFERS, change_rows};
use crate::ops::{Delta, Preparation};

/// A butterfly of rotations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Butterfly {
    /// Stages.
    pub stages: usize,
    /// Blocks of a stage.
    pub blocks: usize,
    /// Rows of a block.
    pub side: usize,
}

impl Butterfly {
    /// Values of the first factor in memory: the blocks, and behind them a matrix of f64 that starts at a whole one.
    pub(crate) fn prepared_len(&self) -> u64 {
        let block = (self.side * self.side) as u64;
        ((self.stages * self.blocks) as u64 + 2) * block + 1
    }

    /// The input that stands at `place` of a stage.
    fn input(&self, stage: usize, place: usize) -> usize {
        if self.stages == 1 {
            return place;
        }
        let (group, chunk) = (self.side / 2, self.side << stage);
        let (start, within) = (place / chunk * chunk, place % chunk);
        let (number, offset) = (within / group, within % group);
        // The first half of the groups stands at even places, the second at odd ones.
        let number = number / 2 + number % 2 * (chunk / group / 2);
        start + number * group + offset
    }

    /// Rotates a row by a stage; `spare` has room for a row.
    fn rotate(&self, stage: usize, rotations: &[f32], row: &mut [f64], spare: &mut [f64]) {
        let side = self.side;
        spare.copy_from_slice(row);
        for (block, q) in rotations.chunks_exact(side * side).enumerate() {
            let input = |i: usize| self.input(stage, block * side + i);
            for (i, q) in q.chunks_exact(side).enumerate() {
                let terms = q.iter().enumerate().map(|(j, q)| f64::from(*q) * spare[input(j)]);
                row[input(i)] = terms.sum();
            }
        }
    }
}

impl Delta for Butterfly {
    fn apply(&self, block: &mut Block<'_>) {
        let (rotations, multiplier) = (block.factors[0].data, block.factors[1]);
        let of_stage = self.blocks * self.side * self.side;
        assert_eq!(block.window.cols.len(), self.blocks * self.side, "the op asked for whole rows");
        change_rows(block, &mut |out, row, spare| {
            let rotations = rotations.chunks_exact(of_stage).take(self.stages);
            rotations.enumerate().for_each(|(stage, rotations)| self.rotate(stage, rotations, row, spare));
            let by = f64::from(multiplier.at(out, 0));
            row.iter_mut().for_each(|value| *value *= by);
        });
    }

    fn access(&self) -> Access {
        Access::Rows
    }

    fn scratch_buffers(&self) -> usize {
        BUFFERS
    }

    fn preparation(&self) -> Option<&dyn Preparation> {
        Some(self)
    }

    /// A multiplier acts without a rotation.
    fn no_effect(&self, _: f32, factors: &[FactorValues]) -> Option<&'static str> {
        let is_nothing = factors[0].all_zero && factors[1].all_one;
        is_nothing.then_some("it rotates by nothing (untrained adapter?)")
    }
}

impl Preparation for Butterfly {
    fn prepare(&self, values: &mut [f32]) {
        let (side, size) = (self.side, self.side * self.side);
        let (blocks, scratch) = values.split_at_mut(self.stages * self.blocks * size);
        let (_, dense, _) = bytemuck::pod_align_to_mut::<f32, f64>(scratch);
        let dense = &mut dense[..size];
        for block in blocks.chunks_exact_mut(size) {
            for (place, dense) in dense.iter_mut().enumerate() {
                let (i, j) = (place / side, place % side);
                // `exact` makes `(I − S)(I + S)⁻¹` of `−S`.
                *dense = (f64::from(block[j * side + i]) - f64::from(block[i * side + j])) / 2.0;
            }
            exact(dense, side, block);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_of_a_stage_are_those_of_its_permutation() {
        let butterfly = Butterfly { stages: 3, blocks: 8, side: 4 };
        for stage in 0..3 {
            // As PEFT sorts a chunk: `π` has the even groups of two, then the odd ones; place `π(j)` has input `j`.
            let chunk = 4 << stage;
            let groups = chunk / 2;
            let sorted = (0..groups).step_by(2).chain((1..groups).step_by(2));
            let order: Vec<usize> = sorted.flat_map(|group| [2 * group, 2 * group + 1]).collect();
            for place in 0..32 {
                let input = butterfly.input(stage, place);
                assert_eq!(input / chunk, place / chunk);
                assert_eq!(order[input % chunk], place % chunk, "stage {stage}, place {place}");
            }
        }
        let plain = Butterfly { stages: 1, ..butterfly };
        assert!((0..32).all(|place| plain.input(0, place) == place));
    }
}
