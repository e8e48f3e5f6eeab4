//! LoRA of experts that share one factor and have the other each for itself, under their numbers: *shared outer* adapters.
//!
//! Megatron-Bridge streams them to those who serve them: `experts.gate_proj.lora_A [1, rank, in]` for all, and
//! `experts.3.gate_proj.lora_B [out, rank]` for one; on the way back `lora_B` is shared and `lora_A` is not. Where both are
//! stacks, [`expert_stacks`](crate::adapters::claim::expert_stacks) reads them.

use std::collections::BTreeMap;

use crate::adapters::claim::Claim;
use crate::adapters::claim::context::ClaimContext;
use crate::adapters::claim::dora::lacks_magnitude;
use crate::adapters::claim::edits::ClaimedModule;
use crate::adapters::claim::findings::Findings;
use crate::adapters::claim::pairs::{A, B, Pair};
use crate::adapters::parts::Tail;
use crate::error::Result;
use crate::model::names::experts::{all_experts, all_experts_spelled, expert};
use crate::ops::factor::Factor;
use crate::ops::low_rank::LowRank;
use crate::ops::op::Op;
use crate::ops::placement::Placement;

/// Low-rank deltas of experts that share a factor.
pub(crate) struct SharedFactors;

impl Claim for SharedFactors {
    fn peft_types(&self) -> &'static [&'static str] {
        &["LORA"]
    }

    fn claim(&self, context: &mut ClaimContext<'_>, findings: &mut Findings<'_>) {
        for (shared, own) in [(A, B), (B, A)] {
            claim_side(context, findings, shared, own);
        }
    }
}

/// The projection of all experts that a module is, by the names of single ones: `…experts.gate_proj`.
fn projection(module: &str) -> Option<String> {
    let short = all_experts(module).map(|(stack, role)| format!("{stack}.{}", role.single()));
    short.or_else(|| all_experts_spelled(module).map(|_| module.to_owned()))
}

/// The number of an expert's module, and the projection that it is one of.
fn numbered(module: &str) -> Option<(u64, String)> {
    let found = expert(module).filter(|found| found.parameter.is_empty())?;
    Some((found.number, format!("{}.{}", found.stack, found.role.single())))
}

/// Claims where the factor of tail `shared` is that of all experts, and the one of tail `own` is not.
fn claim_side(context: &mut ClaimContext<'_>, findings: &mut Findings<'_>, shared: Tail, own: Tail) {
    let single: Vec<&str> = context.paths().filter_map(|path| own.module(path)).collect();
    let is_of = |all: &str| single.iter().any(|module| numbered(module).is_some_and(|(_, of)| of == all));
    let is_alone =
        |module: &str| projection(module).is_some_and(|all| !single.contains(&module) && is_of(&all));
    let alone: Vec<String> = context
        .paths()
        .filter_map(|path| shared.module(path))
        .filter(|m| is_alone(m))
        .map(str::to_owned)
        .collect();
    if alone.is_empty() {
        return;
    }
    let all = findings.take_where(context, shared, |module| alone.iter().any(|other| other == module));
    let mut by_projection: BTreeMap<String, BTreeMap<u64, (&str, usize)>> = BTreeMap::new();
    let projections: Vec<String> = alone.iter().filter_map(|module| projection(module)).collect();
    let is_member = |module: &str| numbered(module).is_some_and(|(_, of)| projections.contains(&of));
    for (module, i) in findings.take_where(context, own, is_member) {
        if let Some((number, of)) = numbered(module) {
            by_projection.entry(of).or_default().insert(number, (module, i));
        }
    }
    for (module, i) in all {
        let members = projection(module).and_then(|of| by_projection.remove(&of)).unwrap_or_default();
        check_members(context, findings, module, (i, own), &members);
        for (member, other) in members.into_values() {
            let (a, b) = if shared == A { (i, other) } else { (other, i) };
            let pair = Pair { module: member.into(), a, b, is_embedding: false, parameter: None };
            if !lacks_magnitude(context, findings, &pair)
                && let Err(error) = claim_pair(context, findings, &pair)
            {
                findings.refuse(error);
            }
        }
    }
}

/// Notes the first expert that has no factor of its own.
fn check_members(
    context: &ClaimContext<'_>,
    findings: &mut Findings<'_>,
    module: &str,
    (shared, own): (usize, Tail),
    members: &BTreeMap<u64, (&str, usize)>,
) {
    let count = members.len() as u64;
    let expected =
        context.names.expert_count().unwrap_or_else(|| members.keys().last().map_or(0, |last| last + 1));
    if let Some(missing) = (0..=count).find(|number| *number < expected && !members.contains_key(number)) {
        let (stack, leaf) = module.rsplit_once('.').unwrap_or(("", module));
        findings.lacks_partner(shared, &own.key(&format!("{stack}.{missing}.{leaf}")));
    }
}

fn claim_pair(context: &mut ClaimContext<'_>, findings: &mut Findings<'_>, pair: &Pair) -> Result<()> {
    let Some(target) = context.target(findings, &[pair.a, pair.b], &pair.module, "weight") else {
        return Ok(());
    };
    let weight = context.weight(target);
    let (a, b) = (context.tensor(pair.a).clone(), context.tensor(pair.b).clone());
    let &[out, input] = weight.shape.axes() else {
        return Err(
            context.factor_shape(pair.a, format!("two axes, as `{}` is {}", weight.name, weight.shape))
        );
    };
    let of = format!("as `{}` is {} in the model", pair.module, weight.shape);
    let rank = match *a.tensor.shape.axes() {
        [1, rank, inputs] | [rank, inputs] if rank > 0 && inputs == input => rank,
        _ => return Err(context.factor_shape(pair.a, format!("[rank, {input}], {of}"))),
    };
    match *b.tensor.shape.axes() {
        [1, outputs, b_rank] | [outputs, b_rank] if outputs == out && b_rank == rank => {}
        _ => return Err(context.factor_shape(pair.b, format!("[{out}, {rank}], {of}"))),
    }
    let scale = context.adapter.scale(&pair.module, Some(rank))? as f32;
    let factors = vec![Factor::along(1, a.tensor, 1, rank, input), Factor::along(0, b.tensor, rank, rank, 1)];
    let op = Op::new(LowRank::ADDED, Placement::matrix(out, input, false), factors, scale);
    findings.claim(ClaimedModule::change("lora", &*pair.module, [a.key, b.key], target, vec![op]));
    Ok(())
}
