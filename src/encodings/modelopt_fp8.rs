//! FP8 of ModelOpt: E4M3 codes, and a scale for the tensor (`FP8`) or for each row (`FP8_PER_CHANNEL_PER_TOKEN`).
//!
//! `value = code · scale` in f32 (quantized-bases.md 4.4). Fused experts, which it stores transposed, are not read.

use crate::error::Result;
use crate::tensor::dtype::Dtype;

use crate::encodings::codes::{CodeFormat, E4M3_MOST};
use crate::encodings::ct_config::Strategy;
use crate::encodings::logical::Candidate;
use crate::encodings::modelopt::{PLAIN_LISTS, SIDE_FILE, UNUSED, WEIGHT, algorithm};
use crate::encodings::number::NUMBERS;
use crate::encodings::scaled::{Again, FLOAT8, Named, Product, Scaled, ScaledParts};
use crate::encodings::scheme::{Auxiliary, Scheme};

static SCHEME: Scheme = Scheme {
    title: "FP8 of ModelOpt",
    methods: &["modelopt", "modelopt_fp8"],
    algorithms: &["FP8", "FP8_PER_CHANNEL_PER_TOKEN", "FP8_PB_WO"],
    dtypes: FLOAT8,
    auxiliary: &[Auxiliary { ending: ".weight_scale", data: WEIGHT }],
    unused: UNUSED,
    plain_lists: PLAIN_LISTS,
    side_files: &[SIDE_FILE],
    ..Scheme::NONE
};

/// E4M3 codes with a scale for the tensor or each row.
pub(crate) static MODELOPT_FP8: Scaled = Scaled {
    name: "modelopt_fp8",
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
    let strategy = match algorithm(found, module) {
        Some("FP8") => Strategy::Tensor,
        Some("FP8_PER_CHANNEL_PER_TOKEN") => Strategy::Channel,
        _ => return Ok(None),
    };
    let scales =
        Named::need(found, format!("{weight}_scale")).map_err(|why| Candidate::wrong(weight, why))?;
    Ok(Some(ScaledParts::new(scales, strategy.block())))
}
