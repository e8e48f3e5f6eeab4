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
//!
//! New scales and zero points are those of its `choose_qparams_affine`, and new scales of floats the largest magnitude over 448.

use serde_json::Value;

use crate::encodings::codes::{CodeFormat, E4M3_MOST, nearest_whole};
use crate::encodings::logical::{Candidate, Or};
use crate::encodings::number::NUMBERS;
use crate::encodings::requantize::Outgrown;
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
    again: Again::WithZeros(fresh_scale, fresh_zero),
    has_stacks: false,
    ending: "._weight_qdata",
    find: |found, weight| find(found, weight, (KINDS[0], false)),
};

/// Whole numbers of 8 bits of which only those of seven are used, so that sums of products stay small.
pub(crate) static INT8_REDUCED: Scaled = Scaled {
    name: "torchao_int8_reduced",
    again: Again::Never("torchao's codes of a reduced range (`reduce_range`) are not encoded again"),
    find: |found, weight| find(found, weight, (KINDS[0], true)),
    ..INT8
};

/// Floats of 8 bits.
pub(crate) static FLOAT8S: Scaled = Scaled {
    name: "torchao_float8",
    data: &[Dtype::F8_E4M3],
    codes: CodeFormat::E4m3,
    product: Product::Scale,
    again: Again::With(|of| of.largest / E4M3_MOST),
    find: |found, weight| find(found, weight, (KINDS[1], false)),
    ..INT8
};

/// Steps between the ends of whole numbers.
const STEPS: f32 = 255.0;

/// torchao's rules, of which no record says the one that was taken: a zero point of 0 is that of the symmetric one. Where it is the
/// other's by chance, both are next to the same.
fn fresh_scale(of: &Outgrown) -> f32 {
    let (least, most) = (of.ends.0.min(0.0), of.ends.1.max(0.0));
    let scale = if of.old.1 == 0.0 { of.largest / (STEPS / 2.0) } else { (most - least) / STEPS };
    scale.max(f32::EPSILON)
}

/// The code of 0: with it the least value is the first code.
fn fresh_zero(of: &Outgrown, scale: f32) -> f32 {
    let zero = -128.0 - nearest_whole(of.ends.0 / scale);
    if of.old.1 == 0.0 { 0.0 } else { zero.clamp(-128.0, 127.0) }
}

/// What belongs to a weight of that name, if its record is of that kind, and says that or not that its range is reduced.
fn find(found: &Candidate<'_>, weight: &str, kind: (&str, bool)) -> Result<Option<ScaledParts>> {
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

fn beside(
    found: &Candidate<'_>,
    weight: &str,
    record: &Value,
    kind: (&str, bool),
) -> Or<Option<ScaledParts>> {
    let no_record = QuantizedProblem::OfScheme("the header of its file has no record of it that can be read");
    let Some(said) = record.get("_type").and_then(Value::as_str) else { return Err(no_record) };
    if !KINDS.contains(&said) {
        return Err(QuantizedProblem::Word { key: "_type", found: said.to_owned(), read: KINDS });
    }
    let is_reduced = record.pointer("/_data/reduce_range").and_then(Value::as_bool) == Some(true);
    if (said, is_reduced) != kind {
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
