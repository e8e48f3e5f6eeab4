//! Microscaling formats of compressed-tensors: codes of 4, 6 or 8 bits, and a power of two for every 32 of a row.
//!
//! `value = code · 2^(scale − 127)` in f32 (quantized-bases.md 6.1). Codes of 4 and 6 bits are packed: a row is a stream of
//! them, the first in the lowest bits.

use crate::error::Result;
use crate::error::quantized::QuantizedProblem;
use crate::tensor::dtype::Dtype;

use crate::encodings::codes::CodeFormat;
use crate::encodings::ct_config::{CtFormat, METHOD, Strategy};
use crate::encodings::logical::{Candidate, Or};
use crate::encodings::requantize::shared_exponent;
use crate::encodings::scaled::{Again, FLOAT8, Named, POWERS, Product, Scaled, ScaledParts};
use crate::encodings::scheme::{Auxiliary, Scheme};

/// Data that is called as the weight is, and data of packed codes.
const WEIGHT: &[&str] = &[".weight"];
const PACKED: &[&str] = &[".weight_packed"];
/// Values that share a scale.
const BLOCK: u64 = 32;

/// A scheme whose data is called so.
const fn scheme(title: &'static str, dtypes: &'static [Dtype], packed: bool) -> Scheme {
    let scheme = Scheme { title, methods: &[METHOD], dtypes, plain_lists: &["ignore"], ..Scheme::NONE };
    if packed {
        Scheme {
            data: PACKED,
            auxiliary: &[Auxiliary { ending: ".weight_scale", data: PACKED }],
            unused: &[Auxiliary { ending: ".input_scale", data: PACKED }],
            ..scheme
        }
    } else {
        Scheme {
            auxiliary: &[Auxiliary { ending: ".weight_scale", data: WEIGHT }],
            unused: &[Auxiliary { ending: ".input_scale", data: WEIGHT }],
            ..scheme
        }
    }
}

static SCHEME_4: Scheme = scheme("MXFP4 of compressed-tensors", &[Dtype::U8], true);
static SCHEME_6: Scheme = scheme("MXFP6 of compressed-tensors", &[Dtype::U8], true);
static SCHEME_8: Scheme = scheme("MXFP8 of compressed-tensors", FLOAT8, false);

/// A format of so many bits.
const fn format(names: &'static [&'static str], bits: &'static [u64]) -> CtFormat {
    CtFormat { names, kind: "float", bits, strategies: &["group"] }
}

const FORMAT_4: CtFormat = format(&["mxfp4-pack-quantized"], &[4]);
const FORMAT_6: CtFormat = format(&["mxfp6-pack-quantized"], &[6]);
const FORMAT_8: CtFormat = format(&["mxfp8-quantized"], &[8]);

/// E2M1 codes with a power of two for every 32.
pub(crate) static CT_MXFP4: Scaled = Scaled {
    name: "ct_mxfp4",
    scheme: &SCHEME_4,
    data: &[Dtype::U8],
    codes: CodeFormat::E2m1,
    scales: POWERS,
    product: Product::Scale,
    again: Again::With(|of| shared_exponent(of.largest, 1 << 21, 2)),
    has_stacks: false,
    ending: "_packed",
    find: |found, weight| find(found, weight, &FORMAT_4),
};

/// E2M3 codes with a power of two for every 32.
pub(crate) static CT_MXFP6: Scaled = Scaled {
    name: "ct_mxfp6",
    scheme: &SCHEME_6,
    data: &[Dtype::U8],
    codes: CodeFormat::E2m3,
    scales: POWERS,
    product: Product::Scale,
    again: Again::With(|of| shared_exponent(of.largest, 1 << 19, 2)),
    has_stacks: false,
    ending: "_packed",
    find: |found, weight| find(found, weight, &FORMAT_6),
};

/// E4M3 codes with a power of two for every 32.
pub(crate) static CT_MXFP8: Scaled = Scaled {
    name: "ct_mxfp8",
    scheme: &SCHEME_8,
    data: &[Dtype::F8_E4M3],
    codes: CodeFormat::E4m3,
    scales: POWERS,
    product: Product::Scale,
    again: Again::With(|of| shared_exponent(of.largest, 1 << 21, 8)),
    has_stacks: false,
    ending: "",
    find: |found, weight| find(found, weight, &FORMAT_8),
};

fn find(found: &Candidate<'_>, weight: &str, format: &CtFormat) -> Result<Option<ScaledParts>> {
    let Some(module) = weight.strip_suffix(".weight") else { return Ok(None) };
    beside(found, module, format).map_err(|why| Candidate::wrong(weight, why))
}

/// What belongs to the weight of `module`, if it is of that format.
fn beside(found: &Candidate<'_>, module: &str, format: &CtFormat) -> Or<Option<ScaledParts>> {
    match format.strategy(found, module)? {
        None => return Ok(None),
        Some(Strategy::Group(BLOCK)) => {}
        Some(other) => {
            let found = Some(other.block().1);
            return Err(QuantizedProblem::Number { key: "group_size", found, read: &[BLOCK] });
        }
    }
    let scales = Named::need(found, format!("{module}.weight_scale"))?;
    Ok(Some(ScaledParts::new(scales, (1, BLOCK))))
}
