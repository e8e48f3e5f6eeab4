//! A product of two factors of which a random part is kept: `W + s·(B·A)∘M`, with a mask `M` of ones and zeros.
//!
//! Source: Yu et al. 2023 (arXiv:2311.03099, DARE), where the scale makes up for what is left out. PEFT draws masks of `A` and of `B` apart from torch's
//! generator (`merge_utils.py`, `random_pruning`); here an element of the delta has a random number of its own, which depends on a key and on where it
//! stands, so that no tile, thread or budget changes it: that of SplitMix64 (Steele et al. 2014, Fast splittable pseudorandom number
//! generators) from the key on, one step for each element of the delta in the order of its rows.
//!
//! Rounding: once, at the end; beside a delta without a formula the product is in f32, then `t = product · s`, and `value + t`.

use serde::{Deserialize, Serialize};
use smallvec::smallvec;

use crate::kernels::exact::Number;
use crate::ops::Delta;
use crate::ops::block::{Block, FactorView};
use crate::ops::factor::Factor;
use crate::ops::formula::{FactorPairs, Formula, Polynomial, Spot, position};
use crate::ops::placement::Window;

/// What SplitMix64 adds with each step.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// A product of which a random part is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sampled {
    /// Which elements are kept.
    pub draw: Draw,
}

/// A random part of a delta's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Draw {
    /// What the generator starts from.
    pub key: u64,
    /// Elements whose random number is below it are kept.
    pub below: u64,
    /// Positions of the delta's second axis.
    pub width: u64,
}

impl Draw {
    /// Whether it has the element at a position on both axes.
    pub(crate) fn has(&self, [i, j]: [usize; 2]) -> bool {
        let index = (i as u64).wrapping_mul(self.width).wrapping_add(j as u64);
        step(self.key, index) < self.below
    }
}

impl Sampled {
    /// One where an element is kept, else zero.
    fn kept(&self, at: [usize; 2]) -> f32 {
        f32::from(u8::from(self.draw.has(at)))
    }
}

/// The number that SplitMix64 gives so many steps after the first.
fn step(key: u64, index: u64) -> u64 {
    let mut state = key.wrapping_add(STEP.wrapping_mul(index.wrapping_add(1)));
    state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    state ^ (state >> 31)
}

impl Formula for Sampled {
    #[inline(always)]
    fn apply<N: Number>(&self, spot: &Spot<'_, N>, running: N) -> N {
        let kept = spot.gathered(|at| self.kept(at));
        running.plus(&spot.product(0).scaled(spot.scale).times(&kept))
    }

    fn products<'b>(&self, factors: &'b [FactorView<'b>], window: &Window) -> FactorPairs<'b> {
        smallvec![factors[0].pair(&factors[1], window)]
    }
}

impl Delta for Sampled {
    fn polynomial(&self) -> Option<&dyn Polynomial> {
        Some(self)
    }

    fn apply(&self, block: &mut Block<'_>) {
        block.product_of(0, 1);
        let width = block.window.cols.len();
        for (at, value) in block.scratch[..block.window.rows.len() * width].iter_mut().enumerate() {
            *value *= self.kept(position(block.window, at / width, at % width));
        }
        block.add_scaled();
    }

    fn inner_dimension(&self, factors: &[Factor]) -> u64 {
        self.rank(factors).unwrap_or(0)
    }

    fn rank(&self, factors: &[Factor]) -> Option<u64> {
        factors.first().map(|factor| factor.inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_generator() {
        // The first of the published generator from the seed 1234567.
        let published = [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423u64];
        assert_eq!([0, 1, 2].map(|index| step(1_234_567, index)), published);
    }

    #[test]
    fn about_as_many_are_kept_as_the_density_says() {
        let sampled = Sampled { draw: Draw { key: 7, below: u64::MAX / 4, width: 100 } };
        let kept: f32 = (0..10_000).map(|at| sampled.kept([at / 100, at % 100])).sum();
        assert!((2300.0..2700.0).contains(&kept), "{kept}");
    }
}
