//! VB-LoRA's factors: sums of vectors of a bank, by the largest of logits.
//!
//! Source: Li et al. 2024 (arXiv:2405.15179). PEFT: `vblora/layer.py`, `_get_low_rank_matrix` (peft-methods.md 4.6): of each group of logits the
//! `top` largest are taken, and their softmax are the weights of the bank's vectors of these numbers. Files that keep nothing else
//! have the numbers, and all weights but the last, which is what the others leave of one. Of equal logits the first are taken.
//!
//! The sources are the bank, whole, and by rows the logits, or numbers and weights. A row is one group behind another; of an output factor it
//! is `length` positions of `rank` values each.

use serde::{Deserialize, Serialize};

use crate::kernels::portable::exp;
use crate::ops::derived::bad_source::BadSource;
use crate::ops::derived::{DerivedFrom, Recipe};
use crate::ops::factor_values::FactorValues;

/// Sums of a bank's vectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mixed {
    /// Vectors of the bank.
    pub vectors: usize,
    /// Values of each.
    pub length: usize,
    /// Vectors of a sum.
    pub top: usize,
    /// Whether the file has numbers and weights in place of logits.
    pub is_chosen: bool,
    /// Whether values of the groups of a row alternate, as those of an output factor do.
    pub is_across: bool,
}

impl Mixed {
    /// Numbers and weights of one group.
    fn chosen(&self, group: usize, rows: &[&[f64]]) -> Result<Vec<(usize, f64)>, BadSource> {
        if !self.is_chosen {
            return Ok(self.largest(&rows[0][group * self.vectors..][..self.vectors]));
        }
        let numbers = &rows[0][group * self.top..][..self.top];
        let weights = &rows[1][group * (self.top - 1)..][..self.top - 1];
        let last = 1.0 - weights.iter().sum::<f64>();
        let pairs = numbers.iter().zip(weights.iter().chain([&last]));
        let checked = |(&number, &weight): (&f64, &f64)| {
            let is_one = number >= 0.0 && number < self.vectors as f64;
            is_one
                .then_some((number as usize, weight))
                .ok_or(BadSource { source: 1, why: "has a number that is no vector of the bank" })
        };
        pairs.map(checked).collect()
    }

    /// The largest of some logits, and their softmax.
    fn largest(&self, logits: &[f64]) -> Vec<(usize, f64)> {
        let mut order: Vec<usize> = (0..logits.len()).collect();
        order.sort_unstable_by(|&i, &j| logits[j].total_cmp(&logits[i]).then(i.cmp(&j)));
        order.truncate(self.top);
        let most = order.first().map_or(0.0, |&first| logits[first]);
        let powers: Vec<f64> = order.iter().map(|&i| exp(logits[i] - most)).collect();
        let sum: f64 = powers.iter().sum();
        order.into_iter().zip(powers).map(|(i, power)| (i, power / sum)).collect()
    }
}

impl Recipe for Mixed {
    fn whole(&self) -> usize {
        1
    }

    fn has_indices(&self, source: usize) -> bool {
        self.is_chosen && source == 1
    }

    fn make(&self, _: usize, sources: &DerivedFrom<'_>, values: &mut [f32]) -> Result<(), BadSource> {
        let bank = &sources.whole[0];
        let groups = values.len() / self.length;
        for group in 0..groups {
            let chosen = self.chosen(group, sources.rows)?;
            for p in 0..self.length {
                let sum: f64 =
                    chosen.iter().map(|(vector, weight)| weight * bank[vector * self.length + p]).sum();
                values[if self.is_across { p * groups + group } else { group * self.length + p }] =
                    sum as f32;
            }
        }
        Ok(())
    }

    /// Logits of zero choose, too.
    fn is_zero(&self, sources: &[FactorValues]) -> bool {
        sources[0].all_zero
    }
}
