//! MiSS, once called Bone: few values for each output that repeat along its inputs ([`Repeated`]), on linear layers; or a share of what is there by
//! blocks ([`BlockShare`]).
//!
//! Source: Kang and Yin 2024 (arXiv:2409.15371). PEFT: `miss/layer.py`, `MissLinear.get_delta_weight_miss` and `get_delta_weight` (peft-methods.md
//! 4.13). `init_weights` says which it is: `miss_block` is `[r, out]`, with `mini` `[r, mini_r]`, with `bat` `[out / r, r, r]`.

use crate::adapters::claim::Claim;
use crate::adapters::claim::context::ClaimContext;
use crate::adapters::claim::findings::Findings;
use crate::adapters::claim::lycoris::{LycorisLayer, matrix};
use crate::adapters::parts::Tail;
use crate::adapters::peft::config::Field;
use crate::error::Result;
use crate::ops::block_share::BlockShare;
use crate::ops::factor::Factor;
use crate::ops::op::Op;
use crate::ops::placement::Placement;
use crate::ops::repeated::Repeated;

/// Values that repeat, or a share by blocks.
pub(crate) struct Miss;

const BLOCK: Tail = Tail::bare(".miss_block");

const FIELDS: &[(&str, Field)] = &[
    // The file's shapes tell both.
    ("r", Field::Fine),
    ("mini_r", Field::Fine),
    ("init_weights", Field::Fine),
    ("miss_dropout", Field::Fine),
    ("bias", Field::Only(&["none", "all", "MiSS_only"], "is none of `none`, `all`, `MiSS_only`")),
];

impl Claim for Miss {
    fn peft_types(&self) -> &'static [&'static str] {
        &["MISS"]
    }

    fn fields(&self) -> &'static [(&'static str, Field)] {
        FIELDS
    }

    fn claim(&self, context: &mut ClaimContext<'_>, findings: &mut Findings<'_>) {
        let blocks = findings.take(context, BLOCK);
        let form = match context.adapter.word("init_weights") {
            Ok(form) => form,
            Err(error) => return findings.refuse(error),
        };
        for (module, block) in blocks {
            if let Err(error) = claim_module(context, findings, module, block, form) {
                findings.refuse(error);
            }
        }
    }
}

fn claim_module(
    context: &mut ClaimContext<'_>,
    findings: &mut Findings<'_>,
    module: &str,
    block: usize,
    form: &str,
) -> Result<()> {
    let Some(layer) = LycorisLayer::find_linear(context, findings, module, &[block], "PEFT's MiSS")? else {
        return Ok(());
    };
    let (out, input) = layer.matrix();
    let (covered, op) = match form {
        "bat" => (layer.matrix(), share(context, block, (out, input))?),
        "mini" => (layer.matrix(), blocks(context, (module, block), (out, input))?),
        _ => {
            let (rows, outputs) = matrix(context, block, "[r, out]")?;
            let kind = Repeated::Inputs { inputs: repeats(context, block, rows, input)? };
            let factor = Factor::along(0, context.tensor(block).tensor.clone(), 1, rows, outputs);
            let placement = Placement::matrix(outputs, input, false);
            (
                (outputs, input),
                Op::new(kind, placement, [factor].as_slice(), context.adapter.weight_of(module) as f32),
            )
        }
    };
    layer.claim(context, findings, ("miss", module), &[block], covered, op)
}

/// Inputs after which values repeat, if there are as many.
fn repeats(context: &ClaimContext<'_>, block: usize, rows: u64, input: u64) -> Result<usize> {
    if rows > input {
        return Err(context.factor_shape(block, format!("no more rows than its layer's {input} inputs")));
    }
    Ok(rows as usize)
}

/// The op of values that repeat along outputs, too.
fn blocks(
    context: &ClaimContext<'_>,
    (module, block): (&str, usize),
    (out, input): (u64, u64),
) -> Result<Op> {
    let (rows, outputs) = matrix(context, block, "[r, mini_r]")?;
    if !out.is_multiple_of(outputs) {
        return Err(
            context.factor_shape(block, format!("[r, mini_r] with a mini_r that divides {out} outputs"))
        );
    }
    let inputs = repeats(context, block, rows, input)?;
    let factor = Factor::whole(context.tensor(block).tensor.clone());
    let kind = Repeated::Blocks { inputs, outputs: outputs as usize };
    Ok(Op::new(
        kind,
        Placement::matrix(out, input, false),
        [factor].as_slice(),
        context.adapter.weight_of(module) as f32,
    ))
}

/// The op of a share by blocks.
fn share(context: &ClaimContext<'_>, block: usize, (out, input): (u64, u64)) -> Result<Op> {
    if let Some(error) =
        context.weighted("with `bat` it multiplies what it finds, and a part of a product is not defined")
    {
        return Err(error);
    }
    match *context.tensor(block).tensor.shape.axes() {
        [count, side, same]
            if side == same
                && side > 0
                && count.checked_mul(side) == Some(out)
                && input.is_multiple_of(side) =>
        {
            let factor = Factor::whole(context.tensor(block).tensor.clone());
            let kind = BlockShare { side: side as usize };
            Ok(Op::new(kind, Placement::matrix(out, input, false), [factor].as_slice(), 1.0))
        }
        _ => Err(context.factor_shape(
            block,
            format!("[{out} / r, r, r] with an r that divides {out} outputs and {input} inputs"),
        )),
    }
}
