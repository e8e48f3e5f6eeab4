//! Uni-LoRA's factors: each value is one of a vector's, times what its file has for it.
//!
//! Source: Li et al. 2025 (arXiv:2506.00799). PEFT: `unilora/layer.py`, `get_delta_weight`. The sources are the vector, whole, and by rows the
//! numbers of its values and what they are multiplied by.

use serde::{Deserialize, Serialize};

use crate::ops::derived::bad_source::BadSource;
use crate::ops::derived::{DerivedFrom, Recipe};
use crate::ops::factor_values::FactorValues;

/// Values of a vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Picked;

impl Recipe for Picked {
    fn whole(&self) -> usize {
        1
    }

    fn has_indices(&self, source: usize) -> bool {
        source == 1
    }

    fn make(&self, _: usize, sources: &DerivedFrom<'_>, values: &mut [f32]) -> Result<(), BadSource> {
        let theta = &sources.whole[0];
        for ((to, number), scale) in values.iter_mut().zip(sources.rows[0]).zip(sources.rows[1]) {
            let value = theta.get(*number as usize).filter(|_| *number >= 0.0 && number.fract() == 0.0);
            let value =
                value.ok_or(BadSource { source: 1, why: "has a number that is no value of the vector" })?;
            *to = (value * scale) as f32;
        }
        Ok(())
    }

    /// Numbers of zero pick, too.
    fn is_zero(&self, sources: &[FactorValues]) -> bool {
        sources[0].all_zero || sources[2].all_zero
    }
}
