//! INT8 of compressed-tensors (`int-quantized`, W8A8; `naive-quantized`): whole numbers of 8 bits, and a scale for the
//! tensor, for each row, or for a group of columns.
//!
//! `value = code · scale` in f32 (quantized-bases.md 5.5). Zero points are not read. SmoothQuant's factors are in the layer
//! before, so that nothing here tells of them.

use crate::error::Result;
use crate::tensor::dtype::Dtype;

use crate::encodings::codes::CodeFormat;
use crate::encodings::ct_config::{CtFormat, METHOD, check_no_zero_point};
use crate::encodings::logical::{Candidate, Or};
use crate::encodings::number::NUMBERS;
use crate::encodings::scaled::{Again, Named, Product, Scaled, ScaledParts};
use crate::encodings::scheme::{Auxiliary, Scheme};

/// Data that is called as the weight is.
const WEIGHT: &[&str] = &[".weight"];

static SCHEME: Scheme = Scheme {
    title: "INT8 of compressed-tensors",
    methods: &[METHOD],
    dtypes: &[Dtype::I8],
    auxiliary: &[
        Auxiliary { ending: ".weight_scale", data: WEIGHT },
        Auxiliary { ending: ".weight_zero_point", data: WEIGHT },
    ],
    unused: &[
        Auxiliary { ending: ".input_scale", data: WEIGHT },
        Auxiliary { ending: ".input_zero_point", data: WEIGHT },
        Auxiliary { ending: ".output_scale", data: WEIGHT },
        Auxiliary { ending: ".output_zero_point", data: WEIGHT },
    ],
    plain_lists: &["ignore"],
    ..Scheme::NONE
};

const FORMAT: CtFormat = CtFormat {
    names: &["int-quantized", "naive-quantized"],
    kind: "int",
    bits: &[8],
    strategies: &["tensor", "channel", "group"],
};

/// Whole numbers of 8 bits with a scale for the tensor, each row or each group.
pub(crate) static CT_INT8: Scaled = Scaled {
    name: "ct_int8",
    scheme: &SCHEME,
    data: &[Dtype::I8],
    codes: CodeFormat::I8,
    scales: NUMBERS,
    product: Product::Scale,
    again: Again::With(|of| of.largest / 127.5),
    has_stacks: false,
    ending: "",
    find,
};

fn find(found: &Candidate<'_>, weight: &str) -> Result<Option<ScaledParts>> {
    let Some(module) = weight.strip_suffix(".weight") else { return Ok(None) };
    beside(found, module).map_err(|why| Candidate::wrong(weight, why))
}

/// What belongs to the weight of `module`, if it is of this scheme.
fn beside(found: &Candidate<'_>, module: &str) -> Or<Option<ScaledParts>> {
    let Some(strategy) = FORMAT.strategy(found, module)? else { return Ok(None) };
    check_no_zero_point(found, module)?;
    let scales = Named::need(found, format!("{module}.weight_scale"))?;
    Ok(Some(ScaledParts::new(scales, strategy.block())))
}
