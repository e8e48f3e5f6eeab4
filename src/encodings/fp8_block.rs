//! Block FP8 as DeepSeek-V3 stores it: E4M3 codes, and one scale for every block of rows × columns.
//!
//! `value = code · scale` in f32, although the scales are called `…_scale_inv` (quantized-bases.md 4.1). The block size
//! comes from `weight_block_size` of the config, never from a division of shapes: last blocks may be ragged (576 rows have
//! five rows of scales of 128).
//!
//! Encoding keeps a block's scale as it is, so that untouched values come out as they went in, and makes a new one,
//! `amax / 448`, only where a value would not fit (quantized-bases.md 15.3). Codes and scales are two outputs, each made
//! from the values on its own.

use serde_json::Value;

use crate::error::Result;
use crate::error::quantized::QuantizedProblem;
use crate::kernels::dispatch::Kernels;
use crate::kernels::outcome::Narrowed;
use crate::tensor::dtype::Dtype;
use crate::tensor::reference::TensorRef;

use crate::encodings::codes::{CodeFormat, E4M3_MOST};
use crate::encodings::encoding::{Encoding, Place, RowPiece, Runs, ToEncode};
use crate::encodings::logical::{Candidate, Detected, Logical, LogicalFields};
use crate::encodings::requantize::{Outgrown, Requantizer, power_above};
use crate::encodings::scale_grid::{ScaleGrid, check_grid, within};
use crate::encodings::scheme::{Auxiliary, Scheme};

/// E4M3 codes with a scale for each block.
pub(crate) struct Fp8Block;

const CODES: usize = 0;
const SCALES: usize = 1;
/// The block size where the config names none.
const DEFAULT_BLOCK: u64 = 128;
/// The types of scales.
const SCALE_DTYPES: &[Dtype] = &[Dtype::F32, Dtype::BF16, Dtype::F8_E8M0, Dtype::U8];

static SCHEME: Scheme = Scheme {
    title: "block FP8",
    methods: &["fp8"],
    // As ModelOpt and TensorRT-LLM call it.
    algorithms: &["FP8_PB_WO", "FP8_BLOCK_SCALES"],
    dtypes: &[Dtype::F8_E4M3],
    auxiliary: &[
        Auxiliary { ending: ".weight_scale_inv", data: &[".weight"] },
        Auxiliary { ending: "_scale_inv", data: &[""] },
        // DeepSeek-V4.
        Auxiliary { ending: ".scale", data: &[".weight"] },
    ],
    unused: &[
        Auxiliary { ending: ".input_scale", data: &[".weight"] },
        Auxiliary { ending: ".activation_scale", data: &[".weight"] },
        Auxiliary { ending: "_activation_scale", data: &[""] },
        Auxiliary { ending: ".input_zero_point", data: &[".weight"] },
        Auxiliary { ending: ".output_scale", data: &[".weight"] },
    ],
    // What DeepSeek-V4 says of its experts.
    config_keys: &["expert_dtype"],
    plain_lists: &["modules_to_not_convert", "ignored_layers"],
    ..Scheme::NONE
};

impl Encoding for Fp8Block {
    fn scheme(&self) -> Option<&'static Scheme> {
        Some(&SCHEME)
    }

    fn name(&self) -> &'static str {
        "fp8_block"
    }

    fn detect(&self, found: &Candidate<'_>) -> Result<Option<Detected>> {
        if found.tensor.dtype != Dtype::F8_E4M3 {
            return Ok(None);
        }
        let names = scale_names(found.name);
        let there = names.iter().find_map(|name| Some((name, (found.find)(name)?)));
        let wrong = |why| Candidate::wrong(found.name, why);
        let Some((scale_name, scale)) = there else {
            let missing = QuantizedProblem::NoAuxiliary { name: names[0].clone() };
            return if lacks_scale(found) { Err(wrong(missing)) } else { Ok(None) };
        };
        let Some(config) = found.quantization else {
            return Err(wrong(QuantizedProblem::NoConfig { name: scale_name.clone() }));
        };
        if is_other(config, &scale) {
            return Ok(None);
        }
        if found.method() != Some("fp8") {
            return Err(wrong(QuantizedProblem::Method {
                scheme: SCHEME.title,
                tensors: vec![scale_name.clone()],
                found: found.method().map(str::to_owned),
                expected: "fp8",
            }));
        }
        let no_block = || wrong(QuantizedProblem::OfScheme("`weight_block_size` is no pair of sizes"));
        let block = block_of(config).ok_or_else(no_block)?;
        if found.tensor.shape.elements() == 0 {
            return Err(wrong(QuantizedProblem::Empty));
        }
        let name = scale_name.clone();
        if !SCALE_DTYPES.contains(&scale.dtype) {
            let expected = SCALE_DTYPES;
            return Err(wrong(QuantizedProblem::Dtype { name, found: scale.dtype, expected }));
        }
        check_grid(&name, &scale, &found.tensor.shape, block).map_err(wrong)?;
        let logical = LogicalFields {
            encoding: self.name().into(),
            shape: found.tensor.shape.clone(),
            block: within(&found.tensor.shape, block),
            parts: vec![found.tensor.clone(), scale],
            constants: Vec::new(),
        };
        Ok(Some(Detected { name: found.name.to_owned(), logical: logical.into(), auxiliary: Vec::new() }))
    }

    fn block_shape(&self, logical: &Logical) -> (u64, u64) {
        logical.block()
    }

    fn runs(&self, part: usize, place: Place<'_>) -> Runs {
        if part == CODES { CodeFormat::E4m3.runs(place) } else { ScaleGrid::of(part, place).runs() }
    }

    fn max_bytes(&self, part: usize, place: Place<'_>) -> u64 {
        if part == CODES {
            CodeFormat::E4m3.max_bytes(place)
        } else {
            ScaleGrid::of(part, place).max_bytes(place)
        }
    }

    fn decode_row(
        &self,
        kernels: Kernels,
        parts: &[u8],
        place: Place<'_>,
        at: RowPiece,
        out: &mut [f32],
    ) -> bool {
        let scales = ScaleGrid::of(SCALES, place);
        let (codes, stored) = parts.split_at(place.rect.elements() as usize);
        let mut finite = CodeFormat::E4m3.widen(kernels, codes, place, &at, out);
        let row = place.rect.rows.start + at.row as u64;
        for (columns, scale_col) in scales.pieces(&at.cols, place) {
            let scale = scales.read(stored, row, scale_col);
            finite &= scale.is_finite();
            for value in &mut out[columns.start - at.cols.start..columns.end - at.cols.start] {
                *value *= scale;
            }
        }
        finite
    }

    fn encode(&self, kernels: Kernels, block: &mut ToEncode<'_>, bytes: &mut [u8]) -> Narrowed {
        let place = block.place;
        let narrow = |bytes: &mut [u8], at: &RowPiece, values: &mut [f32]| {
            CodeFormat::E4m3.narrow(kernels, bytes, place, at, values)
        };
        let (codes, range) = (place.rect.elements(), CodeFormat::E4m3.range(false));
        Requantizer { fresh: Some(fresh), ..Requantizer::new(codes, range, &narrow) }.encode(block, bytes)
    }
}

/// What the scales of a weight may be called: `X.weight_scale_inv`, and `X.scale` in DeepSeek-V4.
fn scale_names(weight: &str) -> Vec<String> {
    let mut names = vec![format!("{weight}_scale_inv")];
    names.extend(weight.strip_suffix(".weight").map(|module| format!("{module}.scale")));
    names
}

/// Scales of other encodings of the same codes.
const OTHER_SCALES: &[&str] = &["_scale", "_scale_2"];

/// Whether the config says that every weight has a scale for each block, and this one has none of any kind.
fn lacks_scale(found: &Candidate<'_>) -> bool {
    let is_block = |config: &Value| {
        config.get("quant_method").and_then(Value::as_str) == Some("fp8")
            && config.get("weight_block_size").is_some_and(Value::is_array)
    };
    let other = |end: &&str| (found.find)(&format!("{}{end}", found.name)).is_some();
    found.quantization.is_some_and(is_block) && !OTHER_SCALES.iter().any(other)
}

/// Whether the scale is that of another scheme with such codes, as the config says: one for the whole tensor, or a power of
/// two for 32 columns. Bytes are powers of two, and no numbers, where it says so.
fn is_other(config: &Value, scale: &TensorRef) -> bool {
    let says = |key: &str, word: &str| config.get(key).and_then(Value::as_str) == Some(word);
    let is_of_tensor = config.get("weight_block_size").is_some_and(Value::is_null);
    is_of_tensor || says("quant_method", "mxfp8") || scale.dtype == Dtype::U8 && !says("scale_fmt", "ue8m0")
}

/// `weight_block_size`, or its default.
fn block_of(config: &Value) -> Option<(u64, u64)> {
    match config.get("weight_block_size") {
        None => Some((DEFAULT_BLOCK, DEFAULT_BLOCK)),
        Some(value) => match value.as_array()?.as_slice() {
            [rows, cols] => Some((rows.as_u64().filter(|n| *n > 0)?, cols.as_u64().filter(|n| *n > 0)?)),
            _ => None,
        },
    }
}

/// The scale for values up to the largest. A power of two stays one, rounded up, whatever its type: loaders of such
/// checkpoints rely on it (quantized-bases.md 4.2).
fn fresh(of: &Outgrown) -> f32 {
    let is_power = of.old.0.to_bits() & 0x007f_ffff == 0 && of.old.0 > 0.0;
    match of.dtype {
        Dtype::F8_E8M0 | Dtype::U8 => power_above(of.largest),
        Dtype::F32 if is_power => power_above(of.largest),
        _ => of.largest / E4M3_MOST,
    }
}
