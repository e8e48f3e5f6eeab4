//! HQQ of 1, 2, 4 or 8 bits.
//!
//! ```text
//! P.W_q    U8                  [G·b/8, g] codes in groups of g along a row (axis 1), or [g·b/8, G] (axis 0)
//! P.scale  F16, BF16 or F32    [G, 1] or [1, G]
//! P.zero                       as the scale
//! P.shape  I64 [2]             N and K; what G, g and the axis are, the other shapes tell
//! P.nbits, P.compute_dtype, …  one number or text each: a dozen, of which the others change nothing here
//! value = round(round(code − zero) · scale), in the type of the scale      (quantized-bases.md 11.1)
//! ```
//!
//! The groups of axis 1 follow each other through the weight, and those of axis 0 take every G-th value. The first rows of the
//! grouped matrix are in the high bits of W_q. Codes of 3 bits are in words of another type, and not read.

use crate::encodings::distant_codes::{DistantCodes, DistantTensors};
use crate::encodings::interleaved_codes::InterleavedCodes;
use crate::encodings::logical::{Candidate, Detected, Or, expect_shape};
use crate::encodings::number::NUMBERS;
use crate::encodings::scheme::{ANY_ENDING, Auxiliary, Scheme};
use crate::encodings::words::word;
use crate::error::Result;
use crate::error::quantized::QuantizedProblem;
use crate::tensor::dtype::Dtype;
use crate::tensor::reference::TensorRef;

static SCHEME: Scheme = Scheme {
    title: "HQQ",
    methods: &[METHOD],
    data: W_Q,
    has_any_dtype: true,
    // A dozen scalars stand beside its codes.
    auxiliary: &[Auxiliary { ending: ANY_ENDING, data: W_Q }],
    plain_lists: &["skip_modules"],
    ..Scheme::NONE
};

/// What the data is called in the place of `.weight`.
const W_Q: &[&str] = &[".W_q"];
/// The `quant_method` of such checkpoints.
const METHOD: &str = "hqq";
/// Values of `nbits` that are read.
const BITS: &[u64] = &[1, 2, 4, 8];
/// What stands beside the codes and no value is made from, or once only for all of them.
const SAID: &[&str] = &[
    "shape",
    "nbits",
    "compute_dtype",
    "axis",
    "group_size",
    "packing",
    "unpack_view_dtype",
    "view_as_float",
    "quant_scale",
    "quant_zero",
    "offload_meta",
    "encoded_state_dict",
    "stores_quant_config",
    "channel_wise",
    "optimize",
    "round_zero",
];

/// HQQ.
pub(crate) static HQQ: DistantCodes = DistantCodes {
    name: "hqq",
    codes: &WRITTEN,
    detect,
    decode_only: "HQQ is not encoded again where a byte holds values of several columns, or none",
};

/// As it is written.
pub(crate) static WRITTEN: InterleavedCodes = InterleavedCodes {
    name: "hqq_interleaved",
    scheme: &SCHEME,
    is_high_first: true,
    value: |dtype, code, scale, zero| match dtype {
        Dtype::F16 => round_f16(round_f16(code - zero) * scale),
        Dtype::BF16 => round_bf16(round_bf16(code - zero) * scale),
        _ => (code - zero) * scale,
    },
    code: |value, scale, zero| value / scale + zero,
    kept_scales: "HQQ finds scales by an optimizer that no merge has: they stay as they are",
};

fn round_f16(value: f32) -> f32 {
    half::f16::from_f32(value).to_f32()
}

fn round_bf16(value: f32) -> f32 {
    half::bf16::from_f32(value).to_f32()
}

fn detect(found: &Candidate<'_>) -> Result<Option<Detected>> {
    let Some(module) = found.name.strip_suffix(".W_q").filter(|_| found.method() == Some(METHOD)) else {
        return Ok(None);
    };
    let name = format!("{module}.weight");
    let wrong = |why| Candidate::wrong(&name, why);
    let read = |leaf: &str, dtype: &'static [Dtype], axes: &[u64]| {
        let tensor = found.needed(module, leaf, dtype).map_err(wrong)?;
        expect_shape(module, leaf, &tensor, axes).map_err(wrong)?;
        (found.read)(&tensor)
    };
    let bits = u64::from(word(&read("nbits", &[Dtype::I32], &[])?, 0));
    if !BITS.contains(&bits) {
        return Err(wrong(QuantizedProblem::Number { key: "nbits", found: Some(bits), read: BITS }));
    }
    let shape = read("shape", &[Dtype::I64], &[2])?;
    let axis = |i: usize| u64::from_le_bytes(shape.as_chunks().0[i]);
    let numbers = numbers(found, module).map_err(wrong)?;
    check_type(found, module, &numbers[0])?;
    let tensors = DistantTensors { found, module, leaves: ["scale", "zero"], numbers };
    let logical = tensors.logical(HQQ.name, bits, [axis(0), axis(1)]).map_err(wrong)?;
    let auxiliary = SAID.iter().filter_map(|leaf| (found.find)(&format!("{module}.{leaf}"))).collect();
    Ok(Some(Detected { name, logical: logical.into(), auxiliary }))
}

/// The scales and zero points of codes that are bytes. Where these are quantized too, or codes are called floats, other tensors stand
/// in their place.
fn numbers(found: &Candidate<'_>, module: &str) -> Or<[TensorRef; 2]> {
    found.beside(found.name, &[Dtype::U8])?;
    Ok([found.needed(module, "scale", NUMBERS)?, found.needed(module, "zero", NUMBERS)?])
}

/// Holds the type in which values are computed against that of the scales.
fn check_type(found: &Candidate<'_>, module: &str, scales: &TensorRef) -> Result<()> {
    let Some(said) = (found.find)(&format!("{module}.compute_dtype")) else { return Ok(()) };
    let expected = match scales.dtype {
        Dtype::F16 => "torch.float16",
        Dtype::BF16 => "torch.bfloat16",
        _ => "torch.float32",
    };
    let said = (found.read)(&said)?;
    if said == expected.as_bytes() {
        return Ok(());
    }
    let (key, said) = ("compute_dtype", String::from_utf8_lossy(&said).into_owned());
    let why = QuantizedProblem::Setting { key, found: said, expected };
    Err(Candidate::wrong(&format!("{module}.weight"), why))
}
