//! OFT and BOFT as LyCORIS has them: outputs are rotated block by block ([`RotateOutputs`]), on linear layers and convolutions.
//!
//! LyCORIS: `modules/diag_oft.py` (`oft_blocks [blocks, b, b]`) and `modules/boft.py` (`[stages, blocks, b, b]`). The module's alpha times its outputs is the
//! length that `Q` is shortened to, 0 for none; `rescale` has a multiplier for each output. There is no scale.

use crate::adapters::claim::Claim;
use crate::adapters::claim::context::ClaimContext;
use crate::adapters::claim::findings::Findings;
use crate::adapters::claim::lycoris;
use crate::adapters::claim::lycoris::LycorisLayer;
use crate::adapters::claim::oft;
use crate::adapters::parts::Tail;
use crate::error::Result;
use crate::model::outline::Target;
use crate::ops::factor::Factor;
use crate::ops::op::Op;
use crate::ops::placement::Placement;
use crate::ops::rotate_outputs::RotateOutputs;

/// A rotation of outputs.
pub(crate) struct OutputRotation;

/// In the order of an op's factors.
const TAILS: [Tail; 2] = [Tail::bare(".oft_blocks"), Tail::bare(".oft_rescale")];

impl Claim for OutputRotation {
    fn peft_types(&self) -> &'static [&'static str] {
        &["LYCORIS"]
    }

    fn claim(&self, context: &mut ClaimContext<'_>, findings: &mut Findings<'_>) {
        lycoris::claim_modules(context, findings, &TAILS, claim_module);
    }
}

fn claim_module(
    context: &mut ClaimContext<'_>,
    findings: &mut Findings<'_>,
    module: &str,
    [blocks, rescale]: [Option<usize>; 2],
) -> Result<()> {
    let present: Vec<usize> = [blocks, rescale].into_iter().flatten().collect();
    let Some(blocks) = blocks else {
        findings.lacks_partner(present[0], &TAILS[0].key(module));
        return Ok(());
    };
    if let Some(error) = oft::weighted(context) {
        return Err(error);
    }
    let Some(layer) = LycorisLayer::find(context, findings, module, &present, "LyCORIS' OFT")? else {
        return Ok(());
    };
    if let Target::Base(i) = layer.target
        && context.outline.weights.get(i).is_some()
    {
        // Some encodings have rows that no tile reaches beyond.
        return Err(layer.unfit(context, blocks, "quantized"));
    }
    let (out, width) = layer.matrix();
    let (stages, count, side) = sizes(context, blocks, out)?;
    let tensor = |i: usize| context.tensor(i).tensor.clone();
    if let Some(rescale) = rescale
        && tensor(rescale).shape.elements() != out
    {
        return Err(context.factor_shape(rescale, format!("{out} values, one for every output")));
    }
    if out == 1 && layer.kernel().iter().product::<u64>() == 1 {
        return Err(context.factor_shape(blocks, "more than one output to rotate".to_owned()));
    }
    // What its alpha is, times its outputs, as they are one for other methods.
    let most = context.adapter.options.own.get(module).map_or(0.0, |own| own.alpha * out as f64);
    let kind = RotateOutputs {
        side: side as usize,
        blocks: count as usize,
        stages: stages.map(|stages| stages as usize),
        most: (most > 0.0).then_some(most),
    };
    let mut factors = vec![Factor::prepared(tensor(blocks), kind.prepared_len())];
    factors.extend(rescale.map(|rescale| Factor::along(0, tensor(rescale), 1, 1, 1)));
    let op = Op::new(kind, Placement::matrix(out, width, false), factors, 1.0);
    layer.claim(context, findings, ("oft", module), &present, (out, width), op)
}

/// Stages of a butterfly, if it is one, blocks and their rows, if they are those of so many outputs.
fn sizes(context: &ClaimContext<'_>, i: usize, out: u64) -> Result<(Option<u64>, u64, u64)> {
    let fits = |count: u64, side: u64| side > 0 && count.checked_mul(side) == Some(out);
    match *context.tensor(i).tensor.shape.axes() {
        [count, side, same] if side == same && fits(count, side) => Ok((None, count, side)),
        // The outputs of the last stage's blocks lie `2ˢ⁻¹·b` apart at most.
        [stages @ 1..=32, count, side, same]
            if side == same
                && fits(count, side)
                && side.is_multiple_of(2)
                && out.is_multiple_of(side.saturating_mul(1 << (stages - 1))) =>
        {
            Ok((Some(stages), count, side))
        }
        _ => {
            let expected =
                format!("[blocks, b, b] of {out} outputs in all, or [stages, blocks, b, b] with an even b");
            Err(context.factor_shape(i, expected))
        }
    }
}
