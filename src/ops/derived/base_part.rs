//! OLoRA's start: the part of a weight that lies in the space of its first columns, `Q·(QᵀW)`, as its two factors.
//!
//! Source: Büyükakyüz 2024 (arXiv:2406.01775). PEFT: `lora/layer.py`, `olora_init`, which takes the first rows of `R` of `W = Q·R`: these are `QᵀW` of the first
//! columns of `Q`, which the first columns of `W` make. Signs do not matter to the product. The source is the weight `[out, in]` as the base has
//! it, gone through once for `Q`, and once more for the other factor.

use serde::{Deserialize, Serialize};

use crate::ops::derived::orthonormal::orthonormalize;
use crate::ops::derived::{BadSource, DerivedFrom, Recipe, RowPlace, RowSum};

/// A factor of a weight's part in the space of its first columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BasePart {
    /// Columns.
    pub rank: usize,
    /// Rows of the weight.
    pub outputs: usize,
    /// Whether it is the factor that runs along inputs; else it is `Q`.
    pub is_of_inputs: bool,
}

impl Recipe for BasePart {
    fn make(&self, _: usize, sources: &DerivedFrom<'_>, values: &mut [f32]) -> Result<(), BadSource> {
        let start = if self.is_of_inputs { self.outputs * self.rank } else { 0 };
        values.iter_mut().zip(&sources.rows[0][start..]).for_each(|(to, sum)| *to = *sum as f32);
        Ok(())
    }

    fn sum(&self) -> Option<&dyn RowSum> {
        Some(self)
    }
}

impl RowSum for BasePart {
    fn len(&self, row: usize) -> usize {
        self.rank * (self.outputs + if self.is_of_inputs { row } else { 0 })
    }

    fn passes(&self) -> usize {
        1 + usize::from(self.is_of_inputs)
    }

    fn add(&self, RowPlace { pass, row }: RowPlace, values: &[f64], _: &[Vec<f64>], sum: &mut [f64]) {
        let (q, others) = sum.split_at_mut(self.outputs * self.rank);
        let q = &mut q[row * self.rank..][..self.rank];
        if pass == 0 {
            q.copy_from_slice(&values[..self.rank]);
            return;
        }
        for (sums, q) in others.chunks_exact_mut(values.len()).zip(q) {
            sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += *q * value);
        }
    }

    fn turn(&self, pass: usize, sum: &mut [f64]) {
        if pass == 0 {
            orthonormalize(&mut sum[..self.outputs * self.rank], self.rank);
        }
    }
}
