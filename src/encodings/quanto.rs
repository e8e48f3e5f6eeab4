//! quanto: whole numbers or floats of 8 bits with a scale for each row, and whole numbers of 2 or 4 bits with a scale and a
//! shift for each group.
//!
//! ```text
//! P.weight._data        I8 or F8_E4M3 [N, K]    value = code · scale
//! P.weight._scale       [N, 1], of any type of plain numbers
//! P.weight._data._data  U8 [⌈G·b/8⌉, g]         groups of g along a row; the first of them are in the low bits
//! P.weight._scale       [G, 1]                  value = (scale · code) − shift
//! P.weight._shift       [G, 1]                                                      (quantized-bases.md 11.2)
//! ```
//!
//! quanto rounds to the type of the scale after each step; here both are f32, and the result is rounded once. **Of fewer bits
//! than eight no tensor tells the shape**, which quanto takes from the model: it follows where the layer has a bias.
//!
//! Of 8 bits it is encoded again; a new scale is the largest magnitude of a row over the largest code, 127 or 448.

use crate::encodings::codes::{CodeFormat, E4M3_MOST};
use crate::encodings::distant_codes::{DistantCodes, DistantTensors};
use crate::encodings::interleaved_codes::InterleavedCodes;
use crate::encodings::logical::{Candidate, Detected, LogicalFields, Or};
use crate::encodings::number::NUMBERS;
use crate::encodings::scaled::{Again, FLOAT8, Named, Product, Scaled, ScaledParts};
use crate::encodings::scheme::{Auxiliary, Scheme};
use crate::error::Result;
use crate::error::quantized::QuantizedProblem;
use crate::tensor::dtype::Dtype;

static SCHEME: Scheme = Scheme {
    title: "quanto",
    methods: &["quanto"],
    dtypes: &[Dtype::I8, Dtype::U8, Dtype::F8_E4M3, Dtype::F8_E5M2, Dtype::F8_E4M3FNUZ, Dtype::F8_E5M2FNUZ],
    data: QUANTO,
    auxiliary: &[
        Auxiliary { ending: ".weight._scale", data: QUANTO },
        Auxiliary { ending: ".weight._shift", data: PACKED },
    ],
    unused: &[
        Auxiliary { ending: ".input_scale", data: QUANTO },
        Auxiliary { ending: ".output_scale", data: QUANTO },
    ],
    plain_lists: &["modules_to_not_convert"],
    side_files: &["quanto_qmap.json"],
    ..Scheme::NONE
};

/// What the data is called in the place of `.weight`: a tensor, and one of packed codes inside of it.
const QUANTO: &[&str] = &[".weight._data", ".weight._data._data"];
/// The latter.
const PACKED: &[&str] = &[".weight._data._data"];

/// Whole numbers of 8 bits.
pub(crate) static INT8: Scaled = Scaled {
    name: "quanto_int8",
    scheme: &SCHEME,
    data: &[Dtype::I8],
    codes: CodeFormat::I8,
    scales: NUMBERS,
    product: Product::Scale,
    again: Again::With(|of| of.largest / 127.0),
    has_stacks: false,
    ending: ".weight._data",
    find: |found, weight| if found.tensor.dtype == Dtype::I8 { find(found, weight) } else { Ok(None) },
};

/// Floats of 8 bits.
pub(crate) static FLOAT8S: Scaled = Scaled {
    name: "quanto_float8",
    data: &[Dtype::F8_E4M3],
    codes: CodeFormat::E4m3,
    again: Again::With(|of| of.largest / E4M3_MOST),
    find: |found, weight| if FLOAT8.contains(&found.tensor.dtype) { find(found, weight) } else { Ok(None) },
    ..INT8
};

/// Whole numbers of 2 or 4 bits.
pub(crate) static PACKED_INT: DistantCodes = DistantCodes {
    name: "quanto_int",
    codes: &WRITTEN,
    detect,
    decode_only: "quanto of fewer bits than eight is not encoded again where a byte holds values of several columns, or none",
};

/// As they are written.
pub(crate) static WRITTEN: InterleavedCodes = InterleavedCodes {
    name: "quanto_int_interleaved",
    scheme: &SCHEME,
    is_high_first: false,
    value: |_, code, scale, shift| scale * code - shift,
    code: |value, scale, shift| (value + shift) / scale,
    kept_scales: "quanto finds scales of fewer bits than eight by an optimizer that no merge has: they stay as they are",
};

/// Whether data with such a name is of this scheme: its own library writes no description in the config.
fn is_ours(found: &Candidate<'_>) -> bool {
    found.method().is_none_or(|method| SCHEME.methods.contains(&method))
}

fn find(found: &Candidate<'_>, weight: &str) -> Result<Option<ScaledParts>> {
    if !is_ours(found) {
        return Ok(None);
    }
    let scales = Named::need(found, format!("{weight}._scale"));
    let scales = scales.map_err(|why| Candidate::wrong(weight, why))?;
    Ok(Some(ScaledParts::new(scales, (1, u64::MAX))))
}

fn detect(found: &Candidate<'_>) -> Result<Option<Detected>> {
    let name = found.name.strip_suffix("._data._data").filter(|_| is_ours(found));
    let Some((module, name)) = name.and_then(|name| Some((name.strip_suffix(".weight")?, name))) else {
        return Ok(None);
    };
    let logical = packed(found, module).map_err(|why| match why {
        QuantizedProblem::UnknownColumns { .. } => {
            Candidate::wrong(name, why).hint("merge into the checkpoint that it was quantized from")
        }
        why => Candidate::wrong(name, why),
    })?;
    Ok(Some(Detected { name: name.to_owned(), logical: logical.into(), auxiliary: Vec::new() }))
}

/// A weight of packed codes, of as many bits as there are groups for a row of them.
fn packed(found: &Candidate<'_>, module: &str) -> Or<LogicalFields> {
    found.beside(found.name, &[Dtype::U8])?;
    let &[stored, size] = found.tensor.shape.axes() else {
        return Err(QuantizedProblem::NotTwoAxes { found: found.tensor.shape.clone() });
    };
    let leaves = ["weight._scale", "weight._shift"];
    let [scales, shifts] = leaves.map(|leaf| found.needed(module, leaf, NUMBERS));
    let numbers = [scales?, shifts?];
    let groups = numbers[0].shape.elements();
    let bits = if groups.div_ceil(2) > stored { 2 } else { 4 };
    let name = format!("{module}.bias");
    let bias = (found.find)(&name).ok_or(QuantizedProblem::UnknownColumns { name })?;
    let rows = bias.shape.elements().max(1);
    if !groups.is_multiple_of(rows) {
        return Err(QuantizedProblem::OfScheme("its groups are no whole number for each row of its bias"));
    }
    let cols = (groups / rows).checked_mul(size).ok_or(QuantizedProblem::TooLarge)?;
    DistantTensors { found, module, leaves, numbers }.logical(PACKED_INT.name, bits, [rows, cols])
}
