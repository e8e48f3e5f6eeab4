//! DeLoRA's input factor: rows of unit length, times what makes the output factor's columns of unit length, too, and the length of
//! each column of the base.
//!
//! Source: Bini et al. 2025 (arXiv:2503.18225). PEFT: `delora/layer.py`, `_compute_delta`: row `k` is `A[k, i] · w[i] · λ / (r ·
//! max(‖A[k]‖, 10⁻⁴) · max(‖B[:, k]‖, 10⁻⁴))`. The sources are `B [out, rank]`, `λ` and `w [in]`, whole, and `A [rank, in]` by rows.

use serde::{Deserialize, Serialize};

use crate::ops::derived::bad_source::BadSource;
use crate::ops::derived::{DerivedFrom, Recipe};

/// Rows of unit length, times numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UnitRows {
    /// Rows of the factor.
    pub rank: usize,
}

/// The least length that is divided by.
const LEAST: f64 = 1e-4;

fn length(values: impl Iterator<Item = f64>) -> f64 {
    values.map(|value| value * value).sum::<f64>().sqrt().max(LEAST)
}

impl Recipe for UnitRows {
    fn whole(&self) -> usize {
        3
    }

    fn make(&self, row: usize, sources: &DerivedFrom<'_>, values: &mut [f32]) -> Result<(), BadSource> {
        let [b, lambda, widths] = sources.whole else { return Ok(()) };
        let a = sources.rows[0];
        let lengths = length(a.iter().copied()) * length(b.iter().skip(row).step_by(self.rank).copied());
        let by = lambda[0] / self.rank as f64 / lengths;
        let all = values.iter_mut().zip(a).zip(widths);
        all.for_each(|((to, value), width)| *to = (value * by * width) as f32);
        Ok(())
    }
}
