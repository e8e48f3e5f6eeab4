//! Ops: what one module of one adapter does to one logical weight, as plain data.

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::ops::access::Access;
use crate::ops::factor::Factor;
use crate::ops::placement::Placement;
use crate::ops::{Delta, DeltaKind};

/// Index of a claim in a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ClaimId(pub u32);

/// One planned change of some of a tensor's values.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Op {
    /// The claim it counts for; the planner numbers claims, so that a new op has that of none yet.
    pub claim: ClaimId,
    /// Which delta it adds, with that delta's own parameters.
    pub kind: DeltaKind,
    /// Where its delta falls.
    pub placement: Placement,
    /// What makes it, in the delta's order.
    pub factors: SmallVec<[Factor; 2]>,
    /// What the delta is multiplied by: computed in f64, rounded to f32 once.
    pub scale: f32,
}

impl Op {
    /// An op that counts for no claim yet.
    pub(crate) fn new(
        kind: impl Into<DeltaKind>,
        placement: Placement,
        factors: impl Into<SmallVec<[Factor; 2]>>,
        scale: f32,
    ) -> Op {
        Op { claim: ClaimId(u32::MAX), kind: kind.into(), placement, factors: factors.into(), scale }
    }

    /// The same, counted for a claim.
    #[must_use]
    pub(crate) fn counted_for(self, claim: ClaimId) -> Op {
        Op { claim, ..self }
    }

    /// What applies it.
    pub(crate) fn delta(&self) -> &dyn Delta {
        self.kind.delta()
    }

    /// What it must see at once.
    pub(crate) fn access(&self) -> Access {
        self.delta().access()
    }

    /// What it needs beside any elements of the tensor, as plans show it: values that it must see together, or factors that are made
    /// before the run.
    pub(crate) fn needs(&self) -> Option<&'static str> {
        let is_made = || self.factors.iter().any(|factor| factor.derivation.is_some());
        self.access().needs().or_else(|| is_made().then_some("factors made first"))
    }

    /// Whether all that it does is to add what does not depend on the weight, in its factors either: so that the same with the scale
    /// negated takes it back, but for rounding.
    pub(crate) fn is_added(&self) -> bool {
        let sees_weight = |factor: &Factor| {
            factor.derivation.as_ref().is_some_and(|derivation| derivation.recipe().sees_base())
        };
        self.delta().is_added() && !self.factors.iter().any(sees_weight)
    }

    /// The rank of its factors, if it has one.
    pub(crate) fn rank(&self) -> Option<u64> {
        self.delta().rank(&self.factors)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::added::Added;
    use crate::ops::dora::Dora;
    use crate::ops::hadamard::Hadamard;
    use crate::ops::kronecker::{Kronecker, SecondForm};
    use crate::ops::low_rank::LowRank;
    use crate::ops::rotate::{Cayley, Rotate};
    use crate::ops::rows::ReplaceRows;
    use crate::ops::scale_axis::ScaleAxis;
    use crate::tensor::dtype::Dtype;
    use crate::tensor::reference::{FileId, TensorRef};
    use crate::tensor::shape::Shape;

    #[test]
    fn a_rank_is_that_of_factors_and_no_other_size() {
        let shape = Shape::new(&[4, 9]).expect("small");
        let tensor = TensorRef { file: FileId(0), offset: 0, dtype: Dtype::F32, shape };
        let kronecker = |form| Kronecker { first: [3, 3], first_rank: None, second: [3, 3], form };
        let cayley = Cayley { series: Some(5), eps: None };
        let rotate = Rotate { cayley, side: 4, blocks: 2, width: 8, is_embedding: false };
        let kinds: [(DeltaKind, Option<u64>); 10] = [
            (LowRank::ADDED.into(), Some(4)),
            (LowRank::SHARE.into(), Some(4)),
            (Dora { is_transposed: false }.into(), Some(4)),
            (Hadamard { core: None }.into(), Some(4)),
            (kronecker(SecondForm::Product { rank: 2 }).into(), Some(2)),
            (kronecker(SecondForm::Whole).into(), None),
            (rotate.into(), None),
            (Added.into(), None),
            (ReplaceRows.into(), None),
            (ScaleAxis::of(None).into(), None),
        ];
        for (kind, rank) in kinds {
            let factors = vec![Factor::along(1, tensor.clone(), 1, 4, 9)];
            let op = Op::new(kind, Placement::matrix(9, 9, false), factors, 1.0);
            assert_eq!(op.rank(), rank, "{:?}", op.kind);
        }
    }
}
