//! Several products, of each of which the small elements or a random part are left out, and then those against the majority: TIES and its relatives.
//!
//! Source: Yadav et al. 2023 (arXiv:2306.01708, TIES). PEFT: `merge_utils.py`, `ties`, `magnitude_prune`, `dare_ties`: of every delta without its
//! weight what is left; the sign of their sum, 0 counted as positive; then the mean of those of that sign, each with its weight. PEFT does so with `A` and
//! `B` apart; here it is done with the products.
//!
//! Factors are `A` and `B` of every term, and behind them the threshold of each term that has one.
//!
//! Rounding: each product in f32, in which it is also compared; its multiples, their sums and the mean in f64, rounded to f32 once, and that added to the
//! running value.

use serde::{Deserialize, Serialize};

use crate::ops::Delta;
use crate::ops::block::Block;
use crate::ops::factor::Factor;
use crate::ops::factor_values::FactorValues;
use crate::ops::formula::position;
use crate::ops::sampled::Draw;

/// Several products, of which parts are left out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Elected {
    /// The products.
    pub terms: Vec<ElectedTerm>,
    /// Whether those against the majority are left out, and the others' mean is taken; else all are added up.
    pub by_majority: bool,
}

/// One product.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ElectedTerm {
    /// What it is multiplied by where it votes.
    pub vote: f32,
    /// What it is multiplied by where it is taken.
    pub scale: f32,
    /// Which of its elements are left.
    pub kept: Kept,
}

/// What is left of a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kept {
    /// All of it.
    All,
    /// Elements whose magnitude is no less than its threshold, a factor.
    Largest,
    /// A random part.
    Drawn(Draw),
}

impl Elected {
    /// What is added for what is left of each product.
    fn elected(&self, left: impl Iterator<Item = f32> + Clone) -> f32 {
        let terms = || self.terms.iter().zip(left.clone()).filter(|(_, product)| *product != 0.0);
        let times = |scale: f32, product: f32| f64::from(scale) * f64::from(product);
        if !self.by_majority {
            return terms().map(|(term, product)| times(term.scale, product)).sum::<f64>() as f32;
        }
        let votes: f64 = terms().map(|(term, product)| times(term.vote, product)).sum();
        let (mut sum, mut count) = (0.0, 0u32);
        for (term, product) in terms() {
            if (times(term.vote, product) > 0.0) == (votes >= 0.0) {
                sum += times(term.scale, product);
                count += 1;
            }
        }
        (sum / f64::from(count.max(1))) as f32
    }

    /// The factor that holds a term's threshold.
    fn threshold(&self, term: usize) -> usize {
        let before = self.terms[..term].iter().filter(|term| term.kept == Kept::Largest);
        2 * self.terms.len() + before.count()
    }
}

impl Delta for Elected {
    fn apply(&self, block: &mut Block<'_>) {
        let (elements, width) = (block.elements(), block.window.cols.len());
        for (i, term) in self.terms.iter().enumerate() {
            block.product_into(i, 2 * i, 2 * i + 1);
            let least = match term.kept {
                Kept::Largest => block.factors[self.threshold(i)].data[0],
                Kept::All | Kept::Drawn(_) => 0.0,
            };
            for (at, value) in block.scratch[i * elements..][..elements].iter_mut().enumerate() {
                let is_left = match term.kept {
                    Kept::Drawn(draw) => draw.has(position(block.window, at / width, at % width)),
                    Kept::All | Kept::Largest => value.abs() >= least,
                };
                *value = if is_left { *value } else { 0.0 };
            }
        }
        for at in 0..elements {
            let left = block.scratch[at..].iter().step_by(elements).copied().take(self.terms.len());
            block.scratch[at] = self.elected(left);
        }
        block.add_scaled();
    }

    fn scratch_buffers(&self) -> usize {
        self.terms.len()
    }

    fn inner_dimension(&self, factors: &[Factor]) -> u64 {
        factors.iter().take(2 * self.terms.len()).map(|factor| factor.inner).max().unwrap_or(0)
    }

    fn is_added(&self) -> bool {
        true
    }

    /// Every product acts without the others.
    fn no_effect(&self, scale: f32, factors: &[FactorValues]) -> Option<&'static str> {
        let is_nothing = |of: &[FactorValues]| of.iter().any(|factor| factor.all_zero);
        if factors.chunks(2).take(self.terms.len()).all(is_nothing) {
            return Some("a factor of each product is all zero (untrained adapters?)");
        }
        (scale == 0.0).then_some("its scale is 0")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_majority_s_mean_is_taken_and_zero_does_not_vote() {
        let term = |vote, scale| ElectedTerm { vote, scale, kept: Kept::All };
        let mut elected =
            Elected { terms: vec![term(1.0, 2.0), term(1.0, 0.5), term(-1.0, -3.0)], by_majority: true };
        for (left, found) in [
            // 1, 3 and 4 by their votes: all agree.
            ([1.0, 3.0, -4.0], (2.0 + 1.5 + 12.0) / 3.0),
            // 1, -3 and 0: the one that votes against the others is left out.
            ([1.0, -3.0, 0.0], -1.5),
            // They cancel each other, which counts as positive.
            ([1.0, -1.0, 0.0], 2.0),
            ([0.0, 0.0, 0.0], 0.0),
        ] {
            assert_eq!(elected.elected(left.into_iter()), found, "{left:?}");
        }
        elected.by_majority = false;
        assert_eq!(elected.elected([1.0, -3.0, 2.0].into_iter()), 2.0 - 1.5 - 6.0);
    }
}
