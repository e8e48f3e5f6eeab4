//! LoRA's bias: `lora_B.bias`, a vector added to the bias of its layer ([`Added`]).
//!
//! PEFT: `lora/layer.py`, `Linear.merge` with `lora_bias`; the scale is the module's own (peft-methods.md 3.3).

use crate::adapters::claim::Claim;
use crate::adapters::claim::context::ClaimContext;
use crate::adapters::claim::edits::ClaimedModule;
use crate::adapters::claim::findings::Findings;
use crate::adapters::claim::pairs::B;
use crate::adapters::parts::Tail;
use crate::error::Error;
use crate::error::claim::ClaimError;
use crate::ops::added::Added;
use crate::ops::factor::Factor;
use crate::ops::op::Op;
use crate::ops::placement::Placement;

/// A vector added to a bias.
pub(crate) struct LoraBias;

const BIAS: Tail = Tail { role: ".lora_B", ending: ".bias" };

impl Claim for LoraBias {
    fn peft_types(&self) -> &'static [&'static str] {
        &["LORA"]
    }

    fn claim(&self, context: &mut ClaimContext<'_>, findings: &mut Findings<'_>) {
        if context.adapter.options.lora_bias {
            note_missing(context, findings);
        }
        for (module, tensor) in findings.take(context, BIAS) {
            if let Err(error) = claim_bias(context, findings, module, tensor) {
                findings.refuse(error);
            }
        }
    }
}

/// With `lora_bias` every `lora_B` has a bias (an embedding's `lora_embedding_B` has none).
fn note_missing(context: &mut ClaimContext<'_>, findings: &mut Findings<'_>) {
    for i in 0..context.adapter.tensors.len() {
        let Some(module) = B.module(context.path(i)).map(str::to_owned) else { continue };
        if context.beside(&context.tensor(i).key, B, BIAS).is_none() {
            findings.lacks_partner(i, &BIAS.key(&module));
        }
    }
}

fn claim_bias(
    context: &mut ClaimContext<'_>,
    findings: &mut Findings<'_>,
    module: &str,
    tensor: usize,
) -> Result<(), Error> {
    let bias = context.tensor(tensor).clone();
    let adapter = context.adapter.name.clone();
    let rank = context.beside(&bias.key, BIAS, B).and_then(|b| b.tensor.shape.axes().get(1).copied());
    let Some(rank) = rank else {
        findings.lacks_partner(tensor, &B.key(module));
        return Ok(());
    };
    if context.lookup(module, "bias").is_none() && context.lookup(module, "weight").is_some() {
        return Err(context.no_bias(module, "lora_B.bias"));
    }
    let Some(target) = context.target(findings, &[tensor], module, "bias") else { return Ok(()) };
    let weight = context.weight(target);
    let (tensor, shape) = (weight.name.to_string(), weight.shape);
    if bias.tensor.shape != shape || shape.axes().len() != 1 {
        let factors = format!("`{}` {}", bias.key, bias.tensor.shape);
        let delta = bias.tensor.shape.clone();
        return Err(ClaimError::DeltaShape { adapter, tensor, delta, base: shape, factors }.into());
    }
    let scale = context.adapter.scale(module, Some(rank))? as f32;
    let factors = vec![Factor::along(0, bias.tensor, 1, 1, 1)];
    let op = Op::new(Added, Placement::vector(shape.elements()), factors, scale);
    findings.claim(ClaimedModule::change("lora_bias", module, [bias.key], target, vec![op]));
    Ok(())
}
