//! Factors of one column or row that a single value fills, or that have one for each row: of values that are added everywhere, and
//! of the ones that a vector is multiplied by to be a matrix.

use serde::{Deserialize, Serialize};

use crate::ops::derived::bad_source::BadSource;
use crate::ops::derived::{DerivedFrom, Recipe};
use crate::ops::factor_values::FactorValues;

/// What fills a factor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Constant {
    /// Ones, whatever the source holds.
    Ones,
    /// The source's only value.
    Value,
}

impl Recipe for Constant {
    fn whole(&self) -> usize {
        1
    }

    fn make(&self, _: usize, sources: &DerivedFrom<'_>, values: &mut [f32]) -> Result<(), BadSource> {
        values.fill(match self {
            Constant::Ones => 1.0,
            Constant::Value => sources.whole[0][0] as f32,
        });
        Ok(())
    }

    fn is_zero(&self, sources: &[FactorValues]) -> bool {
        *self == Constant::Value && sources[0].all_zero
    }
}
