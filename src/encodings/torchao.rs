//! torchao: whole numbers or floats of 8 bits with a scale for each block, and zero points of whole numbers.
//!
//! ```text
//! P._weight_qdata       I8 or F8_E4M3 [N, K]
//! P._weight_scale       one for each block, of any type of plain numbers
//! P._weight_zero_point  I8, as the scales; or none
//! value = (code − zero point) · scale                                               (quantized-bases.md 11.3)
//! ```
//!
//! The header of a file has a record of each tensor of the model under its name: the kind of its codes, and its block. It goes
//! when the weight is decoded, and so does the list of all of them. torchao rounds to the type of the weight; here the product is f32,
//! and the result is rounded once.

use serde_json::Value;

use crate::encodings::codes::CodeFormat;
use crate::encodings::logical::{Candidate, Or};
use crate::encodings::number::NUMBERS;
use crate::encodings::scaled::{Again, Named, Product, Scaled, ScaledParts};
use crate::encodings::scheme::{Auxiliary, Scheme};
use crate::error::Result;
use crate::error::quantized::QuantizedProblem;
use crate::tensor::dtype::Dtype;

static SCHEME: Scheme = Scheme {
    title: "torchao",
    methods: &["torchao"],
    dtypes: &[
        Dtype::I8,
        Dtype::U8,
        Dtype::I32,
        Dtype::F8_E4M3,
        Dtype::F8_E5M2,
        Dtype::F8_E4M3FNUZ,
        Dtype::F8_E5M2FNUZ,
    ],
    data: QDATA,
    auxiliary: &[
        Auxiliary { ending: "._weight_scale", data: QDATA },
        Auxiliary { ending: "._weight_zero_point", data: QDATA },
        Auxiliary { ending: "._weight_act_pre_scale", data: QDATA },
    ],
    unused: &[
        Auxiliary { ending: "._weight_act_quant_scale", data: QDATA },
        Auxiliary { ending: "._weight_act_quant_zero_point", data: QDATA },
    ],
    plain_lists: &["modules_to_not_convert"],
    header_keys: &["tensor_names"],
    ..Scheme::NONE
};

/// What the data is called in the place of `.weight`.
const QDATA: &[&str] = &["._weight_qdata"];
/// The kinds of records that are read.
const KINDS: &[&str] = &["Int8Tensor", "Float8Tensor"];

/// Whole numbers of 8 bits.
pub(crate) static INT8: Scaled = Scaled {
    name: "torchao_int8",
    scheme: &SCHEME,
    data: &[Dtype::I8],
    codes: CodeFormat::I8,
    scales: NUMBERS,
    product: Product::LessZero,
    again: Again::Never(
        "torchao is not encoded again: most of a small delta is below half a step between its codes",
    ),
    has_stacks: false,
    ending: "._weight_qdata",
    find: |found, weight| find(found, weight, KINDS[0]),
};

/// Floats of 8 bits.
pub(crate) static FLOAT8S: Scaled = Scaled {
    name: "torchao_float8",
    data: &[Dtype::F8_E4M3],
    codes: CodeFormat::E4m3,
    product: Product::Scale,
    find: |found, weight| find(found, weight, KINDS[1]),
    ..INT8
};

/// What belongs to a weight of that name, if its record is of that kind.
fn find(found: &Candidate<'_>, weight: &str, kind: &str) -> Result<Option<ScaledParts>> {
    let record = (found.said)(found.tensor, weight)?;
    let is_ours = match found.method() {
        Some(method) => SCHEME.methods.contains(&method),
        None => record.is_some(),
    };
    if !is_ours {
        return Ok(None);
    }
    let record = record.and_then(|record| serde_json::from_str(&record).ok()).unwrap_or_default();
    beside(found, weight, &record, kind).map_err(|why| Candidate::wrong(weight, why))
}

fn beside(found: &Candidate<'_>, weight: &str, record: &Value, kind: &str) -> Or<Option<ScaledParts>> {
    let no_record = QuantizedProblem::OfScheme("the header of its file has no record of it that can be read");
    let Some(said) = record.get("_type").and_then(Value::as_str) else { return Err(no_record) };
    if !KINDS.contains(&said) {
        return Err(QuantizedProblem::Word { key: "_type", found: said.to_owned(), read: KINDS });
    }
    if said != kind {
        return Ok(None);
    }
    let block = record.pointer("/_data/block_size").and_then(Value::as_array);
    let block: Option<Vec<u64>> = block.and_then(|axes| axes.iter().map(Value::as_u64).collect());
    let block = match block.as_deref() {
        Some(&[rows, cols]) if rows > 0 && cols > 0 => (rows, cols),
        _ => return Err(QuantizedProblem::OfScheme("its record has no `block_size` of two numbers above 0")),
    };
    let module = weight.strip_suffix("weight").unwrap_or(weight);
    let scales = Named::need(found, format!("{module}_weight_scale"))?;
    let third = Named::find(found, format!("{module}_weight_zero_point"));
    Ok(Some(ScaledParts { third, ..ScaledParts::new(scales, block) }))
}
