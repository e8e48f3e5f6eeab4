//! Accounting of a run: every claim must reach the elements it was planned for, and something must have changed.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

use crate::error::{Error, ErrorKind, Result};
use crate::plan::{ClaimId, Making, Plan};

/// Elements reached by each claim, and elements that each tensor's ops changed.
pub(super) struct Tally {
    reached: Vec<AtomicU64>,
    changed: Vec<Vec<AtomicU64>>,
}

/// What a run did to the tensors, from its own counts.
#[derive(Clone, Debug, Serialize)]
pub struct Applied {
    /// Elements whose bytes are not the base's, in merged tensors.
    pub changed_elements: u64,
    /// Elements of merged tensors.
    pub merged_elements: u64,
    /// Merged tensors in which no element changed, because the delta is below half a unit in the last place everywhere.
    pub unchanged: Vec<String>,
}

impl Tally {
    /// Nothing reached yet.
    pub(super) fn new(plan: &Plan) -> Tally {
        let zeros = |n: usize| (0..n).map(|_| AtomicU64::new(0)).collect();
        Tally {
            reached: zeros(plan.claims.len()),
            changed: plan.shards.iter().map(|shard| zeros(shard.tensors.len())).collect(),
        }
    }

    pub(super) fn reach(&self, claim: ClaimId, elements: u64) {
        self.reached[claim.0 as usize].fetch_add(elements, Ordering::Relaxed);
    }

    pub(super) fn change(&self, shard: usize, tensor: usize, elements: u64) {
        self.changed[shard][tensor].fetch_add(elements, Ordering::Relaxed);
    }

    /// Checks the counts.
    ///
    /// # Errors
    /// [`ErrorKind::Unapplied`] when a claim fell short, [`ErrorKind::NoEffect`] for an adapter that changed nothing.
    pub(super) fn applied(&self, plan: &Plan) -> Result<Applied> {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        for (claim, reached) in plan.claims.iter().zip(&self.reached) {
            if load(reached) != claim.elements {
                let adapter = plan.adapters[claim.adapter as usize].name.clone();
                return Err(ErrorKind::Unapplied { adapter, module: claim.module.clone() }.into());
            }
        }
        let mut applied = Applied { changed_elements: 0, merged_elements: 0, unchanged: Vec::new() };
        let mut effective = vec![false; plan.adapters.len()];
        for (shard, changed) in plan.shards.iter().zip(&self.changed) {
            for (tensor, changed) in shard.tensors.iter().zip(changed) {
                let (replaced, ops) = match &tensor.making {
                    Making::Copy { claim, .. } => (*claim, [].as_slice()),
                    Making::Merge { claim, ops, .. } => (*claim, ops.as_slice()),
                };
                let by = |claim: ClaimId| plan.claims[claim.0 as usize].adapter as usize;
                if let Some(claim) = replaced {
                    effective[by(claim)] = true;
                }
                if ops.is_empty() {
                    continue;
                }
                applied.merged_elements += tensor.shape.elements();
                applied.changed_elements += load(changed);
                if load(changed) == 0 {
                    applied.unchanged.push(tensor.name.clone());
                } else {
                    ops.iter().for_each(|op| effective[by(op.claim)] = true);
                }
            }
        }
        for (adapter, effective) in plan.adapters.iter().zip(effective) {
            if !effective {
                let why = "its deltas are too small to move any element of the base".to_owned();
                let error = Error::new(ErrorKind::NoEffect { adapter: adapter.name.clone(), why });
                return Err(error.hint("a base of more precision (F32) would keep them"));
            }
        }
        Ok(applied)
    }
}
