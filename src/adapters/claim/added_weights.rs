//! Differences in full: a tensor that is added to a weight or to a bias ([`Added`]), of its shape.
//!
//! LyCORIS: `modules/full.py` and `modules/norms.py`; ComfyUI adds them as they are, times the strength. There is no scale but the adapter's weight.

use crate::adapters::claim::Claim;
use crate::adapters::claim::context::ClaimContext;
use crate::adapters::claim::edits::ClaimedModule;
use crate::adapters::claim::findings::Findings;
use crate::adapters::parts::Tail;
use crate::error::claim::ClaimError;
use crate::error::{Error, Result};
use crate::ops::added::Added;
use crate::ops::factor::Factor;
use crate::ops::op::Op;
use crate::ops::placement::Placement;

/// A tensor that is added.
pub(crate) struct AddedWeights;

/// What may be added to, and the tail of what is added.
const PARAMETERS: [(&str, Tail); 2] =
    [("weight", Tail::bare(".diff_weight")), ("bias", Tail::bare(".diff_bias"))];

impl Claim for AddedWeights {
    fn peft_types(&self) -> &'static [&'static str] {
        &["LYCORIS"]
    }

    fn claim(&self, context: &mut ClaimContext<'_>, findings: &mut Findings<'_>) {
        for (parameter, tail) in PARAMETERS {
            for (module, tensor) in findings.take(context, tail) {
                if let Err(error) = claim_parameter(context, findings, (module, parameter), tensor) {
                    findings.refuse(error);
                }
            }
        }
    }
}

fn claim_parameter(
    context: &mut ClaimContext<'_>,
    findings: &mut Findings<'_>,
    (module, parameter): (&str, &str),
    tensor: usize,
) -> Result<()> {
    let Some(target) = context.target(findings, &[tensor], module, parameter) else { return Ok(()) };
    let (weight, added) = (context.weight(target), context.tensor(tensor).clone());
    let shape = added.tensor.shape.clone();
    if shape != weight.shape {
        let (adapter, tensor, base) = (context.adapter.name.clone(), weight.name.to_string(), weight.shape);
        let factors = format!("`{}` {shape}", added.key);
        let kind = ClaimError::DeltaShape { adapter, tensor, delta: shape, base, factors };
        return Err(Error::new(kind)
            .hint("the adapter was trained on a model with other sizes: is it for this base?"));
    }
    let scale = context.adapter.weight_of(module) as f32;
    let op = match *shape.axes() {
        [rows, ref rest @ ..] if !rest.is_empty() => {
            let width = rest.iter().product();
            let factor = Factor::along(0, added.tensor, width, width, 1);
            Op::new(Added, Placement::matrix(rows, width, false), vec![factor], scale)
        }
        _ => {
            let factor = Factor::along(0, added.tensor, 1, 1, 1);
            Op::new(Added, Placement::vector(shape.elements()), vec![factor], scale)
        }
    };
    findings.claim(ClaimedModule::change("diff", module, [added.key], target, vec![op]));
    Ok(())
}
