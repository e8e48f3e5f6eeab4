//! FP8 with a scale for each tensor, as `quant_method` `fp8` without blocks and Mistral's own files store it, and with one
//! for each output, as fbgemm does.
//!
//! `value = code · scale` in f32, although the scale may be called `…_scale_inv` (quantized-bases.md 4.4, 17). fbgemm's
//! fused experts are stored by input, `[E, K, N]`, so that a scale is that of a column: `[E, 1, N]`, or `[E, N, 1]` as
//! transformers has it for those of the second projection.

use crate::error::Result;
use crate::error::quantized::QuantizedProblem;
use crate::tensor::dtype::Dtype;
use crate::tensor::shape::Shape;

use crate::encodings::codes::{CodeFormat, E4M3_MOST};
use crate::encodings::ct_config::Strategy;
use crate::encodings::logical::{Candidate, Or};
use crate::encodings::number::NUMBERS;
use crate::encodings::scaled::{Again, FLOAT8, Named, Product, Scaled, ScaledParts};
use crate::encodings::scheme::{Auxiliary, Scheme};

/// Data that is called as the weight is.
const WEIGHT: &[&str] = &[".weight"];
/// What Mistral's own files call a scale, which have no config that says it.
const MISTRAL: &str = ".qscale_weight";

static SCHEME: Scheme = Scheme {
    title: "FP8 with a scale for each tensor or channel",
    methods: &["fp8", "fbgemm_fp8"],
    dtypes: FLOAT8,
    auxiliary: &[
        Auxiliary { ending: ".weight_scale", data: WEIGHT },
        Auxiliary { ending: ".weight_scale_inv", data: WEIGHT },
        Auxiliary { ending: "_scale_inv", data: &[""] },
        Auxiliary { ending: "_scale", data: &[""] },
        Auxiliary { ending: MISTRAL, data: WEIGHT },
    ],
    unused: &[
        Auxiliary { ending: ".qscale_act", data: WEIGHT },
        Auxiliary { ending: ".input_scale", data: WEIGHT },
        Auxiliary { ending: ".input_scale_ub", data: WEIGHT },
        Auxiliary { ending: ".activation_scale", data: WEIGHT },
        // Of fused experts.
        Auxiliary { ending: "_activation_scale", data: &[""] },
        Auxiliary { ending: ".output_scale", data: WEIGHT },
    ],
    plain_lists: &["modules_to_not_convert", "ignored_layers"],
    ..Scheme::NONE
};

/// E4M3 codes with a scale for the tensor or for each output.
pub(crate) static FP8_SCALED: Scaled = Scaled {
    name: "fp8_scaled",
    scheme: &SCHEME,
    data: &[Dtype::F8_E4M3],
    codes: CodeFormat::E4m3,
    scales: NUMBERS,
    product: Product::Scale,
    again: Again::With(|of| of.largest / E4M3_MOST),
    has_stacks: true,
    ending: "",
    find,
};

fn find(found: &Candidate<'_>, weight: &str) -> Result<Option<ScaledParts>> {
    let beside = match found.method() {
        Some("fp8") => of_tensor(found, weight),
        Some("fbgemm_fp8") => of_outputs(found, weight),
        _ => Ok(None),
    };
    let beside = beside.map_err(|why| Candidate::wrong(weight, why))?;
    Ok(beside.or_else(|| {
        let module = weight.strip_suffix(".weight")?;
        let scale = Named::find(found, format!("{module}{MISTRAL}"))?;
        Some(ScaledParts::new(scale, Strategy::Tensor.block()))
    }))
}

/// One scale for all of a weight, or of each expert. A scale that is called inverse is one of blocks, unless the config says
/// that there are none.
fn of_tensor(found: &Candidate<'_>, weight: &str) -> Or<Option<ScaledParts>> {
    let block = found.quantization.and_then(|config| config.get("weight_block_size"));
    let has_no_blocks = block.is_some_and(|block| block.is_null());
    if block.is_some() && !has_no_blocks {
        return Ok(None);
    }
    let plain = Named::find(found, format!("{weight}_scale"));
    let inverse = Named::find(found, format!("{weight}_scale_inv")).filter(|_| has_no_blocks);
    match inverse.or(plain) {
        Some(scale) => Ok(Some(ScaledParts::new(scale, Strategy::Tensor.block()))),
        None if has_no_blocks && weight.ends_with(".weight") && !has_mistral(found, weight) => {
            Err(QuantizedProblem::NoAuxiliary { name: format!("{weight}_scale_inv") })
        }
        None => Ok(None),
    }
}

fn has_mistral(found: &Candidate<'_>, weight: &str) -> bool {
    let module = weight.strip_suffix(".weight").unwrap_or(weight);
    (found.find)(&format!("{module}{MISTRAL}")).is_some()
}

/// A scale for each output: each row, or each column of experts.
fn of_outputs(found: &Candidate<'_>, weight: &str) -> Or<Option<ScaledParts>> {
    if weight.ends_with(".weight") {
        let scales = Named::need(found, format!("{weight}_scale"))?;
        return Ok(Some(ScaledParts::new(scales, Strategy::Channel.block())));
    }
    let Some(mut scales) = Named::find(found, format!("{weight}_scale")) else { return Ok(None) };
    let &[experts, _, outputs] = found.tensor.shape.axes() else {
        let (name, found) = (weight.to_owned(), found.tensor.shape.clone());
        return Err(QuantizedProblem::NotThreeAxes { name, found });
    };
    if scales.tensor.shape.axes() == [experts, outputs, 1] {
        // The same numbers in the same order.
        scales.tensor.shape = Shape::new(&[experts, 1, outputs]).unwrap_or(scales.tensor.shape);
    }
    Ok(Some(ScaledParts::new(scales, (u64::MAX, 1))))
}
