//! FP8 of compressed-tensors (`float-quantized`, `naive-quantized`): E4M3 codes, and a scale for the tensor, for each row,
//! for each block, or for a group of columns.
//!
//! `value = code · scale` in f32 (quantized-bases.md 4.3). What a scale serves is the config's `strategy`, with
//! `block_structure` for blocks and `group_size` for groups. Scales of inputs are for those who quantize these too.

use crate::error::Result;
use crate::tensor::dtype::Dtype;

use crate::encodings::codes::{CodeFormat, E4M3_MOST};
use crate::encodings::ct_config::{CtFormat, METHOD, check_no_zero_point};
use crate::encodings::logical::{Candidate, Or};
use crate::encodings::number::NUMBERS;
use crate::encodings::scaled::{Again, FLOAT8, Named, Product, Scaled, ScaledParts};
use crate::encodings::scheme::{Auxiliary, Scheme};

/// Data that is called as the weight is.
const WEIGHT: &[&str] = &[".weight"];

static SCHEME: Scheme = Scheme {
    title: "FP8 of compressed-tensors",
    methods: &[METHOD],
    dtypes: FLOAT8,
    auxiliary: &[
        Auxiliary { ending: ".weight_scale", data: WEIGHT },
        Auxiliary { ending: ".weight_zero_point", data: WEIGHT },
    ],
    unused: &[
        Auxiliary { ending: ".input_scale", data: WEIGHT },
        Auxiliary { ending: ".input_zero_point", data: WEIGHT },
        Auxiliary { ending: ".input_global_scale", data: WEIGHT },
        Auxiliary { ending: ".output_scale", data: WEIGHT },
        Auxiliary { ending: ".output_zero_point", data: WEIGHT },
    ],
    plain_lists: &["ignore"],
    ..Scheme::NONE
};

const FORMAT: CtFormat = CtFormat {
    names: &["float-quantized", "naive-quantized"],
    kind: "float",
    bits: &[8],
    strategies: &["tensor", "channel", "block", "group"],
};

/// E4M3 codes with a scale for the tensor, each row, block or group.
pub(crate) static CT_FP8: Scaled = Scaled {
    name: "ct_fp8",
    scheme: &SCHEME,
    data: &[Dtype::F8_E4M3],
    codes: CodeFormat::E4m3,
    scales: NUMBERS,
    product: Product::Scale,
    again: Again::With(|of| of.largest / E4M3_MOST),
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
