//! How much of a delta is left after rounding: `⟨Δ, W′ − W⟩ / ‖Δ‖²`, 1 if all of it arrives, and the share of its elements
//! that left the weight as it was.
//!
//! Where several ops fall on a block, `W′ − W` holds the deltas of the others too. There an op is measured by what the one
//! rounding added to the sum of all, `1 + ⟨Δ, W′ − (W + ΣΔ)⟩ / ‖Δ‖²`, which is the same number where it is alone.

use serde::Serialize;

use crate::kernels::dispatch::Kernels;

/// Sums over the elements of a delta.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Survival {
    /// `⟨Δ, W′ − W⟩`.
    pub arrived: f64,
    /// `‖Δ‖²`.
    pub squares: f64,
    /// Elements of the delta that are not zero.
    pub nonzero: u64,
    /// Of those, elements that left the weight as it was.
    pub unmoved: u64,
}

impl Survival {
    /// Adds the sums of other elements.
    pub(crate) fn add(&mut self, other: &Survival) {
        self.arrived += other.arrived;
        self.squares += other.squares;
        self.nonzero += other.nonzero;
        self.unmoved += other.unmoved;
    }

    /// The share that arrived, by weight; none if there is no delta.
    pub(crate) fn share(&self) -> Option<f64> {
        (self.squares > 0.0).then(|| self.arrived / self.squares)
    }

    /// The share of its elements that left the weight as it was.
    pub(crate) fn unmoved_share(&self) -> Option<f64> {
        (self.nonzero > 0).then(|| self.unmoved as f64 / self.nonzero as f64)
    }
}

/// Rows of a block that a delta is measured by, from the delta's first element on.
#[derive(Clone, Copy)]
pub(crate) struct Measured<'b> {
    /// What the output decodes to.
    pub(crate) values: &'b [f32],
    /// What the tensor started from; where other ops fall on the block too, the sum of all before it was rounded.
    pub(crate) before: &'b [f32],
    /// Whether `before` is such a sum.
    pub(crate) is_sum: bool,
    /// What the original would be without any delta, in the output's type.
    pub(crate) still: &'b [f32],
}

/// Adds one row of a delta, whose elements fall on every `step`-th value.
pub(crate) fn survive(
    kernels: Kernels,
    of: Measured<'_>,
    delta: &[f32],
    step: usize,
    survival: &mut Survival,
) {
    let Measured { values, before, is_sum, still } = of;
    let survived = match step {
        1 => kernels.survived(&values[..delta.len()], &before[..delta.len()], &still[..delta.len()], delta),
        step => {
            let every =
                |all: &[f32]| -> Vec<f32> { all.iter().step_by(step).take(delta.len()).copied().collect() };
            kernels.survived(&every(values), &every(before), &every(still), delta)
        }
    };
    survival.add(&Survival {
        arrived: survived.arrived + if is_sum { survived.squares } else { 0.0 },
        squares: survived.squares,
        nonzero: survived.nonzero,
        unmoved: survived.unmoved,
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measure(
        values: &[f32],
        before: &[f32],
        is_sum: bool,
        still: &[f32],
        delta: &[f32],
        step: usize,
    ) -> Survival {
        let mut survival = Survival::default();
        survive(Kernels::detect(), Measured { values, before, is_sum, still }, delta, step, &mut survival);
        survival
    }

    #[test]
    fn a_delta_that_is_rounded_away_is_counted() {
        // Two of four elements arrive, and of the one that is zero nothing is said.
        let (original, values) = ([1.0, 1.0, 1.0, 1.0], [1.5, 1.0, 1.0, 0.5]);
        let survival = measure(&values, &original, false, &original, &[0.5, 0.25, 0.0, -0.5], 1);
        assert_eq!((survival.nonzero, survival.unmoved), (3, 1));
        assert_eq!(survival.share(), Some(0.5 / (0.25 + 0.0625 + 0.25)));
        assert_eq!(survival.unmoved_share(), Some(1.0 / 3.0));
        assert_eq!(Survival::default().share(), None);
    }

    #[test]
    fn steps_and_sums_are_followed() {
        let (original, values) = ([1.0, 9.0, 1.0], [1.5, 9.0, 1.25]);
        let survival = measure(&values, &original, false, &original, &[0.5, 0.25], 2);
        assert_eq!(survival.share(), Some(1.0));
        // Another op added 3: only the rounding of the sum counts.
        let (sum, values) = ([4.5f32], [4.25f32]);
        let survival = measure(&values, &sum, true, &[1.0], &[0.5], 1);
        assert_eq!(survival.share(), Some(1.0 - 0.5 * 0.25 / 0.25));
    }
}
