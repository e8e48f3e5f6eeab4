//! Factors that no file holds: how they are made of an adapter's tensors, one file per recipe and one row each in
//! [`RecipeKind`].
//!
//! Many methods add a product of two factors like LoRA's, of which training kept something else: a diagonal between them, shared
//! projections with vectors, choices from a bank. Their claims say how the factors are made, and all behind them is as for
//! LoRA. The values are made once before a run, row by row, into a scratch file, as those are that are repacked.
//!
//! Rounding: each value is made in f64 and rounded to f32 once. PEFT makes it in f32; where it is one product, both are the
//! same number.

pub(crate) mod bad_source;
pub(crate) mod base_part;
pub(crate) mod bases;
pub(crate) mod drawn_rows;
pub(crate) mod entries;
pub(crate) mod filled;
pub(crate) mod in_basis;
pub(crate) mod mixed;
pub(crate) mod network;
pub(crate) mod orthonormal;
pub(crate) mod passes;
pub(crate) mod permuted;
pub(crate) mod picked;
pub(crate) mod projected;
pub(crate) mod scaled_rows;
pub(crate) mod scatter;
pub(crate) mod threshold;
pub(crate) mod truncated;
pub(crate) mod turned;
pub(crate) mod unit_rows;
pub(crate) mod wavelets;
pub(crate) mod weight_times;

use std::borrow::Borrow;

use serde::{Deserialize, Serialize};

use crate::ops::derived::bad_source::BadSource;
use crate::ops::derived::passes::Passes;
use crate::ops::derived::scatter::{Scatter, entries};
use crate::ops::factor_values::FactorValues;
use crate::tensor::reference::TensorRef;

/// How a factor is made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Derivation {
    /// What is done.
    pub recipe: RecipeKind,
    /// Of which tensors of the adapter, in the recipe's order.
    pub sources: Vec<TensorRef>,
}

impl Derivation {
    /// What makes the values.
    pub(crate) fn recipe(&self) -> &dyn Recipe {
        self.recipe.recipe()
    }

    /// Bytes that are held while the factor is made: sources that are needed whole, sums, and places that no source has.
    pub(crate) fn whole_bytes(&self) -> u64 {
        let bytes = |values: u64, size: usize| values.saturating_mul(size as u64);
        let whole = self.sources.iter().take(self.recipe().whole());
        let whole = whole.map(|source| bytes(source.shape.elements(), size_of::<f64>()));
        let whole = whole.fold(0, u64::saturating_add);
        let beside = self.recipe().beside_whole(whole);
        let row = |source: &TensorRef| source.shape.axes().last().map_or(0, |&last| last as usize);
        let sum = self.recipe().sum().zip(self.sources.last()).map(|(sum, last)| sum.len(row(last)) as u64);
        // The sum, and the values that are made of it.
        let sum = sum.map(|values| bytes(values, size_of::<f64>() + size_of::<f32>()));
        let passes = self.recipe().passes().zip(self.sources.last());
        let passes = passes.map_or(0, |(passes, last)| passes.bytes(row(last)));
        let places = self.recipe().scatter().map_or(0, |scatter| scatter.place_bytes(entries(&self.sources)));
        whole
            .saturating_add(beside)
            .saturating_add(sum.unwrap_or(0))
            .saturating_add(passes)
            .saturating_add(places)
    }
}

/// What makes a factor of its sources.
pub(crate) trait Recipe: Sync {
    /// How many of the sources are held whole: the first. Of all others a row of the factor needs the row of the same number.
    fn whole(&self) -> usize {
        0
    }

    /// Bytes that making takes beside sources that come to so many.
    fn beside_whole(&self, _bytes: u64) -> u64 {
        0
    }

    /// Makes of the sources that are held whole what rows want of them. Called once for a factor.
    fn prepare(&self, _whole: &mut [Vec<f64>]) {}

    /// Makes a row of the factor.
    ///
    /// # Errors
    /// What cannot be of what a source holds.
    fn make(&self, row: usize, sources: &DerivedFrom<'_>, values: &mut [f32]) -> Result<(), BadSource>;

    /// For a factor whose rows can be made only one behind the other: what makes the next one. [`Recipe::make`] is not asked then.
    fn in_order(&self) -> Option<Box<dyn NextRow>> {
        None
    }

    /// For a factor that is a sum over all rows of its last source, which is a tensor of the base: how it is added up. All other
    /// sources are held whole, and so is the sum; [`Recipe::make`] is then asked for all of it as one row, with the sum behind the
    /// others.
    fn sum(&self) -> Option<&dyn RowSum> {
        None
    }

    /// For a factor that is made of all rows of its last source, which is a tensor of the base: how. All other sources are held whole.
    /// [`Recipe::make`] is not asked then.
    fn passes(&self) -> Option<&dyn Passes> {
        None
    }

    /// Whether the values of the base make it.
    fn sees_base(&self) -> bool {
        self.sum().is_some() || self.passes().is_some()
    }

    /// For a factor whose rows are made of entries that lie in any order: where they stand. [`Recipe::make`] is not asked then.
    fn scatter(&self) -> Option<&dyn Scatter> {
        None
    }

    /// Whether a source has whole numbers.
    fn has_indices(&self, _source: usize) -> bool {
        false
    }

    /// Whether all values are zero, whatever other sources hold, by what is known of each.
    fn is_zero(&self, sources: &[FactorValues]) -> bool {
        sources.iter().any(|source| source.all_zero)
    }
}

/// Makes rows in their order.
pub(crate) trait NextRow {
    /// Makes the next one.
    fn next(&mut self, sources: &DerivedFrom<'_>, values: &mut [f32]);
}

/// A sum over the rows of a tensor of the base.
pub(crate) trait RowSum {
    /// Values of the sum for a tensor whose rows have so many.
    fn len(&self, row: usize) -> usize;

    /// Adds what a row comes to.
    fn add(&self, row: usize, values: &[f64], whole: &[Vec<f64>], sum: &mut [f64]);
}

/// The sources of a row, decoded: f64 holds all floats of 32 bits and less and all indices exactly.
pub(crate) struct DerivedFrom<'s> {
    /// Those that are held whole.
    pub(crate) whole: &'s [Vec<f64>],
    /// Of the others the row.
    pub(crate) rows: &'s [&'s [f64]],
}

/// The table of recipes: a factor holds a row with its own parameters, as a plan keeps them.
macro_rules! recipes {
    ($($(#[$about:meta])* $recipe:ident in $file:ident,)*) => {
        /// Every recipe there is. A plan holds them as data, and names them as they are called here.
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        pub(crate) enum RecipeKind {
            $($(#[$about])* $recipe(crate::ops::derived::$file::$recipe),)*
        }

        impl RecipeKind {
            /// What makes the values.
            pub(crate) fn recipe(&self) -> &dyn Recipe {
                match self {
                    $(RecipeKind::$recipe(recipe) => Borrow::<crate::ops::derived::$file::$recipe>::borrow(recipe),)*
                }
            }
        }

        $(impl From<crate::ops::derived::$file::$recipe> for RecipeKind {
            fn from(recipe: crate::ops::derived::$file::$recipe) -> RecipeKind {
                RecipeKind::$recipe(recipe)
            }
        })*
    };
}

recipes! {
    /// Rows times a value each.
    ScaledRows in scaled_rows,
    /// Rows of a random matrix times a value each.
    DrawnRows in drawn_rows,
    /// Rows of unit length, times numbers.
    UnitRows in unit_rows,
    /// Rows of bases that several numbers make.
    Bases in bases,
    /// One value, or one for each row, or ones.
    Constant in filled,
    /// Sums of a bank's vectors.
    Mixed in mixed,
    /// Values of a vector.
    Picked in picked,
    /// A small matrix times a factor.
    Turned in turned,
    /// Columns of unit length that are at right angles to each other.
    Orthonormal in orthonormal,
    /// What is left of a factor without its part in a weight.
    Projected in projected,
    /// A small network of a weight's columns.
    Network in network,
    /// A weight times a vector.
    WeightTimes in weight_times,
    /// Both factors of a part of a weight.
    BasePart in base_part,
    /// Both factors of a change of a weight in a given basis.
    InBasis in in_basis,
    /// Entries of a sparse matrix, by rows.
    Entries in entries,
    /// Entries in a random order, by rows.
    Permuted in permuted,
    /// A sum of products, cut to a rank.
    Truncated in truncated,
    /// The least magnitude of a product's largest elements.
    Threshold in threshold,
}
