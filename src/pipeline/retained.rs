//! How much of a delta is left after rounding: `⟨Δ, W′ − W⟩ / ‖Δ‖²`, 1 if all of it arrives, and the share of its elements
//! that left the weight as it was.
//!
//! Where several ops fall on a block, `W′ − W` holds the deltas of the others too. There an op is measured by what the one
//! rounding added to the sum of all, `1 + ⟨Δ, W′ − (W + ΣΔ)⟩ / ‖Δ‖²`, which is the same number where it is alone.
//!
//! Measuring every element takes longer than merging it. A delta of more than 65,536 elements is measured on a sample: of
//! every 1024 rows 16, which lie together. Where they lie depends on nothing but the delta's size, so that the numbers are those of any run.

use serde::Serialize;

use crate::kernels::dispatch::Kernels;

/// Rows of the sample that lie together.
pub(crate) const SAMPLED_ROWS: usize = 16;
/// Of so many such strips one is measured.
const STRIPS: u64 = 64;
/// Deltas of no more elements are measured whole.
const WHOLE: u64 = 1 << 16;

/// Whether the elements of a delta at one of `rows` positions along rows are in its sample.
pub(crate) fn is_sampled(position: u64, rows: u64, cols: u64) -> bool {
    if rows.saturating_mul(cols) <= WHOLE {
        return true;
    }
    let strip = position / SAMPLED_ROWS as u64;
    let first = strip - strip % STRIPS;
    // Heads repeat with powers of two: the strip is another among each 64, so that it is not always the same part of a head.
    let picked = (first + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    strip - first == picked % (rows.div_ceil(SAMPLED_ROWS as u64) - first).min(STRIPS)
}

/// Sums over the elements of a delta.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Retention {
    /// `⟨Δ, W′ − W⟩`.
    pub arrived: f64,
    /// `‖Δ‖²`.
    pub squares: f64,
    /// `‖W‖²` of the weights that the delta falls on, as they would be without it.
    pub weight_squares: f64,
    /// Elements of the delta that are not zero.
    pub nonzero: u64,
    /// Of those, elements that left the weight as it was.
    pub unchanged: u64,
    /// Elements that were looked at.
    pub measured: u64,
}

impl Retention {
    /// What the sums would be for so many elements that are like those that were measured.
    pub(crate) fn for_elements(self, elements: u64) -> Retention {
        if self.measured == 0 || self.measured == elements {
            return self;
        }
        let by = elements as f64 / self.measured as f64;
        let count = |n: u64| (n as f64 * by).round() as u64;
        Retention {
            arrived: self.arrived * by,
            squares: self.squares * by,
            weight_squares: self.weight_squares * by,
            nonzero: count(self.nonzero),
            unchanged: count(self.unchanged),
            measured: self.measured,
        }
    }

    /// Adds the sums of other elements.
    pub(crate) fn add(&mut self, other: &Retention) {
        self.arrived += other.arrived;
        self.squares += other.squares;
        self.weight_squares += other.weight_squares;
        self.nonzero += other.nonzero;
        self.unchanged += other.unchanged;
        self.measured += other.measured;
    }

    /// The share that arrived, by weight; none if there is no delta.
    pub(crate) fn share(&self) -> Option<f64> {
        (self.squares > 0.0).then(|| self.arrived / self.squares)
    }

    /// The share of its elements that left the weight as it was.
    pub(crate) fn unchanged_share(&self) -> Option<f64> {
        (self.nonzero > 0).then(|| self.unchanged as f64 / self.nonzero as f64)
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

impl<'b> Measured<'b> {
    /// The same from a later element on.
    pub(crate) fn from(self, at: usize) -> Measured<'b> {
        Measured {
            values: &self.values[at..],
            before: &self.before[at..],
            is_sum: self.is_sum,
            still: &self.still[at..],
        }
    }

    /// The first `count`.
    fn first(self, count: usize) -> Measured<'b> {
        Measured {
            values: &self.values[..count],
            before: &self.before[..count],
            is_sum: self.is_sum,
            still: &self.still[..count],
        }
    }
}

/// Elements of an interleaved row that are gathered at a time.
const GATHERED: usize = 512;

/// Adds one row of a delta, whose elements fall on every `step`-th value.
pub(crate) fn measure(
    kernels: Kernels,
    of: Measured<'_>,
    delta: &[f32],
    step: usize,
    retention: &mut Retention,
) {
    if step == 1 {
        add_row(kernels, of.first(delta.len()), delta, retention);
        return;
    }
    let mut gathered = [[0.0; GATHERED]; 3];
    for (i, delta) in delta.chunks(GATHERED).enumerate() {
        let of = of.from(i * GATHERED * step);
        for (to, from) in gathered.iter_mut().zip([of.values, of.before, of.still]) {
            for (to, from) in to[..delta.len()].iter_mut().zip(from.iter().step_by(step)) {
                *to = *from;
            }
        }
        let [values, before, still] = gathered.each_ref().map(|row| &row[..delta.len()]);
        add_row(kernels, Measured { values, before, is_sum: of.is_sum, still }, delta, retention);
    }
}

/// Adds as many elements as `of` has, one after the other.
fn add_row(kernels: Kernels, of: Measured<'_>, delta: &[f32], retention: &mut Retention) {
    let sums = kernels.retention_sums(of.values, of.before, of.still, delta);
    retention.add(&Retention {
        arrived: sums.arrived + if of.is_sum { sums.squares } else { 0.0 },
        squares: sums.squares,
        weight_squares: sums.still_squares,
        nonzero: sums.nonzero,
        unchanged: sums.unchanged,
        measured: delta.len() as u64,
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(
        values: &[f32],
        before: &[f32],
        is_sum: bool,
        still: &[f32],
        delta: &[f32],
        step: usize,
    ) -> Retention {
        let mut retention = Retention::default();
        measure(Kernels::detect(), Measured { values, before, is_sum, still }, delta, step, &mut retention);
        retention
    }

    #[test]
    fn the_sample_is_one_strip_of_every_sixty_four() {
        for rows in [1, 17, 100, 1000, 1024, 1025, 4096, 50_000] {
            let sampled: Vec<u64> = (0..rows).filter(|&row| is_sampled(row, rows, WHOLE + 1)).collect();
            let strata = rows.div_ceil(SAMPLED_ROWS as u64 * STRIPS) as usize;
            assert!(sampled.len() <= strata * SAMPLED_ROWS, "{rows} rows");
            // Each stratum has its own, and only the last strip of all may be short.
            let strips: std::collections::BTreeSet<u64> =
                sampled.iter().map(|row| row / SAMPLED_ROWS as u64).collect();
            let strata_hit: std::collections::BTreeSet<u64> =
                strips.iter().map(|strip| strip / STRIPS).collect();
            assert_eq!((strips.len(), strata_hit.len()), (strata, strata), "{rows} rows");
        }
        assert!((0..256).all(|row| is_sampled(row, 256, 256)), "small deltas are measured whole");
    }

    #[test]
    fn a_sample_stands_for_all() {
        let sums = |by: f64| Retention {
            arrived: by,
            squares: 2.0 * by,
            weight_squares: 3.0 * by,
            nonzero: 3 * by as u64,
            unchanged: by as u64,
            measured: 4,
        };
        let (some, all) = (sums(1.0), sums(10.0));
        assert_eq!((some.for_elements(40), some.for_elements(4)), (all, some));
        assert_eq!(all.share(), some.share());
    }

    #[test]
    fn a_delta_that_is_rounded_away_is_counted() {
        // Two of four elements arrive, and of the one that is zero nothing is said.
        let (original, values) = ([1.0, 1.0, 1.0, 1.0], [1.5, 1.0, 1.0, 0.5]);
        let retention = measured(&values, &original, false, &original, &[0.5, 0.25, 0.0, -0.5], 1);
        assert_eq!((retention.nonzero, retention.unchanged), (3, 1));
        assert_eq!(retention.share(), Some(0.5 / (0.25 + 0.0625 + 0.25)));
        assert_eq!(retention.unchanged_share(), Some(1.0 / 3.0));
        assert_eq!(retention.weight_squares, 4.0);
        assert_eq!(Retention::default().share(), None);
    }

    #[test]
    fn steps_and_sums_are_followed() {
        let (original, values) = ([1.0, 9.0, 1.0], [1.5, 9.0, 1.25]);
        let retention = measured(&values, &original, false, &original, &[0.5, 0.25], 2);
        assert_eq!(retention.share(), Some(1.0));
        // A row that is gathered in several steps, of which every second element loses its delta.
        let delta = [0.5; 3 * GATHERED - 1];
        let original = vec![1.0; 3 * delta.len()];
        let values: Vec<f32> = (0..original.len()).map(|i| if i % 6 == 0 { 1.5 } else { 1.0 }).collect();
        let retention = measured(&values, &original, false, &original, &delta, 3);
        assert_eq!((retention.nonzero, retention.unchanged), (1535, 767));
        assert_eq!(retention.share(), Some(768.0 / 1535.0));
        // Another op added 3: only the rounding of the sum counts.
        let (sum, values) = ([4.5f32], [4.25f32]);
        let retention = measured(&values, &sum, true, &[1.0], &[0.5], 1);
        assert_eq!(retention.share(), Some(1.0 - 0.5 * 0.25 / 0.25));
    }
}
