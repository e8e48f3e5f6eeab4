//! LyCORIS' (IA)³: a share of the weight for each of its outputs or inputs, `W·(1 + s·v)` ([`ScaleAxis`]).
//!
//! LyCORIS: `modules/ia3.py`; a linear layer's vector is `[features]`, a convolution's `[1, features, 1, ...]`; `on_input` says the side. The bias stays
//! as it is, and `s` is the adapter's weight.

use crate::adapters::claim::Claim;
use crate::adapters::claim::context::ClaimContext;
use crate::adapters::claim::edits::ClaimedModule;
use crate::adapters::claim::findings::Findings;
use crate::adapters::parts::Tail;
use crate::error::Result;
use crate::ops::factor::Factor;
use crate::ops::op::Op;
use crate::ops::placement::Placement;
use crate::ops::scale_axis::{Groups, ScaleAxis};

/// A share for each position of an axis.
pub(crate) struct VectorShare;

const OUTPUTS: Tail = Tail::bare(".ia3_outputs");
const INPUTS: Tail = Tail::bare(".ia3_inputs");

impl Claim for VectorShare {
    fn peft_types(&self) -> &'static [&'static str] {
        &["LYCORIS"]
    }

    fn claim(&self, context: &mut ClaimContext<'_>, findings: &mut Findings<'_>) {
        for (tail, is_of_inputs) in [(OUTPUTS, false), (INPUTS, true)] {
            for (module, vector) in findings.take(context, tail) {
                if let Err(error) = claim_module(context, findings, module, vector, is_of_inputs) {
                    findings.refuse(error);
                }
            }
        }
    }
}

fn claim_module(
    context: &mut ClaimContext<'_>,
    findings: &mut Findings<'_>,
    module: &str,
    vector: usize,
    is_of_inputs: bool,
) -> Result<()> {
    let Some(target) = context.target(findings, &[vector], module, "weight") else { return Ok(()) };
    let (shape, tensor) = (context.weight(target).shape, context.tensor(vector).clone());
    let [outputs, inputs, kernel @ ..] = shape.axes() else {
        let expected = format!("a layer with inputs to multiply, and `{module}.weight` is {shape}");
        return Err(context.factor_shape(vector, expected));
    };
    let (outputs, inputs, kernel) = (*outputs, *inputs, kernel.iter().product::<u64>());
    let features = if is_of_inputs { inputs } else { outputs };
    if tensor.tensor.shape.elements() != features {
        let side = if is_of_inputs { "input" } else { "output" };
        let expected = format!("{features} values, one for every {side} of `{module}.weight`");
        return Err(context.factor_shape(vector, expected));
    }
    let (inputs_lie, factor) = if is_of_inputs {
        (Some(Groups { outputs, inputs, kernel }), Factor::whole(tensor.tensor))
    } else {
        (None, Factor::along(0, tensor.tensor, 1, 1, 1))
    };
    let kind = ScaleAxis { is_share: true, ..ScaleAxis::of(inputs_lie) };
    let placement = Placement::matrix(outputs, inputs * kernel, false);
    let op = Op::new(kind, placement, vec![factor], context.adapter.weight_of(module) as f32);
    findings.claim(ClaimedModule::change("ia3", module, [tensor.key], target, vec![op]));
    Ok(())
}
