//! LLM.int8 of bitsandbytes: whole numbers of 8 bits, and the largest magnitude of each row (`SCB`).
//!
//! `value = (code · SCB) · (1/127)` in f32, in that order, with 1/127 as f32 has it (quantized-bases.md 8.5).
//! `weight_format` says how the codes are arranged, and 0 that they are row after row; other ways are those of old GPUs.

use crate::error::Result;
use crate::error::quantized::QuantizedProblem;
use crate::tensor::dtype::Dtype;

use crate::encodings::codes::CodeFormat;
use crate::encodings::ct_config::Strategy;
use crate::encodings::logical::Candidate;
use crate::encodings::scaled::{Again, Named, Product, Scaled, ScaledParts};
use crate::encodings::scheme::{Auxiliary, Scheme};

/// Data that is called as the weight is.
const WEIGHT: &[&str] = &[".weight"];
/// The `quant_method` of such checkpoints.
const METHOD: &str = "bitsandbytes";
/// What a code counts of its row's largest magnitude.
pub(crate) const STEP: f32 = 1.0 / 127.0;

static SCHEME: Scheme = Scheme {
    title: "bitsandbytes of 8 bits",
    methods: &[METHOD],
    dtypes: &[Dtype::I8],
    auxiliary: &[
        Auxiliary { ending: ".SCB", data: WEIGHT },
        Auxiliary { ending: ".weight_format", data: WEIGHT },
    ],
    plain_lists: &["llm_int8_skip_modules"],
    builds: &["-bnb-8bit"],
    ..Scheme::NONE
};

/// Whole numbers of 8 bits with the largest magnitude of each row.
pub(crate) static BNB_INT8: Scaled = Scaled {
    name: "bnb_int8",
    scheme: &SCHEME,
    data: &[Dtype::I8],
    codes: CodeFormat::I8,
    scales: &[Dtype::F32],
    product: Product::ScaleThen(STEP),
    again: Again::With(|of| of.largest),
    has_stacks: false,
    ending: "",
    find,
};

fn find(found: &Candidate<'_>, weight: &str) -> Result<Option<ScaledParts>> {
    let Some(module) = weight.strip_suffix(".weight") else { return Ok(None) };
    let wrong = |why| Candidate::wrong(weight, why);
    let name = format!("{module}.SCB");
    let scales = match (found.method(), Named::find(found, name.clone())) {
        (Some(METHOD), Some(scales)) => scales,
        (Some(METHOD), None) => return Err(wrong(QuantizedProblem::NoAuxiliary { name })),
        (Some(_), _) | (None, None) => return Ok(None),
        (None, Some(_)) => {
            let (tensors, found) = (vec![name], None);
            let (scheme, expected) = (SCHEME.title, METHOD);
            return Err(wrong(QuantizedProblem::Method { scheme, tensors, found, expected }));
        }
    };
    let format = (found.find)(&format!("{module}.weight_format"));
    if let Some(format) = &format {
        let bytes = (found.read)(format)?;
        if bytes != [0] {
            let found = format!("{bytes:?}");
            let key = "weight_format";
            return Err(wrong(QuantizedProblem::Setting { key, found, expected: "[0]" }));
        }
    }
    let beside = ScaledParts::new(scales, Strategy::Channel.block());
    Ok(Some(ScaledParts { auxiliary: format.into_iter().collect(), ..beside }))
}
