//! Deltas: what ops do to blocks of f32 values, one file per arithmetic and one row each in [`DeltaKind`].
//!
//! This is the ground that adapters, plans and the pipeline stand on: a delta sees the parts of its factors that a block
//! needs, already decoded, and never an adapter, a file, an encoding, a thread or a budget. What only some deltas need is a
//! capability that the others do not have: a [`Reduction`] over an axis, or the [`Preparation`] of a factor.

pub(crate) mod access;
pub(crate) mod added;
pub(crate) mod block;
pub(crate) mod block_share;
pub(crate) mod butterfly;
pub(crate) mod combination;
pub(crate) mod cp_core;
pub(crate) mod derived;
pub(crate) mod dora;
pub(crate) mod elected;
pub(crate) mod factor;
pub(crate) mod factor_values;
pub(crate) mod formula;
pub(crate) mod fourier;
pub(crate) mod generalized;
pub(crate) mod hadamard;
pub(crate) mod kronecker;
pub(crate) mod low_rank;
pub(crate) mod op;
pub(crate) mod placement;
pub(crate) mod reduce;
pub(crate) mod reflect;
pub(crate) mod repeated;
pub(crate) mod rescaled;
pub(crate) mod rotate;
pub(crate) mod rotate_outputs;
pub(crate) mod rotate_pairs;
pub(crate) mod rows;
pub(crate) mod sampled;
pub(crate) mod scale_axis;
pub(crate) mod sparse;
pub(crate) mod tucker;
pub(crate) mod whole_rows;

use std::borrow::Borrow;

use serde::{Deserialize, Serialize};

use crate::ops::access::Access;
use crate::ops::block::Block;
use crate::ops::factor::Factor;
use crate::ops::factor_values::FactorValues;
use crate::ops::formula::Polynomial;
use crate::ops::reduce::Reduction;

/// One kind of change to a weight, with the parameters of one op.
pub(crate) trait Delta: Sync {
    /// Applies it to a block: changes the window's values and leaves what was added in the first scratch buffer.
    fn apply(&self, block: &mut Block<'_>);

    /// What it must see at once.
    fn access(&self) -> Access {
        match self.reduction() {
            Some(reduction) => Access::Reduction { axis: reduction.axis(), values: reduction.values() },
            None => Access::Elements,
        }
    }

    /// Whether it needs what the tensor starts from beside the running values.
    fn needs_base_values(&self) -> bool {
        false
    }

    /// Scratch buffers of the window's size that [`Block::scratch`] must have; the first is the delta's.
    fn scratch_buffers(&self) -> usize {
        1
    }

    /// The largest inner dimension of a product that it asks of the kernels for a block; 0 if it asks for none. Their
    /// packing buffers are counted by it.
    fn inner_dimension(&self, _factors: &[Factor]) -> u64 {
        0
    }

    /// Whether all that it does is to add what its factors make, whatever the tensor holds.
    fn is_added(&self) -> bool {
        self.product().is_some()
    }

    /// The two factors of which the product, times the scale, is all that it adds; none if it does anything else.
    fn product(&self) -> Option<[usize; 2]> {
        None
    }

    /// Its formula, if that has nothing but sums and products of stored values; none if it has a norm, a root or an inverse.
    fn polynomial(&self) -> Option<&dyn Polynomial> {
        None
    }

    /// The rank of its factors, as people call it; none where there is no such thing.
    fn rank(&self, _factors: &[Factor]) -> Option<u64> {
        None
    }

    /// Why it changes nothing, whatever the weights are, if that shows in its scale or in the values of its factors (in
    /// their order).
    fn no_effect(&self, scale: f32, factors: &[FactorValues]) -> Option<&'static str> {
        if factors.iter().any(|factor| factor.all_zero) {
            return Some("a factor is all zero (untrained adapter?)");
        }
        (scale == 0.0).then_some("its scale is 0")
    }

    /// The reduction that must be known before it is applied, if it needs one.
    fn reduction(&self) -> Option<&dyn Reduction> {
        None
    }

    /// What it makes of factors that have a [`Factor::prepared_len`], if it prepares any.
    fn preparation(&self) -> Option<&dyn Preparation> {
        None
    }
}

/// What a delta makes of a factor once, when it is read, so that blocks need not.
pub(crate) trait Preparation {
    /// Makes of a factor what [`Delta::apply`] wants: its values stand first in `values`, which has room for
    /// [`Factor::prepared_len`] of them. Called once each time the factor is read.
    fn prepare(&self, values: &mut [f32]);
}

/// The type that holds a delta's parameters.
macro_rules! held {
    ($delta:ty) => { $delta };
    ($delta:ty, $held:ident) => { $held<$delta> };
}

/// The table of deltas: an op holds a row with its own parameters, as a plan keeps them. Those of more than a word are boxed, so
/// that the 60,000 ops of a large plan are no larger for them.
macro_rules! deltas {
    ($($(#[$about:meta])* $delta:ident in $file:ident $(as $held:ident)?,)*) => {
        /// Every delta there is. A plan holds them as data, and names them as they are called here.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        pub enum DeltaKind {
            $($(#[$about])* $delta(held!(crate::ops::$file::$delta $(, $held)?)),)*
        }

        impl DeltaKind {
            /// What applies it.
            pub(crate) fn delta(&self) -> &dyn Delta {
                match self {
                    $(DeltaKind::$delta(delta) => Borrow::<crate::ops::$file::$delta>::borrow(delta),)*
                }
            }
        }

        $(impl From<crate::ops::$file::$delta> for DeltaKind {
            fn from(delta: crate::ops::$file::$delta) -> DeltaKind {
                DeltaKind::$delta(delta.into())
            }
        })*
    };
}

deltas! {
    /// A product of two factors, as it is or times what the tensor started from.
    LowRank in low_rank,
    /// Values of the same places.
    Added in added,
    /// A low-rank product, and a new length for every output.
    Dora in dora,
    /// A product of two products.
    Hadamard in hadamard as Box,
    /// A Kronecker product.
    Kronecker in kronecker as Box,
    /// A rotation of rows.
    Rotate in rotate as Box,
    /// A vector that multiplies an axis.
    ScaleAxis in scale_axis as Box,
    /// Rows in place of rows.
    ReplaceRows in rows,
    /// A product of two factors around a core.
    Tucker in tucker as Box,
    /// Another delta, and a new length for every output.
    Rescaled in rescaled as Box,
    /// A low-rank product, and another of what the tensor started from.
    Generalized in generalized as Box,
    /// A rotation of outputs.
    RotateOutputs in rotate_outputs as Box,
    /// Few values in a pattern.
    Repeated in repeated as Box,
    /// Entries of a sparse matrix.
    Sparse in sparse,
    /// Blocks times small matrices.
    BlockShare in block_share as Box,
    /// Reflections of rows.
    Reflect in reflect as Box,
    /// A butterfly of rotations of rows.
    Butterfly in butterfly as Box,
    /// A matrix of few frequencies.
    Fourier in fourier as Box,
    /// Rotations of outputs in pairs.
    RotatePairs in rotate_pairs as Box,
    /// A product of two factors, of which a random part is kept.
    Sampled in sampled as Box,
    /// Several products, of which parts are left out.
    Elected in elected as Box,
}

impl DeltaKind {
    /// Whether both are the same kind of delta, whatever their parameters are.
    pub(crate) fn is_same_kind(&self, other: &DeltaKind) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }
}
