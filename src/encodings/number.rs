//! One stored number of a tile's bytes, such as a scale.

use crate::kernels::dispatch::Kernels;
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
        Dtype::I8 => f32::from(bytes[at] as i8),
        Dtype::F8_E8M0 | Dtype::U8 => power_of(bytes[at]),
        _ => unreachable!("scales of other types are refused where they are detected"),
    }
}

/// Stores a number as the type can. What an E8M0 code is stored for is a power of two.
pub(crate) fn store(dtype: Dtype, bytes: &mut [u8], value: f32) {
    match dtype {
        Dtype::F32 => bytes.copy_from_slice(&value.to_le_bytes()),
        Dtype::BF16 => bytes.copy_from_slice(&half::bf16::from_f32(value).to_le_bytes()),
        Dtype::F16 => bytes.copy_from_slice(&half::f16::from_f32(value).to_le_bytes()),
        Dtype::F8_E4M3 => drop(Kernels::detect().narrow_e4m3(&[value], bytes)),
        Dtype::I8 => bytes[0] = value as i8 as u8,
        // The exponent is the code, as a power of two has nothing else.
        Dtype::F8_E8M0 | Dtype::U8 => bytes[0] = (value.to_bits() >> 23) as u8,
        _ => unreachable!("weights with such scales are not encoded again"),
    }
}

/// A number as the type stores it.
pub(crate) fn rounded(dtype: Dtype, value: f32) -> f32 {
    let mut bytes = [0; 4];
    store(dtype, &mut bytes[..dtype.bitsize() / 8], value);
    number(dtype, &bytes, 0)
}

/// 2^(code − 127), the value of an E8M0 code; the code 255 is NaN, and 0 a subnormal number.
pub(crate) fn power_of(code: u8) -> f32 {
    f32::from_bits(match code {
        0 => 1 << 22,
        255 => 0x7fc0_0000,
        code => u32::from(code) << 23,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powers_of_two_are_exact() {
        assert!(power_of(255).is_nan());
        for code in 0..255 {
            // Which a subnormal can hold.
            assert_eq!(power_of(code), 2.0_f64.powi(i32::from(code) - 127) as f32, "{code}");
        }
    }

    #[test]
    fn numbers_of_every_type_are_at_their_places() {
        let f32s: Vec<u8> = [1.5f32, -2.25].iter().flat_map(|value| value.to_le_bytes()).collect();
        let bf16s = [0x80, 0x3f, 0x10, 0xc0];
        let f16s = [0x00, 0x3c, 0x80, 0xc0];
        for (dtype, bytes, first, second) in [
            (Dtype::F32, &f32s[..], 1.5, -2.25),
            (Dtype::BF16, &bf16s, 1.0, -2.25),
            (Dtype::F16, &f16s, 1.0, -2.25),
            (Dtype::F8_E4M3, &[0x38, 0xc1], 1.0, -2.25),
            (Dtype::F8_E8M0, &[127, 128], 1.0, 2.0),
            (Dtype::U8, &[126, 128], 0.5, 2.0),
            (Dtype::I8, &[126, 128], 126.0, -128.0),
        ] {
            assert_eq!((number(dtype, bytes, 0), number(dtype, bytes, 1)), (first, second), "{dtype:?}");
        }
    }
}
