//! Stored numbers as f64, which holds all floats of 32 bits and less and all indices of tensors exactly.

use crate::tensor::dtype::Dtype;

/// What stored numbers are, each exactly: floats of 32 bits and less, and whole numbers below 2^53.
pub(crate) fn decoded(dtype: Dtype, bytes: &[u8]) -> Vec<f64> {
    macro_rules! of {
        ($number:ty, $value:expr) => {
            bytes.as_chunks().0.iter().map(|&chunk| $value(<$number>::from_le_bytes(chunk))).collect()
        };
    }
    match dtype {
        Dtype::F32 => of!(f32, f64::from),
        Dtype::BF16 => of!(half::bf16, f64::from),
        Dtype::F16 => of!(half::f16, f64::from),
        Dtype::U8 => of!(u8, f64::from),
        Dtype::I16 => of!(i16, f64::from),
        Dtype::I32 => of!(i32, f64::from),
        Dtype::I64 => of!(i64, |number| number as f64),
        _ => unreachable!("sources of other types are refused where they are claimed"),
    }
}
