//! [`Inverse`]: how a merge is taken back to see what that does not give.

use crate::error::Result;
use crate::plan::out_tensor::Plan;
use crate::schedule::cut::MergedTensor;
use crate::schedule::extent::{Extent, OutPlace};

/// Of how many bytes one is an exception's.
const LIKELY_SHARE: u64 = 50;

/// A merge that will be taken back to see what that does not give.
pub(crate) struct Inverse {
    /// What takes it back.
    pub(crate) plan: Plan,
    /// The tensors that it makes: others need no look.
    pub(crate) made: Extent,
}

impl Inverse {
    /// Of a merge's plan.
    ///
    /// # Errors
    /// [`PlanError::Irreversible`](crate::error::plan::PlanError::Irreversible).
    pub(crate) fn of(plan: &Plan) -> Result<Inverse> {
        let plan = plan.inverse(true)?;
        let mut places = Vec::new();
        for (shard, planned) in plan.shards.iter().enumerate() {
            let made = planned.tensors.iter().enumerate();
            let made = made.filter_map(|(i, tensor)| Some((i, MergedTensor::of(tensor)?.view.rows)));
            places.extend(made.map(|(tensor, end)| OutPlace { shard, tensor, start: 0, end }));
        }
        let made = Extent::of(&plan, places);
        Ok(Inverse { plan, made })
    }

    /// Bytes that what it does not give takes, where the deltas are as small as they mostly are.
    pub(crate) fn likely_bytes(&self) -> u64 {
        self.made.output_bytes(&self.plan) / LIKELY_SHARE
    }
}
