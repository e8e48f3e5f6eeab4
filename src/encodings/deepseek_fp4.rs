//! FP4 experts of DeepSeek-V4: E2M1 codes, two in a byte that is called `I8`, and a power of two for every 32 of a row.
//!
//! `value = code · 2^(scale − 127)` in f32 (quantized-bases.md 6.4). The config describes the FP8 weights of the same
//! checkpoint; `weight_block_size` says nothing of these. Type and name of the scales tell them from whole numbers.

use crate::error::Result;
use crate::tensor::dtype::Dtype;

use crate::encodings::codes::CodeFormat;
use crate::encodings::logical::Candidate;
use crate::encodings::requantize::shared_exponent;
use crate::encodings::scaled::{Again, Named, Product, Scaled, ScaledParts};
use crate::encodings::scheme::{Auxiliary, Scheme};

/// The `quant_method` of such checkpoints.
const METHOD: &str = "fp8";
/// Values that share a scale.
const BLOCK: u64 = 32;

static SCHEME: Scheme = Scheme {
    title: "FP4 experts of DeepSeek-V4",
    methods: &[METHOD],
    dtypes: &[Dtype::I8],
    auxiliary: &[Auxiliary { ending: ".scale", data: &[".weight"] }],
    ..Scheme::NONE
};

/// E2M1 codes with a power of two for every 32.
pub(crate) static DEEPSEEK_FP4: Scaled = Scaled {
    name: "deepseek_fp4",
    scheme: &SCHEME,
    data: &[Dtype::I8],
    codes: CodeFormat::E2m1,
    scales: &[Dtype::F8_E8M0],
    product: Product::Scale,
    again: Again::With(|of| shared_exponent(of.largest, 1 << 21, 2)),
    has_stacks: false,
    ending: "",
    find,
};

fn find(found: &Candidate<'_>, weight: &str) -> Result<Option<ScaledParts>> {
    let module = weight.strip_suffix(".weight").filter(|_| found.method() == Some(METHOD));
    let scales = module.and_then(|module| Named::find(found, format!("{module}.scale")));
    Ok(scales.map(|scales| ScaledParts::new(scales, (1, BLOCK))))
}
