//! A weight times a vector: `W·c`, which GLoRA adds to a bias.
//!
//! The sources are what makes the vector, whole: the vector itself, or `Xd [in, rank]` and `Xu [rank, 1]`; and the weight `[out, in]` as the base has it.

use serde::{Deserialize, Serialize};

use crate::ops::derived::bad_source::BadSource;
use crate::ops::derived::{DerivedFrom, Recipe, RowSum};

/// A weight times a vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WeightTimes {
    /// Rows of the weight.
    pub outputs: usize,
    /// Whether the vector is a product of two.
    pub is_product: bool,
}

impl Recipe for WeightTimes {
    fn whole(&self) -> usize {
        1 + usize::from(self.is_product)
    }

    /// Puts the vector in place of what makes it.
    fn prepare(&self, whole: &mut [Vec<f64>]) {
        let [down, up] = whole else { return };
        let rows = down.chunks_exact(up.len().max(1));
        let dot = |row: &[f64]| row.iter().zip(up.iter()).map(|(down, up)| down * up).sum();
        let vector: Vec<f64> = rows.map(dot).collect();
        *down = vector;
    }

    fn make(&self, _: usize, sources: &DerivedFrom<'_>, values: &mut [f32]) -> Result<(), BadSource> {
        values.iter_mut().zip(sources.rows[0]).for_each(|(to, sum)| *to = *sum as f32);
        Ok(())
    }

    fn sum(&self) -> Option<&dyn RowSum> {
        Some(self)
    }
}

impl RowSum for WeightTimes {
    fn len(&self, _: usize) -> usize {
        self.outputs
    }

    fn add(&self, row: usize, values: &[f64], whole: &[Vec<f64>], sum: &mut [f64]) {
        sum[row] = values.iter().zip(&whole[0]).map(|(value, by)| value * by).sum();
    }
}
