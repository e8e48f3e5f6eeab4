//! The ops of all adapters on each tensor, combined as the user asks for.

use crate::error::plan::PlanError;
use crate::model::outline::Outline;
use crate::ops::combination::{Combination, Members, is_product};
use crate::ops::op::Op;
use crate::plan::claim_set::ClaimSet;
use crate::plan::overlap::overlap;
use crate::plan::planner::Planner;
use crate::tensor::name::Name;
use crate::tensor::shape::Shape;

impl ClaimSet {
    /// Combines what the adapters add to each tensor, module by module, and refuses what is no product of two factors.
    pub(crate) fn combine(
        &mut self,
        combination: &Combination,
        (planner, outline): (&Planner<'_>, &Outline<'_>),
    ) {
        let mut edits = std::mem::take(&mut self.edits);
        for (&target, of_tensor) in &mut edits {
            let weight = outline.weight(target);
            let of_weight = (planner, &weight.name, &weight.shape);
            let combined = self.combine_ops(combination, of_weight, &mut of_tensor.ops);
            if let Err((adapter, method, why)) = combined {
                let adapter = planner.adapters[adapter as usize].name.clone();
                let tensor = weight.name.to_string();
                self.errors.push(PlanError::Uncombined { adapter, tensor, method, why }.into());
            }
        }
        self.edits = edits;
        self.skipped.extend(combination.text());
    }

    /// Whose an op is that is refused, of which method, and why.
    fn refusal(&self, op: &Op, why: &'static str) -> OpRefusal {
        let claim = &self.claims[op.claim.0 as usize];
        (claim.adapter, claim.method.to_string(), why)
    }

    /// Combines the ops of one tensor: those of one placement together.
    fn combine_ops(
        &mut self,
        combination: &Combination,
        (planner, tensor, shape): (&Planner<'_>, &Name, &Shape),
        ops: &mut Vec<Op>,
    ) -> Result<(), OpRefusal> {
        if let Some(op) = ops.iter().find(|op| !is_product(op)) {
            return Err(self.refusal(op, NO_PRODUCT));
        }
        let mut groups: Vec<Vec<Op>> = Vec::new();
        for op in std::mem::take(ops) {
            match groups.iter_mut().find(|group| group[0].placement == op.placement) {
                Some(group) => group.push(op),
                None => groups.push(vec![op]),
            }
        }
        let first: Vec<&Op> = groups.iter().filter_map(|group| group.first()).collect();
        let meets = overlap(shape, &first).filter(|_| *combination != Combination::Sum);
        if let Some(op) = meets.and_then(|(_, claim)| first.iter().find(|op| op.claim == claim)) {
            return Err(self.refusal(op, OTHER_PART));
        }
        for (place, group) in groups.into_iter().enumerate() {
            let own: Vec<(usize, u64)> =
                group.iter().map(|op| (op.claim.0 as usize, op.placement.elements())).collect();
            let adapters: Vec<u32> = own.iter().map(|(claim, _)| self.claims[*claim].adapter).collect();
            let key = |i: usize, seed: u64| key(seed, adapters[i], tensor, place);
            let weight = |(claim, _): &(usize, u64)| {
                let claim = &self.claims[*claim];
                planner.adapters[claim.adapter as usize].weight_of(&claim.module)
            };
            let weights: Vec<f64> = own.iter().map(weight).collect();
            match combination.combined(group, &Members { key: &key, weights: &weights }) {
                Ok(combined) => {
                    // What is in another's op now reaches nothing by itself.
                    for (claim, elements) in own {
                        if combined.iter().all(|op| op.claim.0 as usize != claim) {
                            self.claims[claim].elements -= elements;
                            self.claims[claim].combined_in = combined.first().map(|op| op.claim);
                        }
                    }
                    ops.extend(combined);
                }
                Err((i, why)) => {
                    let claim = &self.claims[own[i].0];
                    return Err((claim.adapter, claim.method.to_string(), why));
                }
            }
        }
        Ok(())
    }
}

/// Why other methods are not combined: what they do depends on what is there, or is no delta at all.
const NO_PRODUCT: &str =
    "only deltas that are a product of two factors, as LoRA's without DoRA, are combined";
/// Why modules of several sizes are not.
const OTHER_PART: &str =
    "an adapter before it changes a part of the same values, as a module of another size";

/// Whose op is refused, of which method, and why.
type OpRefusal = (u32, String, &'static str);

/// A number for the op of an adapter in that place of a tensor.
fn key(seed: u64, adapter: u32, tensor: &str, place: usize) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.update(&adapter.to_le_bytes());
    hasher.update(&(place as u64).to_le_bytes());
    hasher.update(tensor.as_bytes());
    let hash = hasher.finalize();
    hash.as_bytes().first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}
