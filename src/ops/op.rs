//! Ops: what one module of one adapter does to one logical weight, as plain data.

use serde::{Deserialize, Serialize};

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
    pub factors: Vec<Factor>,
    /// What the delta is multiplied by: computed in f64, rounded to f32 once.
    pub scale: f32,
}

impl Op {
    /// An op that counts for no claim yet.
    pub(crate) fn new(
        kind: impl Into<DeltaKind>,
        placement: Placement,
        factors: Vec<Factor>,
        scale: f32,
    ) -> Op {
        Op { claim: ClaimId(u32::MAX), kind: kind.into(), placement, factors, scale }
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

    /// The rank of its factors, if it has one.
    pub(crate) fn rank(&self) -> Option<u64> {
        self.delta().rank(&self.factors)
    }
}
