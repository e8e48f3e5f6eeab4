//! A rotation of outputs, block by block: `blockdiag(R)·W`, or a butterfly of several such.
//!
//! Source: lycoris-lora 4.1 `functional/diag_oft.py` (Qiu et al. 2023, arXiv:2306.07280) and `functional/boft.py` (Liu et al. 2024, arXiv:2311.06243). The
//! factor `[stages, blocks, b, b]` holds matrices `B` of which `Q = B − Bᵀ`; all of `Q` may first be shortened to one length. With one stage alone `R = (I −
//! Q)(I + Q)⁻¹`. In a butterfly `R` is its inverse, and stage `i` works on outputs that are `k = 2ⁱ·b/2` apart: block by block on
//! `(n / 2k)·2k + g·k + j` in the order of `n`, `j`, `g`. A second factor multiplies the outputs of the result.
//!
//! Rounding: `R` in f64, rounded to f32 once when the factor is read; each sum of a stage in f64 in the order of outputs, rounded to f32; the multiplier in
//! f32. What is added to the running value is the difference from what the tensor started from, as LyCORIS adds it.

use serde::{Deserialize, Serialize};

use crate::ops::access::Access;
use crate::ops::block::Block;
use crate::ops::factor_values::FactorValues;
use crate::ops::rotate::exact;
use crate::ops::{Delta, Preparation};

/// A rotation of outputs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RotateOutputs {
    /// Rows of a block.
    pub side: usize,
    /// Blocks of a stage.
    pub blocks: usize,
    /// Stages of the butterfly; none for blocks of neighbors.
    pub stages: Option<usize>,
    /// The length that `Q` is shortened to, if it is.
    pub most: Option<f64>,
}

impl RotateOutputs {
    /// Values of the first factor in memory: the blocks, and behind them a matrix of f64 that starts at a whole one.
    pub(crate) fn prepared_len(&self) -> u64 {
        let block = (self.side * self.side) as u64;
        (self.all_blocks() as u64 + 2) * block + 1
    }

    fn all_blocks(&self) -> usize {
        self.blocks * self.stages.unwrap_or(1)
    }

    /// Outputs that are rotated together.
    fn together(&self) -> usize {
        if self.stages.is_some() { self.side * self.blocks } else { self.side }
    }

    /// The output that stands at `place` of a stage.
    fn output(&self, stage: usize, place: usize) -> usize {
        if self.stages.is_none() {
            return place;
        }
        let apart = (self.side / 2) << stage;
        let (within, outer) = (place % (2 * apart), place / (2 * apart));
        outer * 2 * apart + within % 2 * apart + within / 2
    }

    /// Rotates a column, which starts with what the tensor started from.
    fn rotate(&self, rotations: &[f32], column: &mut [f32], gathered: &mut [f32]) {
        let size = self.side * self.side;
        for stage in 0..self.stages.unwrap_or(1) {
            for block in 0..column.len() / self.side {
                let r = &rotations[(stage * self.blocks + block % self.blocks) * size..][..size];
                let place = |i: usize| self.output(stage, block * self.side + i);
                for (i, value) in gathered.iter_mut().enumerate() {
                    *value = column[place(i)];
                }
                for (i, r) in r.chunks_exact(self.side).enumerate() {
                    let terms = r.iter().zip(&*gathered).map(|(r, value)| f64::from(*r) * f64::from(*value));
                    column[place(i)] = terms.sum::<f64>() as f32;
                }
            }
        }
    }
}

impl Delta for RotateOutputs {
    fn apply(&self, block: &mut Block<'_>) {
        let (rotations, multiplier) = (block.factors[0].data, block.factors.get(1));
        let (first, rows, cols) =
            (block.window.rows.range.start, block.window.rows.len(), block.window.cols.len());
        assert!(rows.is_multiple_of(self.together()), "the op asked for groups of rows");
        // Of blocks that stand one by one, those from the window's first row on.
        let skipped = if self.stages.is_none() { first as usize * self.side } else { 0 };
        let elements = block.elements();
        for q in 0..cols {
            let at = |block: &Block<'_>, p: usize| {
                let (start, step) = block.row(p);
                start + q * step
            };
            for p in 0..rows {
                block.scratch[elements + p] = block.original[at(block, p)];
            }
            let (column, gathered) = block.scratch[elements..].split_at_mut(elements);
            self.rotate(&rotations[skipped..], &mut column[..rows], &mut gathered[..self.side]);
            for p in 0..rows {
                let at = at(block, p);
                let by = multiplier.map_or(1.0, |by| by.at(first + p as u64, 0));
                let (old, rotated) = (block.values[at], block.scratch[elements + p]);
                block.values[at] = rotated * by + (old - block.original[at]);
                block.scratch[p * cols + q] = block.values[at] - old;
            }
        }
    }

    fn access(&self) -> Access {
        Access::RowGroups(self.together() as u64)
    }

    fn needs_base_values(&self) -> bool {
        true
    }

    /// Beside the change, a column and a block of it.
    fn scratch_buffers(&self) -> usize {
        3
    }

    fn preparation(&self) -> Option<&dyn Preparation> {
        Some(self)
    }

    /// A multiplier acts without a rotation.
    fn no_effect(&self, _: f32, factors: &[FactorValues]) -> Option<&'static str> {
        let is_nothing = factors
            .iter()
            .enumerate()
            .all(|(i, factor)| if i == 0 { factor.all_zero } else { factor.all_one });
        is_nothing.then_some("it rotates by nothing (untrained adapter?)")
    }
}

impl Preparation for RotateOutputs {
    fn prepare(&self, values: &mut [f32]) {
        let (side, size) = (self.side, self.side * self.side);
        let (blocks, scratch) = values.split_at_mut(self.all_blocks() * size);
        let skew = |block: &[f32], i: usize, j: usize| {
            f64::from(block[i * side + j]) - f64::from(block[j * side + i])
        };
        let all = || (0..side).flat_map(|i| (0..side).map(move |j| (i, j)));
        let squares = |block: &[f32]| all().map(|(i, j)| skew(block, i, j).powi(2)).sum::<f64>();
        let length = blocks.chunks_exact(size).map(squares).sum::<f64>().sqrt() + 1e-8;
        let shrink = self.most.filter(|&most| length > most).map_or(1.0, |most| most / length);
        // `exact` makes `(I − Q)(I + Q)⁻¹` of `−Q`.
        let sign = if self.stages.is_some() { shrink } else { -shrink };
        let (_, dense, _) = bytemuck::pod_align_to_mut::<f32, f64>(scratch);
        let dense = &mut dense[..size];
        for block in blocks.chunks_exact_mut(size) {
            for (i, j) in all() {
                dense[i * side + j] = skew(block, i, j) * sign;
            }
            exact(dense, side, block);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_of_a_stage_are_apart_by_its_number() {
        let rotate = RotateOutputs { side: 4, blocks: 2, stages: Some(2), most: None };
        let outputs = |stage| (0..8).map(|place| rotate.output(stage, place)).collect::<Vec<_>>();
        assert_eq!(outputs(0), [0, 2, 1, 3, 4, 6, 5, 7]);
        assert_eq!(outputs(1), [0, 4, 1, 5, 2, 6, 3, 7]);
        let plain = RotateOutputs { stages: None, ..rotate };
        assert!((0..8).all(|place| plain.output(0, place) == place));
    }
}
