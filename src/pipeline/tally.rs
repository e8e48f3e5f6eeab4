//! Accounting of a run: every claim must reach the elements it was planned for, and something must have changed.
//!
//! The writer counts, tile by tile in order, so that the counts are those of the bytes that are written: what an earlier run
//! counted up to its last milestone is where this one begins.

use serde::Serialize;

use crate::error::no_effect::NoEffectReason;
use crate::error::plan::PlanError;
use crate::error::run::RunError;
use crate::error::{Error, Result};
use crate::ops::op::ClaimId;
use crate::plan::out_tensor::{Content, Plan};

use crate::pipeline::milestone::{ClaimCount, Milestone, MilestoneCounts};
use crate::pipeline::retained::Retention;
use crate::pipeline::scratch::Outcome;

/// Elements reached by each claim, and elements that each tensor's ops changed.
pub(crate) struct Tally {
    claims: Vec<ClaimCount>,
    changed: Vec<Vec<u64>>,
    /// What of it was counted since the last milestone.
    recent: MilestoneCounts,
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
    /// How much of each adapter's deltas is left after rounding, in the order of the adapters.
    pub adapters: Vec<AdapterRetention>,
    /// The same for every module.
    pub modules: Vec<ModuleRetention>,
    /// The same for weights that are encoded again; none if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encoded_again: Option<EncodedRetention>,
}

/// How much of the deltas is left in weights that are encoded again.
#[derive(Clone, Debug, Serialize)]
pub struct EncodedRetention {
    /// Deltas of such weights.
    pub count: usize,
    /// The share of the delta that is left in one half of them or less.
    pub median: f64,
    /// The least share of all.
    pub least: f64,
    /// The weight that has it.
    pub tensor: String,
}

/// With less than this left in half of the weights that are encoded again a merge has next to no effect.
const NEXT_TO_NOTHING: f64 = 0.1;

/// How much of one adapter's deltas is left after rounding.
#[derive(Clone, Debug, Serialize)]
pub struct AdapterRetention {
    /// Name of the adapter.
    pub adapter: String,
    /// Norm of all its deltas.
    pub norm: f64,
    /// `⟨Δ, W′ − W⟩ / ‖Δ‖²`; none if it has no delta, only replacements.
    pub retained: Option<f64>,
    /// The share of its deltas' elements that left the weight as it was.
    pub unchanged: Option<f64>,
    /// The share of its deltas' elements that this was measured on: large ones are sampled.
    pub measured: f64,
    /// Modules that lost more than half of their delta.
    pub lost: usize,
}

/// Modules with less than this share of their delta left are reported.
const LOST: f64 = 0.5;

/// How much of one module's delta is left after rounding.
#[derive(Clone, Debug, Serialize)]
pub struct ModuleRetention {
    /// Position of the adapter.
    pub adapter: u32,
    /// Module path as the adapter spells it.
    pub module: String,
    /// The output tensor.
    pub tensor: String,
    /// Norm of the delta.
    pub norm: f64,
    /// Norm of the weights that it falls on, as they would be without it.
    pub weight_norm: f64,
    /// `⟨Δ, W′ − W⟩ / ‖Δ‖²`; none if the delta is zero.
    pub retained: Option<f64>,
    /// The share of the delta's elements that left the weight as it was.
    pub unchanged: Option<f64>,
}

impl ModuleRetention {
    /// Whether more than half of its delta was rounded away.
    pub fn is_lost(&self) -> bool {
        self.retained.is_some_and(|retained| retained < LOST)
    }
}

impl Tally {
    /// What was counted up to the last of `kept`, which are of this plan.
    pub(crate) fn new(plan: &Plan, kept: &[Milestone]) -> Tally {
        let mut tally = Tally {
            claims: vec![ClaimCount::default(); plan.claims.len()],
            changed: plan.shards.iter().map(|shard| vec![0; shard.tensors.len()]).collect(),
            recent: MilestoneCounts::default(),
        };
        let mut shard = 0;
        for milestone in kept {
            for (&claim, count) in &milestone.counts.claims {
                tally.claims[claim as usize].add(count);
            }
            for (&tensor, changed) in &milestone.counts.changed {
                tally.changed[shard][tensor as usize] += changed;
            }
            shard += usize::from(milestone.shard().is_some());
        }
        tally
    }

    /// Adds what making a tile did, of this shard and, if it is merged, this tensor.
    pub(crate) fn add(&mut self, shard: usize, tensor: Option<usize>, outcome: &Outcome) {
        for reached in &outcome.claims {
            let count = ClaimCount { elements: reached.elements, retained: reached.retained };
            self.claims[reached.claim.0 as usize].add(&count);
            self.recent.claims.entry(reached.claim.0).or_default().add(&count);
        }
        if let Some(tensor) = tensor.filter(|_| outcome.changed > 0) {
            self.changed[shard][tensor] += outcome.changed;
            *self.recent.changed.entry(tensor as u32).or_default() += outcome.changed;
        }
    }

    /// What was counted since the last milestone, which is now.
    pub(crate) fn take_recent(&mut self) -> MilestoneCounts {
        std::mem::take(&mut self.recent)
    }

    /// What is left of the deltas, by adapter and by module.
    fn retention(&self, plan: &Plan) -> (Vec<AdapterRetention>, Vec<ModuleRetention>) {
        let mut sums = vec![Retention::default(); plan.adapters.len()];
        let mut elements = vec![0; plan.adapters.len()];
        let mut modules = Vec::new();
        for (claim, count) in plan.claims.iter().zip(&self.claims) {
            let retention = count.retained.for_elements(claim.elements);
            sums[claim.adapter as usize].add(&retention);
            if retention.measured > 0 {
                elements[claim.adapter as usize] += claim.elements;
            }
            if retention.nonzero > 0 {
                modules.push(ModuleRetention {
                    adapter: claim.adapter,
                    module: claim.module.to_string(),
                    tensor: claim.tensor.to_string(),
                    norm: retention.squares.sqrt(),
                    weight_norm: retention.weight_squares.sqrt(),
                    retained: retention.share(),
                    unchanged: retention.unchanged_share(),
                });
            }
        }
        let adapters =
            plan.adapters.iter().zip(sums).enumerate().map(|(i, (adapter, sum))| AdapterRetention {
                measured: if elements[i] == 0 { 1.0 } else { sum.measured as f64 / elements[i] as f64 },
                adapter: adapter.name.clone(),
                norm: sum.squares.sqrt(),
                retained: sum.share(),
                unchanged: sum.unchanged_share(),
                lost: modules
                    .iter()
                    .filter(|module| module.adapter as usize == i && module.is_lost())
                    .count(),
            });
        (adapters.collect(), modules)
    }

    /// What is left in weights that are encoded again.
    fn encoded_again(&self, plan: &Plan) -> Option<EncodedRetention> {
        let ops = plan.tensors().filter(|tensor| tensor.part == 0 && tensor.is_encoded_again());
        let ops = ops.flat_map(|tensor| match &tensor.content {
            Content::Compute { ops, .. } => ops.as_slice(),
            Content::Copy { .. } => &[],
        });
        let share = |claim: ClaimId| Some((self.claims[claim.0 as usize].retained.share()?, claim.0));
        let mut shares: Vec<(f64, u32)> = ops.filter_map(|op| share(op.claim)).collect();
        shares.sort_unstable_by(|one, other| one.0.total_cmp(&other.0).then(one.1.cmp(&other.1)));
        let &(least, claim) = shares.first()?;
        let median = shares[(shares.len() - 1) / 2].0;
        let tensor = plan.claims[claim as usize].tensor.to_string();
        Some(EncodedRetention { count: shares.len(), median, least, tensor })
    }

    /// Checks the counts.
    ///
    /// # Errors
    /// [`RunError::Unapplied`] when a claim fell short, [`PlanError::NoEffect`] for an adapter that changed nothing, unless
    /// `allow_noop`, [`RunError::LostInCodes`] for deltas that encoding again left next to nothing of, unless `accept_loss`.
    pub(crate) fn applied(&self, plan: &Plan, allow_noop: bool, accept_loss: bool) -> Result<Applied> {
        for (claim, count) in plan.claims.iter().zip(&self.claims) {
            if count.elements != claim.elements {
                let adapter = plan.adapters[claim.adapter as usize].name.clone();
                return Err(RunError::Unapplied { adapter, module: claim.module.to_string() }.into());
            }
        }
        let (adapters, modules) = self.retention(plan);
        let mut applied = Applied {
            changed_elements: 0,
            merged_elements: 0,
            unchanged: Vec::new(),
            adapters,
            modules,
            encoded_again: self.encoded_again(plan),
        };
        let mut effective = vec![false; plan.adapters.len()];
        for (shard, changed) in plan.shards.iter().zip(&self.changed) {
            for (tensor, changed) in shard.tensors.iter().zip(changed) {
                let (replaced, ops, values) = match &tensor.content {
                    Content::Copy { claim, .. } => (*claim, [].as_slice(), 0),
                    Content::Compute { claim, ops, start, .. } => {
                        (*claim, ops.as_slice(), start.shape().elements())
                    }
                };
                let by = |claim: ClaimId| plan.claims[claim.0 as usize].adapter as usize;
                if let Some(claim) = replaced {
                    effective[by(claim)] = true;
                }
                if ops.is_empty() || tensor.part > 0 {
                    continue;
                }
                applied.merged_elements += values;
                applied.changed_elements += changed;
                if *changed == 0 {
                    applied.unchanged.push(tensor.name.to_string());
                } else {
                    ops.iter().for_each(|op| effective[by(op.claim)] = true);
                }
            }
        }
        for claim in &plan.claims {
            let Some(ClaimId(other)) = claim.combined_in else { continue };
            effective[claim.adapter as usize] |= effective[plan.claims[other as usize].adapter as usize];
        }
        for (adapter, effective) in plan.adapters.iter().zip(effective) {
            if !effective && !allow_noop {
                let (adapter, why) = (adapter.name.clone(), NoEffectReason::TooSmall);
                let error = Error::new(PlanError::NoEffect { adapter, why });
                return Err(error.hint(
                    "a base of more precision (F32) would keep small ones; `--allow-noop` writes the result all the same",
                ));
            }
        }
        match &applied.encoded_again {
            Some(left) if left.median < NEXT_TO_NOTHING && !accept_loss => Err(left.refused()),
            _ => Ok(applied),
        }
    }
}

impl EncodedRetention {
    fn refused(&self) -> Error {
        let EncodedRetention { count, median, least, tensor } = self.clone();
        Error::new(RunError::LostInCodes { count, median, least, tensor }).hint(
            "without `--keep-quantized` the result is written in 16 bit, with all of it; `--accept-loss` writes it all the same",
        )
    }
}
