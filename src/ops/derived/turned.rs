//! TinyLoRA's input factor: `R·A`, where `R` is the sum of fixed matrices times a trained number each.
//!
//! Source: Morris et al. 2026 (arXiv:2602.04118). PEFT: `tinylora/layer.py`, `_compute_R`: `R = Σ v[i]·P[i]`. The sources are `v [u]`, `P [u, rank, rank]`
//! and `A [rank, in]`, all whole.

use serde::{Deserialize, Serialize};

use crate::ops::derived::bad_source::BadSource;
use crate::ops::derived::{DerivedFrom, Recipe};

/// A small matrix times a factor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Turned {
    /// Rows of the factor.
    pub rank: usize,
}

impl Recipe for Turned {
    fn whole(&self) -> usize {
        3
    }

    fn make(&self, row: usize, sources: &DerivedFrom<'_>, values: &mut [f32]) -> Result<(), BadSource> {
        let [v, p, a] = sources.whole else { return Ok(()) };
        let element = |j: usize| {
            let at = |i: usize| p[(i * self.rank + row) * self.rank + j];
            v.iter().enumerate().map(|(i, v)| v * at(i)).sum::<f64>()
        };
        let r: Vec<f64> = (0..self.rank).map(element).collect();
        let width = values.len();
        for (i, to) in values.iter_mut().enumerate() {
            *to = r.iter().enumerate().map(|(j, r)| r * a[j * width + i]).sum::<f64>() as f32;
        }
        Ok(())
    }
}
