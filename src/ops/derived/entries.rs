//! Entries of a sparse matrix whose places are stored beside their values: SHiRA's, by rows and columns, and those of SuperTuning, by
//! their number in the matrix.
//!
//! The sources are the places and the values, both in one order.

use serde::{Deserialize, Serialize};
use smallvec::{SmallVec, smallvec};

use crate::ops::derived::bad_source::BadSource;
use crate::ops::derived::scatter::{PutEntry, Scatter};
use crate::ops::derived::{DerivedFrom, Recipe};
use crate::ops::factor_values::FactorValues;

/// Stored entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entries {
    /// Columns of the matrix whose elements the places count, row behind row; none where all rows come first, and then all columns.
    pub width: Option<u64>,
}

impl Recipe for Entries {
    fn make(&self, _: usize, _: &DerivedFrom<'_>, _: &mut [f32]) -> Result<(), BadSource> {
        Ok(())
    }

    fn scatter(&self) -> Option<&dyn Scatter> {
        Some(self)
    }

    fn has_indices(&self, source: usize) -> bool {
        source == 0
    }

    /// Places may be zeros.
    fn is_zero(&self, sources: &[FactorValues]) -> bool {
        sources.last().is_some_and(|values| values.all_zero)
    }
}

impl Scatter for Entries {
    fn numbers(&self, entries: u64) -> SmallVec<[(usize, u64); 3]> {
        match self.width {
            Some(_) => smallvec![(0, 0), (1, 0)],
            None => smallvec![(0, 0), (0, entries), (1, 0)],
        }
    }

    fn put(&self, numbers: &[f64], _: u64, put: &mut PutEntry<'_>) {
        match (self.width, numbers) {
            (Some(width), &[place, value]) => {
                let row = (place / width as f64).floor();
                put([row, place - row * width as f64], value);
            }
            (_, &[row, column, value]) => put([row, column], value),
            _ => {}
        }
    }
}
