//! HRA: rows are reflected ([`Reflect`]), on linear layers and convolutions of two dimensions.
//!
//! PEFT: `hra/layer.py`, `HRALinear.get_delta_weight` and `HRAConv2d.get_delta_weight` (peft-methods.md 5.3): `hra_u [in·kernel, r]`; with `apply_GS` its columns
//! are brought to right angles first.

use crate::adapters::claim::Claim;
use crate::adapters::claim::context::ClaimContext;
use crate::adapters::claim::findings::Findings;
use crate::adapters::claim::lycoris::{LycorisLayer, matrix};
use crate::adapters::parts::Tail;
use crate::adapters::peft::config::Field;
use crate::error::Result;
use crate::ops::factor::Factor;
use crate::ops::op::Op;
use crate::ops::placement::Placement;
use crate::ops::reflect::Reflect;

/// Reflections of rows.
pub(crate) struct Hra;

const U: Tail = Tail::bare(".hra_u");

const FIELDS: &[(&str, Field)] = &[
    ("r", Field::Fine),
    ("apply_GS", Field::Flag),
    ("init_weights", Field::Fine),
    ("bias", Field::Only(&["none", "all", "hra_only"], "is none of `none`, `all`, `hra_only`")),
];

impl Claim for Hra {
    fn peft_types(&self) -> &'static [&'static str] {
        &["HRA"]
    }

    fn fields(&self) -> &'static [(&'static str, Field)] {
        FIELDS
    }

    fn claim(&self, context: &mut ClaimContext<'_>, findings: &mut Findings<'_>) {
        let vectors = findings.take(context, U);
        let is_orthonormal = match context.adapter.word("apply_GS") {
            Ok(word) => word == "true",
            Err(error) => return findings.refuse(error),
        };
        for (module, vectors) in vectors {
            if let Err(error) = claim_module(context, findings, (module, vectors), is_orthonormal) {
                findings.refuse(error);
            }
        }
    }
}

fn claim_module(
    context: &mut ClaimContext<'_>,
    findings: &mut Findings<'_>,
    (module, vectors): (&str, usize),
    is_orthonormal: bool,
) -> Result<()> {
    if let Some(error) = context.weighted("HRA reflects, and a reflection has no scale") {
        return Err(error);
    }
    let Some(layer) = LycorisLayer::find_with_rows(context, findings, module, &[vectors], "PEFT's HRA")?
    else {
        return Ok(());
    };
    let (width, rank) = matrix(context, vectors, "[in, r]")?;
    if rank > width {
        return Err(
            context.factor_shape(vectors, format!("no more vectors than the {width} elements of each"))
        );
    }
    let (out, _) = layer.matrix();
    let kind = Reflect { width: width as usize, rank: rank as usize, is_orthonormal };
    let factor = Factor::prepared(context.tensor(vectors).tensor.clone(), kind.prepared_len());
    let op = Op::new(kind, Placement::matrix(out, width, false), [factor].as_slice(), 1.0);
    layer.claim(context, findings, ("hra", module), &[vectors], (out, width), op)
}
