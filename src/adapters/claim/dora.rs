//! DoRA: LoRA's pairs with a magnitude for every output.
//!
//! PEFT: `lora/dora.py` and `DoraLinearVariant`, `DoraEmbeddingVariant`, `_DoraConvNdVariant` in `lora/variants.py`. The
//! arithmetic is [`crate::ops::dora`]'s.

use crate::adapters::claim::Claim;
use crate::adapters::claim::context::ClaimContext;
use crate::adapters::claim::findings::Findings;
use crate::adapters::claim::lycoris;
use crate::adapters::claim::pair_op::resolve;
use crate::adapters::claim::pairs::{B, Pair, take_pairs};
use crate::adapters::parts::Tail;
use crate::error::Result;
use crate::ops;
use crate::ops::factor::Factor;

/// Low-rank deltas with magnitudes.
pub(crate) struct DoraClaim;

const MAGNITUDE: Tail = Tail::bare(".lora_magnitude_vector");
/// LyCORIS' norms of inputs.
const OF_INPUTS: Tail = Tail::bare(".lora_magnitude_inputs");
/// Files of older versions, and raw dumps.
const MAGNITUDE_WEIGHT: Tail = Tail { role: ".lora_magnitude_vector", ending: ".weight" };

impl Claim for DoraClaim {
    fn peft_types(&self) -> &'static [&'static str] {
        &["LORA", "LYCORIS"]
    }

    fn claim(&self, context: &mut ClaimContext<'_>, findings: &mut Findings<'_>) {
        if !context.adapter.options.dora {
            return;
        }
        let mut magnitudes = findings.take(context, MAGNITUDE);
        magnitudes.extend(findings.take(context, MAGNITUDE_WEIGHT));
        let mut of_inputs = findings.take(context, OF_INPUTS);
        for pair in take_pairs(context, findings) {
            let input = of_inputs.remove(&*pair.module);
            let Some(magnitude) = input.or_else(|| magnitudes.remove(&*pair.module)) else {
                findings.lacks_partner(pair.b, &MAGNITUDE.key(&pair.module));
                continue;
            };
            if let Err(error) = claim_module(context, findings, &pair, magnitude, input.is_some()) {
                findings.refuse(error);
            }
        }
        for (module, magnitude) in magnitudes.into_iter().chain(of_inputs) {
            findings.lacks_partner(magnitude, &B.key(module));
        }
    }
}

/// Notes that a pair which no magnitude can belong to needs one, if the config sets DoRA: PEFT has none on parameters.
pub(crate) fn lacks_magnitude(
    context: &mut ClaimContext<'_>,
    findings: &mut Findings<'_>,
    pair: &Pair<'_>,
) -> bool {
    let is_set = context.adapter.options.dora;
    if is_set {
        findings.lacks_partner(pair.b, &MAGNITUDE.key(&pair.module));
    }
    is_set
}

fn claim_module(
    context: &mut ClaimContext<'_>,
    findings: &mut Findings<'_>,
    pair: &Pair<'_>,
    magnitude: usize,
    of_inputs: bool,
) -> Result<()> {
    let Some(mut found) = resolve(context, findings, pair)? else { return Ok(()) };
    let tensor = context.tensor(magnitude).clone();
    if of_inputs {
        let shape = context.weight(found.target).shape;
        found.op =
            lycoris::rescaled(context, found.op, shape.axes().get(2..).unwrap_or_default(), Some(magnitude))?;
    } else {
        if tensor.tensor.shape.elements() != found.out {
            let expected = format!("{} values, one for every output", found.out);
            return Err(context.factor_shape(magnitude, expected));
        }
        found.op.kind = ops::dora::Dora { is_transposed: found.is_transposed }.into();
        found.op.factors.push(Factor::along(0, tensor.tensor, 1, 1, 1));
    }
    found.keys.push(tensor.key);
    found.claim(findings, "dora", None);
    Ok(())
}
