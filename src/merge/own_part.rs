//! [`OwnPart`]: what one of several processes makes of a plan.

use crate::plan::out_tensor::Plan;
use crate::plan::share::split;
use crate::publish::part_number::{PartNumber, stretch_name};

/// The part of a plan that one process makes.
pub(crate) struct OwnPart {
    /// Which.
    pub(crate) number: PartNumber,
    /// What it makes, as a plan of its own.
    pub(crate) plan: Plan,
}

impl OwnPart {
    /// Of `plan`.
    pub(crate) fn of(plan: &Plan, number: PartNumber) -> OwnPart {
        let shares = split(plan, number.count());
        let plan = plan.share(&shares[number.index() as usize], &stretch_name);
        OwnPart { number, plan }
    }
}
