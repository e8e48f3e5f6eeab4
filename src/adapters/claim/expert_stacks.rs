//! LoRA with its factors in stacks of experts: `A [experts, rank, in]` and `B [experts, out, rank]`, for one projection of all
//! experts of a module. Either of them may be `[1, …]`, and is then that of every expert.
//!
//! Tinker writes them, and calls the projections `experts.w1` (the gate), `w3` (up) and `w2` (down), whatever the model does;
//! of experts without gates `w1` is the way up (key-mapping.md 10.3). Where the projections are on disk is a matter of names.

use crate::adapters::claim::context::Claiming;
use crate::adapters::claim::edits::{Change, Claimed};
use crate::adapters::claim::expert_layout;
use crate::error::Result;
use crate::model::names::experts::all_experts;
use crate::ops::op::Factor;
use crate::ops::placement::{Axis, Placement};

use crate::adapters::claim::Method;
use crate::adapters::claim::dora::lacks_magnitude;
use crate::adapters::claim::lora::{A, B, Pair, scale, take_tails};
use crate::ops::block::Block;

/// Low-rank deltas of all experts.
pub(crate) struct LoraStacked;

impl Method for LoraStacked {
    fn name(&self) -> &'static str {
        "lora_stacked"
    }

    fn peft_types(&self) -> &'static [&'static str] {
        &["LORA"]
    }

    fn claim(&self, claiming: &mut Claiming<'_>) {
        let is_stack = |module: &str| all_experts(module).is_some();
        for pair in take_tails(claiming, A, B, false, is_stack) {
            if lacks_magnitude(claiming, &pair) {
                continue;
            }
            if let Err(error) = claim_pair(claiming, &pair) {
                claiming.refuse(error);
            }
        }
    }

    fn apply(&self, _: &mut Block<'_>) {
        unreachable!("its changes are applied by `lora`")
    }
}

fn claim_pair(claiming: &mut Claiming<'_>, pair: &Pair) -> Result<()> {
    let (stack, parameter) = pair.module.rsplit_once('.').expect("a path of experts has a dot");
    let Some(target) = claiming.target(&[pair.a, pair.b], stack, parameter) else { return Ok(()) };
    let weight = claiming.weight(target);
    let (a, b) = (claiming.tensor(pair.a).clone(), claiming.tensor(pair.b).clone());
    let &[experts, out, input] = weight.shape.axes() else {
        return Err(
            claiming.factor_shape(pair.a, format!("two axes, as `{}` is {}", weight.name, weight.shape))
        );
    };
    expert_layout::check_count(claiming, &pair.module, experts)?;
    let shared = |count: u64| count == 1 || count == experts;
    let of = format!("as `{}` is {} in the model", pair.module, weight.shape);
    let (of_a, rank) = match *a.tensor.shape.axes() {
        [count, rank, inputs] if shared(count) && rank > 0 && inputs == input => (count, rank),
        _ => return Err(claiming.factor_shape(pair.a, format!("[{experts} or 1, rank, {input}], {of}"))),
    };
    let of_b = match *b.tensor.shape.axes() {
        [count, outputs, b_rank] if shared(count) && outputs == out && b_rank == rank => count,
        _ => return Err(claiming.factor_shape(pair.b, format!("[{experts} or 1, {out}, {rank}], {of}"))),
    };
    if of_a == 1 && of_b == 1 && experts > 1 {
        let expected = format!("[{experts}, {out}, {rank}]: `{}` is every expert's already", a.key);
        return Err(claiming.factor_shape(pair.b, expected));
    }
    let scale = scale(claiming, &pair.module, rank)? as f32;
    // Every expert's own factor, or the one that they share.
    let start = |count: u64, expert: u64, elements: u64| if count == 1 { 0 } else { expert * elements };
    let changes = (0..experts).map(|e| {
        let axes = vec![Axis { count: out, stride: input }, Axis { count: input, stride: 1 }];
        let placement = Placement { start: e * out * input, axes };
        let a = Factor::along(1, a.tensor.clone(), 1, rank, input).starting(start(of_a, e, rank * input));
        let b = Factor::along(0, b.tensor.clone(), rank, rank, 1).starting(start(of_b, e, out * rank));
        Change::new("lora", placement, vec![a, b], scale)
    });
    let changes = changes.collect();
    let keys = vec![a.key.clone(), b.key.clone()];
    claiming.claim(Claimed::change("lora_stacked", &pair.module, keys, target, changes));
    Ok(())
}
