//! LoRA with its factors in stacks of experts: `A [experts, rank, in]` and `B [experts, out, rank]`, for one projection of all
//! experts of a module. Either of them may be `[1, …]`, and is then that of every expert.
//!
//! Tinker writes them, and calls the projections `experts.w1` (the gate), `w3` (up) and `w2` (down), whatever the model does;
//! of experts without gates `w1` is the way up (key-mapping.md 10.3). Megatron-Bridge and those who serve its adapters call
//! them as the model's fused parameters are called (`experts.gate_up_proj`, gate rows first). Where the projections are on
//! disk is a matter of names.

use std::collections::BTreeSet;

use crate::adapters::claim::Claim;
use crate::adapters::claim::context::ClaimContext;
use crate::adapters::claim::dora::lacks_magnitude;
use crate::adapters::claim::edits::ClaimedModule;
use crate::adapters::claim::expert_layout;
use crate::adapters::claim::findings::Findings;
use crate::adapters::claim::pairs::{A, B, Pair, take_tails};
use crate::error::Result;
use crate::model::names::experts::{all_experts, all_experts_spelled};
use crate::ops::factor::Factor;
use crate::ops::low_rank::LowRank;
use crate::ops::op::Op;
use crate::ops::placement::{Axis, Placement};
use crate::tensor::name::Name;

/// Low-rank deltas of all experts.
pub(crate) struct ExpertStacks;

impl Claim for ExpertStacks {
    fn peft_types(&self) -> &'static [&'static str] {
        &["LORA"]
    }

    fn claim(&self, context: &mut ClaimContext<'_>, findings: &mut Findings<'_>) {
        let stacks = stacks(context);
        let is_stack = |module: &str| stacks.contains(module);
        for pair in take_tails(context, findings, A, B, false, is_stack) {
            if lacks_magnitude(context, findings, &pair) {
                continue;
            }
            if let Err(error) = claim_pair(context, findings, &pair) {
                findings.refuse(error);
            }
        }
    }
}

/// The modules whose factors are stacks: by their names, or by the axes of `A` where they are called as in the model.
fn stacks(context: &ClaimContext<'_>) -> BTreeSet<String> {
    let of = |(i, path): (usize, &str)| {
        let module = A.module(path).or_else(|| B.module(path))?;
        let has_axes = context.tensor(i).tensor.shape.axes().len() == 3;
        let is_one = all_experts(module).is_some() || has_axes && all_experts_spelled(module).is_some();
        is_one.then(|| module.to_owned())
    };
    context.paths().enumerate().filter_map(of).collect()
}

/// The experts module that a stack belongs to, and the parameter of it that names know.
fn parameter(context: &ClaimContext<'_>, module: &str) -> (String, String) {
    let (stack, leaf) = module.rsplit_once('.').expect("a path of experts has a dot");
    let spelled = all_experts_spelled(module).map(|(_, names)| names).unwrap_or_default();
    let known = spelled.iter().find(|name| context.lookup(stack, name).is_some()).or(spelled.first());
    (stack.to_owned(), known.map_or(leaf, |name| name).to_owned())
}

fn claim_pair(context: &mut ClaimContext<'_>, findings: &mut Findings<'_>, pair: &Pair) -> Result<()> {
    let (stack, parameter) = parameter(context, &pair.module);
    let Some(target) = context.target(findings, &[pair.a, pair.b], &stack, &parameter) else { return Ok(()) };
    let weight = context.weight(target);
    let (a, b) = (context.tensor(pair.a).clone(), context.tensor(pair.b).clone());
    let &[experts, out, input] = weight.shape.axes() else {
        return Err(
            context.factor_shape(pair.a, format!("two axes, as `{}` is {}", weight.name, weight.shape))
        );
    };
    expert_layout::check_count(context, &pair.module, experts)?;
    let shared = |count: u64| count == 1 || count == experts;
    let of = format!("as `{}` is {} in the model", pair.module, weight.shape);
    let (of_a, rank) = match *a.tensor.shape.axes() {
        [count, rank, inputs] if shared(count) && rank > 0 && inputs == input => (count, rank),
        _ => return Err(context.factor_shape(pair.a, format!("[{experts} or 1, rank, {input}], {of}"))),
    };
    let of_b = match *b.tensor.shape.axes() {
        [count, outputs, b_rank] if shared(count) && outputs == out && b_rank == rank => count,
        _ => return Err(context.factor_shape(pair.b, format!("[{experts} or 1, {out}, {rank}], {of}"))),
    };
    if of_a == 1 && of_b == 1 && experts > 1 {
        let expected = format!("[{experts}, {out}, {rank}]: `{}` is every expert's already", a.key);
        return Err(context.factor_shape(pair.b, expected));
    }
    let scale = context.adapter.scale(&pair.module, Some(rank))? as f32;
    // Every expert's own factor, or the one that they share.
    let start = |count: u64, expert: u64, elements: u64| if count == 1 { 0 } else { expert * elements };
    let ops = (0..experts).map(|e| {
        let axes = [Axis { count: out, stride: input }, Axis { count: input, stride: 1 }].into();
        let placement = Placement { start: e * out * input, axes };
        let a = Factor::along(1, a.tensor.clone(), 1, rank, input).starting(start(of_a, e, rank * input));
        let b = Factor::along(0, b.tensor.clone(), rank, rank, 1).starting(start(of_b, e, out * rank));
        Op::new(LowRank::ADDED, placement, vec![a, b], scale)
    });
    let keys = [&a.key, &b.key].map(Name::clone);
    findings.claim(ClaimedModule::change("lora_stacked", &*pair.module, keys, target, ops.collect()));
    Ok(())
}
