//! DEFT's input factor: `s·R − GᵀW`, what is put in place of the part of a weight that lies in the columns of `G`.
//!
//! Source: PEFT, `deft/layer.py`, `_merge_factor` and `_delta_from_factor` (peft-methods.md 4.14): `G` is `max(P, 0)`, or the `Q` of `P`. The sources are `P [out,
//! rank]` and, unless the part is only taken out, `R [rank, in]`, whole, and the weight as the base has it.

use serde::{Deserialize, Serialize};

use crate::ops::derived::bad_source::BadSource;
use crate::ops::derived::orthonormal::orthonormalize;
use crate::ops::derived::{DerivedFrom, Recipe, RowSum};
use crate::ops::factor_values::FactorValues;

/// What is left of a factor without its part in a weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Projected {
    /// Columns of `P`.
    pub rank: usize,
    /// Inputs of the weight.
    pub inputs: usize,
    /// Whether the weight is stored as `[in, out]`.
    pub is_transposed: bool,
    /// Whether the columns of `P` are brought to right angles; else what is negative of them is zero.
    pub is_orthonormal: bool,
    /// Whether there is an `R`, and the bits of what it is multiplied by, an f64.
    pub scale: Option<u64>,
}

impl Recipe for Projected {
    fn whole(&self) -> usize {
        1 + usize::from(self.scale.is_some())
    }

    fn prepare(&self, whole: &mut [Vec<f64>]) {
        if self.is_orthonormal {
            orthonormalize(&mut whole[0], self.rank);
        } else {
            whole[0].iter_mut().for_each(|value| *value = value.max(0.0));
        }
    }

    fn make(&self, _: usize, sources: &DerivedFrom<'_>, values: &mut [f32]) -> Result<(), BadSource> {
        let sum = sources.rows[0];
        let scale = self.scale.map_or(0.0, f64::from_bits);
        for (i, to) in values.iter_mut().enumerate() {
            let put_in = if self.scale.is_some() { scale * sources.whole[1][i] } else { 0.0 };
            *to = (put_in - sum[i]) as f32;
        }
        Ok(())
    }

    fn sum(&self) -> Option<&dyn RowSum> {
        Some(self)
    }

    fn is_zero(&self, sources: &[FactorValues]) -> bool {
        sources[0].all_zero && sources.get(1).is_none_or(|r| r.all_zero)
    }
}

impl RowSum for Projected {
    fn len(&self, _: usize) -> usize {
        self.rank * self.inputs
    }

    fn add(&self, row: usize, values: &[f64], whole: &[Vec<f64>], sum: &mut [f64]) {
        let g = &whole[0];
        for (k, sum) in sum.chunks_exact_mut(self.inputs).enumerate() {
            if self.is_transposed {
                let of_rows = g.iter().skip(k).step_by(self.rank);
                sum[row] = of_rows.zip(values).map(|(g, value)| g * value).sum();
            } else {
                let g = g[row * self.rank + k];
                sum.iter_mut().zip(values).for_each(|(sum, value)| *sum += g * value);
            }
        }
    }
}
