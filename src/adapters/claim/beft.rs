//! BEFT: a vector that is added to the bias of a linear layer ([`Added`]).
//!
//! PEFT: `beft/layer.py`, `Linear.merge` (peft-methods.md 8): `beft_bias [1, out]`. A layer without a bias has nothing that it could be added to.

use crate::adapters::claim::Claim;
use crate::adapters::claim::context::ClaimContext;
use crate::adapters::claim::edits::ClaimedModule;
use crate::adapters::claim::findings::Findings;
use crate::adapters::claim::lycoris::LycorisLayer;
use crate::adapters::parts::Tail;
use crate::adapters::peft::config::Field;
use crate::error::Result;
use crate::ops::added::Added;
use crate::ops::factor::Factor;
use crate::ops::op::Op;
use crate::ops::placement::Placement;

/// A vector added to a bias.
pub(crate) struct Beft;

const BIAS: Tail = Tail::bare(".beft_bias");

const FIELDS: &[(&str, Field)] = &[("init_weights", Field::Fine)];

impl Claim for Beft {
    fn peft_types(&self) -> &'static [&'static str] {
        &["BEFT"]
    }

    fn fields(&self) -> &'static [(&'static str, Field)] {
        FIELDS
    }

    fn claim(&self, context: &mut ClaimContext<'_>, findings: &mut Findings<'_>) {
        for (module, vector) in findings.take(context, BIAS) {
            if let Err(error) = claim_module(context, findings, module, vector) {
                findings.refuse(error);
            }
        }
    }
}

fn claim_module(
    context: &mut ClaimContext<'_>,
    findings: &mut Findings<'_>,
    module: &str,
    vector: usize,
) -> Result<()> {
    let Some(layer) = LycorisLayer::find_linear(context, findings, module, &[vector], "PEFT's BEFT")? else {
        return Ok(());
    };
    let (out, _) = layer.matrix();
    let tensor = context.tensor(vector).clone();
    if tensor.tensor.shape.axes() != [1, out] {
        return Err(context.factor_shape(vector, format!("[1, {out}], one value for every output")));
    }
    if context.lookup(module, "bias").is_none() {
        return Err(context.no_bias(module, "beft_bias"));
    }
    let Some(target) = context.target(findings, &[vector], module, "bias") else { return Ok(()) };
    if context.weight(target).shape.axes() != [out] {
        return Err(context.factor_shape(vector, format!("as many values as `{module}.bias` has")));
    }
    let factors = [Factor::along(0, tensor.tensor, 1, 1, 1)];
    let op =
        Op::new(Added, Placement::vector(out), factors.as_slice(), context.adapter.weight_of(module) as f32);
    findings.claim(ClaimedModule::change("beft", module, [tensor.key], target, vec![op]));
    Ok(())
}
