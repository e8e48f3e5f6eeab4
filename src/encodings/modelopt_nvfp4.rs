//! NVFP4 of ModelOpt: E2M1 codes, an E4M3 scale for every 16 of a row, and a number for the tensor that multiplies.
//!
//! `value = code · (scale · scale_2)` in f32 (quantized-bases.md 7.2). With a `pre_quant_scale` (AWQ) a weight stands in
//! another basis, and fused experts are stored transposed: neither is read.

use crate::error::Result;
use crate::error::quantized::QuantizedProblem;
use crate::tensor::dtype::Dtype;

use crate::encodings::codes::CodeFormat;
use crate::encodings::logical::{Candidate, Or};
use crate::encodings::modelopt::{PLAIN_LISTS, SIDE_FILE, UNUSED, WEIGHT, algorithm, check_group_size};
use crate::encodings::requantize::e4m3_for_e2m1;
use crate::encodings::scaled::{Again, Named, Product, Scaled, ScaledParts};
use crate::encodings::scheme::{Auxiliary, Scheme};

/// What `quant_algo` says.
const ALGORITHMS: &[&str] = &["NVFP4", "W4A16_NVFP4"];
/// Values that share a scale.
const BLOCK: u64 = 16;

static SCHEME: Scheme = Scheme {
    title: "NVFP4 of ModelOpt",
    methods: &["modelopt", "modelopt_fp4"],
    algorithms: ALGORITHMS,
    dtypes: &[Dtype::U8, Dtype::F4],
    auxiliary: &[
        Auxiliary { ending: ".weight_scale", data: WEIGHT },
        Auxiliary { ending: ".weight_scale_2", data: WEIGHT },
    ],
    marks: &[".weight_scale_2"],
    unused: UNUSED,
    plain_lists: PLAIN_LISTS,
    side_files: &[SIDE_FILE],
    ..Scheme::NONE
};

/// E2M1 codes with a scale for every 16 and a number that multiplies these.
pub(crate) static MODELOPT_NVFP4: Scaled = Scaled {
    name: "modelopt_nvfp4",
    scheme: &SCHEME,
    data: &[Dtype::U8],
    codes: CodeFormat::E2m1,
    scales: &[Dtype::F8_E4M3],
    product: Product::ScaleTimesNumber,
    again: Again::With(|of| e4m3_for_e2m1(of.largest / (6.0 * of.number))),
    has_stacks: false,
    ending: "",
    find,
};

fn find(found: &Candidate<'_>, weight: &str) -> Result<Option<ScaledParts>> {
    let Some(module) = weight.strip_suffix(".weight") else { return Ok(None) };
    beside(found, weight, module).map_err(|why| Candidate::wrong(weight, why))
}

/// What belongs to a weight, if it is of this scheme.
fn beside(found: &Candidate<'_>, weight: &str, module: &str) -> Or<Option<ScaledParts>> {
    let second = format!("{weight}_scale_2");
    if found.quantization.is_none() && (found.find)(&second).is_some() && !is_comfy(found, module) {
        let (scheme, tensors, found, expected) = (SCHEME.title, vec![second], None, "modelopt");
        return Err(QuantizedProblem::Method { scheme, tensors, found, expected });
    }
    if !algorithm(found, module).is_some_and(|algorithm| ALGORITHMS.contains(&algorithm)) {
        return Ok(None);
    }
    check_group_size(found, module, &[BLOCK])?;
    let scales = Named::need(found, format!("{weight}_scale"))?;
    let number = Some(Named::need(found, second)?);
    Ok(Some(ScaledParts { third: number, ..ScaledParts::new(scales, (1, BLOCK)) }))
}

/// Whether it is a weight of ComfyUI's, whose scales lie in another order.
fn is_comfy(found: &Candidate<'_>, module: &str) -> bool {
    (found.find)(&format!("{module}.comfy_quant")).is_some()
}
