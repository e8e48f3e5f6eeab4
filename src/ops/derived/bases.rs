//! RandLoRA's trained factor: row `k` is `λ[k div n, k mod n] · A[k div n, i] · γ[k mod n, i]` of `n` bases.
//!
//! Source: Albert et al. 2025 (arXiv:2502.00987). PEFT: `randlora/layer.py`, `get_scaled_bases` and `get_delta_weight` (peft-methods.md 4.4): the rows
//! of the other factor are numbered the other way, and that is what was trained. The sources are `λ [rank, n]`, `γ [n, width]` and the shared
//! `A [rank, 1, widest]`, all whole.

use serde::{Deserialize, Serialize};

use crate::ops::derived::bad_source::BadSource;
use crate::ops::derived::{DerivedFrom, Recipe};

/// Rows of bases that several numbers make.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Bases {
    /// Bases that there are.
    pub count: usize,
    /// Values of a row of the shared factor.
    pub widest: usize,
}

impl Recipe for Bases {
    fn whole(&self) -> usize {
        3
    }

    fn make(&self, row: usize, sources: &DerivedFrom<'_>, values: &mut [f32]) -> Result<(), BadSource> {
        let [lambda, gamma, a] = sources.whole else { return Ok(()) };
        let (rank, base) = (row / self.count, row % self.count);
        let (a, gamma) = (&a[rank * self.widest..], &gamma[base * values.len()..]);
        for ((to, a), gamma) in values.iter_mut().zip(a).zip(gamma) {
            *to = (lambda[row] * a * gamma) as f32;
        }
        Ok(())
    }
}
