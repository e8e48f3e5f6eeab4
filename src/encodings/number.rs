//! One stored number of a tile's bytes, such as a scale.

use crate::kernels::float8::E4M3;
use crate::tensor::dtype::Dtype;

/// Types of scales that are plain numbers.
pub(crate) const NUMBERS: &[Dtype] = &[Dtype::F32, Dtype::BF16, Dtype::F16];

/// The number at a place. Bytes that are no float are E8M0, as torch had no type for it for long.
pub(crate) fn number(dtype: Dtype, bytes: &[u8], at: usize) -> f32 {
    match dtype {
        Dtype::F32 => f32::from_le_bytes(bytes.as_chunks().0[at]),
        Dtype::BF16 => half::bf16::from_le_bytes(bytes.as_chunks().0[at]).to_f32(),
        Dtype::F16 => half::f16::from_le_bytes(bytes.as_chunks().0[at]).to_f32(),
        Dtype::F8_E4M3 => E4M3[usize::from(bytes[at])],
        Dtype::F8_E8M0 | Dtype::U8 => power_of(bytes[at]),
        _ => unreachable!("scales of other types are refused where they are detected"),
    }
}

/// 2^(code − 127), the value of an E8M0 code; the code 255 is NaN, and 0 a subnormal number.
pub(crate) fn power_of(code: u8) -> f32 {
    f32::from_bits(match code {
        0 => 1 << 22,
        255 => 0x7fc0_0000,
        code => u32::from(code) << 23,
    })
}
