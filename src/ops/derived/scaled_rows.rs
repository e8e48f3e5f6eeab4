//! Rows of a matrix times a value each: `d[k]·A[k, i]`.
//!
//! The sources are the matrix and the values, both by rows; of the matrix the first columns are taken, where it has more, as of
//! a projection that modules of several widths share.

use serde::{Deserialize, Serialize};

use crate::ops::derived::bad_source::BadSource;
use crate::ops::derived::{DerivedFrom, Recipe};

/// Rows times a value each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ScaledRows;

impl Recipe for ScaledRows {
    fn make(&self, _: usize, sources: &DerivedFrom<'_>, values: &mut [f32]) -> Result<(), BadSource> {
        let by = sources.rows[1][0];
        values.iter_mut().zip(sources.rows[0]).for_each(|(to, value)| *to = (value * by) as f32);
        Ok(())
    }
}
