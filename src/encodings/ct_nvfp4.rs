//! NVFP4 of compressed-tensors (`nvfp4-pack-quantized`): E2M1 codes, an E4M3 scale for every 16 of a row, and a number for
//! the tensor **that divides**.
//!
//! `value = code · (scale / global)` in f32 (quantized-bases.md 7.1).

use crate::error::Result;
use crate::error::quantized::QuantizedProblem;
use crate::tensor::dtype::Dtype;

use crate::encodings::codes::CodeFormat;
use crate::encodings::ct_config::{CtFormat, METHOD, Strategy};
use crate::encodings::logical::{Candidate, Or};
use crate::encodings::requantize::e4m3_for_e2m1;
use crate::encodings::scaled::{Again, Named, Product, Scaled, ScaledParts};
use crate::encodings::scheme::{Auxiliary, Scheme};

/// Data of packed codes.
const PACKED: &[&str] = &[".weight_packed"];
/// Values that share a scale.
const BLOCK: u64 = 16;

static SCHEME: Scheme = Scheme {
    title: "NVFP4 of compressed-tensors",
    methods: &[METHOD],
    dtypes: &[Dtype::U8],
    data: PACKED,
    auxiliary: &[
        Auxiliary { ending: ".weight_scale", data: PACKED },
        Auxiliary { ending: ".weight_global_scale", data: PACKED },
    ],
    marks: &[".weight_global_scale"],
    unused: &[
        Auxiliary { ending: ".input_global_scale", data: PACKED },
        Auxiliary { ending: ".input_scale", data: PACKED },
    ],
    plain_lists: &["ignore"],
    ..Scheme::NONE
};

const FORMAT: CtFormat =
    CtFormat { names: &["nvfp4-pack-quantized"], kind: "float", bits: &[4], strategies: &["tensor_group"] };

/// E2M1 codes with a scale for every 16 and a number that divides these.
pub(crate) static CT_NVFP4: Scaled = Scaled {
    name: "ct_nvfp4",
    scheme: &SCHEME,
    data: &[Dtype::U8],
    codes: CodeFormat::E2m1,
    scales: &[Dtype::F8_E4M3],
    product: Product::ScaleOverNumber,
    again: Again::With(|of| e4m3_for_e2m1(of.number * (of.largest / 6.0))),
    has_stacks: false,
    ending: "_packed",
    find,
};

fn find(found: &Candidate<'_>, weight: &str) -> Result<Option<ScaledParts>> {
    let Some(module) = weight.strip_suffix(".weight") else { return Ok(None) };
    beside(found, module).map_err(|why| Candidate::wrong(weight, why))
}

/// What belongs to the weight of `module`, if it is of this scheme.
fn beside(found: &Candidate<'_>, module: &str) -> Or<Option<ScaledParts>> {
    let global = format!("{module}.weight_global_scale");
    if found.method().is_none() && (found.find)(&global).is_some() {
        let (scheme, tensors, found, expected) = (SCHEME.title, vec![global], None, METHOD);
        return Err(QuantizedProblem::Method { scheme, tensors, found, expected });
    }
    match FORMAT.strategy(found, module)? {
        None => return Ok(None),
        Some(Strategy::TensorGroup(BLOCK)) => {}
        Some(other) => {
            let found = Some(other.block().1);
            return Err(QuantizedProblem::Number { key: "group_size", found, read: &[BLOCK] });
        }
    }
    let scales = Named::need(found, format!("{module}.weight_scale"))?;
    let number = Some(Named::need(found, global)?);
    Ok(Some(ScaledParts { third: number, ..ScaledParts::new(scales, (1, BLOCK)) }))
}
