//! Columns of unit length that are at right angles to each other: the `Q` of a matrix by Householder's reflections, with the signs that LAPACK gives it.
//!
//! The source is `P [rows, columns]`, whole.

use serde::{Deserialize, Serialize};

use crate::linear::panel::Panel;
use crate::linear::qr;
use crate::ops::derived::bad_source::BadSource;
use crate::ops::derived::{DerivedFrom, Recipe};

/// Columns at right angles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Orthonormal {
    /// Columns, no more than there are rows.
    pub columns: usize,
}

/// Puts `Q [rows, columns]` in place of a matrix.
pub(crate) fn orthonormalize(matrix: &mut Vec<f64>, columns: usize) {
    let mut panel = Panel::of(columns, std::mem::take(matrix));
    qr::orthonormalize(&mut panel);
    *matrix = panel.into_values();
}

impl Recipe for Orthonormal {
    fn whole(&self) -> usize {
        1
    }

    fn prepare(&self, whole: &mut [Vec<f64>]) {
        orthonormalize(&mut whole[0], self.columns);
    }

    fn make(&self, row: usize, sources: &DerivedFrom<'_>, values: &mut [f32]) -> Result<(), BadSource> {
        let q = &sources.whole[0][row * self.columns..];
        values.iter_mut().zip(q).for_each(|(to, value)| *to = *value as f32);
        Ok(())
    }
}
