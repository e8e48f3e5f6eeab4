//! C3A: circulant blocks that are added to a linear layer ([`Repeated::Circulant`]).
//!
//! Source: Chen et al. 2024 (arXiv:2407.19342). PEFT: `c3a/layer.py`, `C3ALayer.get_delta_weight` (peft-methods.md 4.10): `c3a_kernel [out / b, in / b, b]`
//! has the first row of each block, and all are divided by the inputs. That quotient is the op's scale, rounded to f32 once.

use crate::adapters::claim::Claim;
use crate::adapters::claim::context::ClaimContext;
use crate::adapters::claim::edits::ClaimedModule;
use crate::adapters::claim::findings::Findings;
use crate::adapters::claim::lycoris::LycorisLayer;
use crate::adapters::parts::Tail;
use crate::adapters::peft::config::Field;
use crate::error::Result;
use crate::ops::factor::Factor;
use crate::ops::op::Op;
use crate::ops::placement::{Axis, Placement};
use crate::ops::repeated::Repeated;

/// Circulant blocks.
pub(crate) struct C3a;

const KERNEL: Tail = Tail::bare(".c3a_kernel");

/// Values of a kernel that an op has: every tile needs all of an op's, and blocks of few rows have many.
const VALUES: u64 = 1 << 18;

const FIELDS: &[(&str, Field)] = &[
    // The kernel's shape tells both.
    ("block_size", Field::Fine),
    ("block_size_pattern", Field::Fine),
    ("init_weights", Field::Fine),
    ("bias", Field::Only(&["none", "all", "c3a_only"], "is none of `none`, `all`, `c3a_only`")),
];

impl Claim for C3a {
    fn peft_types(&self) -> &'static [&'static str] {
        &["C3A"]
    }

    fn fields(&self) -> &'static [(&'static str, Field)] {
        FIELDS
    }

    fn claim(&self, context: &mut ClaimContext<'_>, findings: &mut Findings<'_>) {
        for (module, kernel) in findings.take(context, KERNEL) {
            if let Err(error) = claim_module(context, findings, module, kernel) {
                findings.refuse(error);
            }
        }
    }
}

fn claim_module(
    context: &mut ClaimContext<'_>,
    findings: &mut Findings<'_>,
    module: &str,
    kernel: usize,
) -> Result<()> {
    let Some(layer) = LycorisLayer::find_linear(context, findings, module, &[kernel], "PEFT's C3A")? else {
        return Ok(());
    };
    let (out, input) = layer.matrix();
    let tensor = context.tensor(kernel).clone();
    let side = match *tensor.tensor.shape.axes() {
        [down, along, side]
            if side > 0 && down.checked_mul(side) == Some(out) && along.checked_mul(side) == Some(input) =>
        {
            side
        }
        _ => {
            let expected =
                format!("[{out} / b, {input} / b, b] with a b that divides {out} outputs and {input} inputs");
            return Err(context.factor_shape(kernel, expected));
        }
    };
    let scale = (context.adapter.weight_of(module) / input as f64) as f32;
    let blocks_at_once = (VALUES / input).max(1);
    let mut ops = Vec::new();
    for first in (0..out / side).step_by(blocks_at_once as usize) {
        let blocks = blocks_at_once.min(out / side - first);
        let axes = [Axis { count: blocks * side, stride: input }, Axis { count: input, stride: 1 }];
        let placement = Placement { start: first * side * input, axes: axes.as_slice().into() };
        let factor =
            Factor { inner: blocks * input, ..Factor::whole(tensor.tensor.clone()) }.starting(first * input);
        let kind = Repeated::Circulant { side: side as usize, width: input as usize };
        ops.push(Op::new(kind, placement, [factor].as_slice(), scale));
    }
    findings.claim(ClaimedModule::change("c3a", module, [tensor.key], layer.target, ops));
    Ok(())
}
