//! RoAd: outputs of a linear layer are rotated in pairs and lengthened, and its bias with them ([`RotatePairs`]).
//!
//! PEFT: `road/layer.py`, `_prepare_cols` and `Linear.merge` (peft-methods.md 5.4). `variant` says how many values `road_theta` and `road_alpha` have, `group_size` how far
//! apart the outputs of a pair are. PEFT rounds the products of lengths and sines to the base's type; here they are in f64.

use crate::adapters::claim::Claim;
use crate::adapters::claim::context::ClaimContext;
use crate::adapters::claim::edits::ClaimedModule;
use crate::adapters::claim::findings::Findings;
use crate::adapters::claim::lycoris::{LycorisLayer, claim_whole_modules};
use crate::adapters::parts::Tail;
use crate::adapters::peft::config::Field;
use crate::error::Result;
use crate::model::outline::Target;
use crate::ops::factor::Factor;
use crate::ops::op::Op;
use crate::ops::placement::Placement;
use crate::ops::rotate_pairs::{Angles, RotatePairs};

/// Rotations of outputs in pairs.
pub(crate) struct Road;

/// In the order of an op's factors.
const TAILS: [Tail; 2] = [Tail::bare(".road_theta"), Tail::bare(".road_alpha")];

const FIELDS: &[(&str, Field)] =
    &[("variant", Field::Fine), ("group_size", Field::Fine), ("init_weights", Field::Fine)];

impl Claim for Road {
    fn peft_types(&self) -> &'static [&'static str] {
        &["ROAD"]
    }

    fn fields(&self) -> &'static [(&'static str, Field)] {
        FIELDS
    }

    fn claim(&self, context: &mut ClaimContext<'_>, findings: &mut Findings<'_>) {
        claim_whole_modules(context, findings, &TAILS, claim_module);
    }
}

fn claim_module(
    context: &mut ClaimContext<'_>,
    findings: &mut Findings<'_>,
    module: &str,
    [theta, alpha]: [usize; 2],
) -> Result<()> {
    if let Some(error) = context.weighted("RoAd rotates, and a rotation has no scale") {
        return Err(error);
    }
    let used = [theta, alpha];
    let Some(layer) = LycorisLayer::find_linear(context, findings, module, &used, "PEFT's RoAd")? else {
        return Ok(());
    };
    if let Target::Base(i) = layer.target
        && context.outline.weights.get(i).is_some()
    {
        // Some encodings have rows that no tile reaches beyond.
        return Err(layer.unfit(context, theta, "quantized"));
    }
    let (out, input) = layer.matrix();
    let kind = pairs(context, used, out)?;
    let keys = used.map(|i| context.tensor(i).key.clone());
    let factors = used.map(|i| Factor::whole(context.tensor(i).tensor.clone()));
    let op = |kind, placement| Op::new(kind, placement, factors.clone(), 1.0);
    let weight = op(kind, Placement::matrix(out, input, false));
    layer.claim(context, findings, ("road", module), &used, (out, input), weight)?;
    if context.lookup(module, "bias").is_none() {
        return Ok(());
    }
    let Some(target) = context.target(findings, &used, module, "bias") else { return Ok(()) };
    if context.weight(target).shape.axes() != [out] {
        return Err(context.factor_shape(theta, format!("`{module}.bias` to have {out} values, too")));
    }
    let bias = op(RotatePairs { is_vector: true, ..kind }, Placement::vector(out));
    findings.claim(ClaimedModule::change("road", module, keys, target, vec![bias]));
    Ok(())
}

/// The rotation of so many outputs that the config and the shapes tell.
fn pairs(context: &ClaimContext<'_>, used: [usize; 2], out: u64) -> Result<RotatePairs> {
    let angles = match context.adapter.word("variant")? {
        "road_1" => Angles::Pairs,
        "road_2" => Angles::Outputs,
        _ => Angles::Both,
    };
    let group = context.adapter.number("group_size")? as u64;
    for i in used {
        if !group.is_multiple_of(2)
            || !out.is_multiple_of(group)
            || context.tensor(i).tensor.shape.axes() != [angles.count(out)]
        {
            let expected = format!(
                "[{}], by the config's `variant` and {out} outputs, in whole groups of {group}",
                angles.count(out)
            );
            return Err(context.factor_shape(i, expected));
        }
    }
    Ok(RotatePairs { group: group as usize, angles, is_vector: false })
}
