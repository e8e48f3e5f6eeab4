//! BOFT: rows are rotated by a butterfly of blocks, and outputs multiplied ([`Butterfly`]), on linear layers and convolutions of two dimensions.
//!
//! PEFT: `boft/layer.py`, `Linear.get_delta_weight` and `Conv2d.get_delta_weight` (peft-methods.md 5.2): `boft_R [m, blocks, b, b]` and `boft_s`, one value for
//! every output. Where its CUDA extension cannot be built, PEFT makes layers of one stage and cannot read what has more.

use crate::adapters::claim::Claim;
use crate::adapters::claim::context::ClaimContext;
use crate::adapters::claim::findings::Findings;
use crate::adapters::claim::lycoris::{LycorisLayer, claim_whole_modules};
use crate::adapters::parts::Tail;
use crate::adapters::peft::config::Field;
use crate::error::Result;
use crate::ops::butterfly::Butterfly;
use crate::ops::factor::Factor;
use crate::ops::op::Op;
use crate::ops::placement::Placement;

/// A butterfly of rotations.
pub(crate) struct Boft;

/// In the order of an op's factors.
const TAILS: [Tail; 2] = [Tail::bare(".boft_R"), Tail::bare(".boft_s")];

const FIELDS: &[(&str, Field)] = &[
    // The shape of the blocks tells all three.
    ("boft_block_size", Field::Fine),
    ("boft_block_num", Field::Fine),
    ("boft_n_butterfly_factor", Field::Fine),
    ("boft_dropout", Field::Fine),
    ("fan_in_fan_out", Field::Flag),
    ("init_weights", Field::Fine),
    ("bias", Field::Only(&["none", "all", "boft_only"], "is none of `none`, `all`, `boft_only`")),
];

impl Claim for Boft {
    fn peft_types(&self) -> &'static [&'static str] {
        &["BOFT"]
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
    [blocks, multipliers]: [usize; 2],
) -> Result<()> {
    if let Some(error) = context.weighted("BOFT rotates, and a rotation has no scale") {
        return Err(error);
    }
    let used = [blocks, multipliers];
    let Some(layer) = LycorisLayer::find_with_rows(context, findings, module, &used, "PEFT's BOFT")? else {
        return Ok(());
    };
    let (out, width) = layer.matrix();
    let kind = sizes(context, blocks, width)?;
    let tensor = |i: usize| context.tensor(i).tensor.clone();
    if tensor(multipliers).shape.elements() != out {
        return Err(context.factor_shape(multipliers, format!("{out} values, one for every output")));
    }
    let factors = [
        Factor::prepared(tensor(blocks), kind.prepared_len()),
        Factor::along(0, tensor(multipliers), 1, 1, 1),
    ];
    let op = Op::new(kind, Placement::matrix(out, width, false), factors, 1.0);
    layer.claim(context, findings, ("boft", module), &used, (out, width), op)
}

/// Stages, blocks and their rows, if they make up rows of that width.
fn sizes(context: &ClaimContext<'_>, blocks: usize, width: u64) -> Result<Butterfly> {
    match *context.tensor(blocks).tensor.shape.axes() {
        // The last stage's chunks have `2ᵐ⁻¹` blocks, and groups are halves of blocks.
        [stages @ 1..=32, count, side, same]
            if side == same
                && side > 0
                && count.checked_mul(side) == Some(width)
                && (stages == 1 || side.is_multiple_of(2) && count.is_multiple_of(1 << (stages - 1))) =>
        {
            let [stages, blocks, side] = [stages, count, side].map(|size| size as usize);
            Ok(Butterfly { stages, blocks, side })
        }
        _ => {
            let expected = format!(
                "[m, blocks, b, b] of blocks that make up rows of {width}, and of several stages an even b"
            );
            Err(context.factor_shape(blocks, expected))
        }
    }
}
