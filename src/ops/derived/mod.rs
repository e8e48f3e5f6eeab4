//! Factors that no file holds: how they are made of an adapter's tensors, one file per recipe and one row each in
//! [`RecipeKind`].
//!
//! Many methods add a product of two factors like LoRA's, of which training kept something else: a diagonal between them, shared
//! projections with vectors, choices from a bank. Their claims say how the factors are made, and all behind them is as for
//! LoRA. The values are made once before a run, row by row, into a scratch file, as those are that are repacked.
//!
//! Rounding: each value is made in f64 and rounded to f32 once. PEFT makes it in f32; where it is one product, both are the
//! same number.

pub(crate) mod entries;
pub(crate) mod permuted;
pub(crate) mod scaled_rows;
pub(crate) mod scatter;
pub(crate) mod wavelets;

use std::borrow::Borrow;

use serde::{Deserialize, Serialize};

use crate::ops::derived::scatter::{Scatter, entries};
use crate::ops::factor::FactorValues;
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

    /// Bytes of the sources that are held whole while the factor is made, and of places that no source has.
    pub(crate) fn whole_bytes(&self) -> u64 {
        let whole = self.sources.iter().take(self.recipe().whole());
        let whole = whole.map(|source| source.shape.elements().saturating_mul(size_of::<f64>() as u64));
        let places = self.recipe().scatter().map(|scatter| scatter.place_bytes(entries(&self.sources)));
        whole.chain(places).fold(0, u64::saturating_add)
    }
}

/// What makes a factor of its sources.
pub(crate) trait Recipe: Sync {
    /// How many of the sources are held whole: the first. Of all others a row of the factor needs the row of the same number.
    fn whole(&self) -> usize {
        0
    }

    /// Makes a row of the factor.
    fn make(&self, row: usize, sources: &DerivedFrom<'_>, values: &mut [f32]);

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
    /// Entries of a sparse matrix, by rows.
    Entries in entries,
    /// Entries in a random order, by rows.
    Permuted in permuted,
}
