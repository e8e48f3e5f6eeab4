//! Element types: our own list, so that no file format decides which there are.
//!
//! ```
//! use shardfold::testing::Dtype;
//!
//! assert_eq!(Dtype::BF16.bitsize(), 16);
//! assert_eq!(Dtype::F4.bitsize(), 4, "two to a byte");
//! assert!(Dtype::F16 < Dtype::F32, "in the order of the safetensors crate");
//! ```

use std::fmt;

use serde::{Deserialize, Serialize};

/// The type of a tensor's elements. The names are those of safetensors and of ggml, in headers, plans and messages alike.
///
/// The order is that of safetensors too, and ggml's numbers: by alignment, and among equals as it declares them. Reports sort by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[allow(non_camel_case_types, clippy::upper_case_acronyms, reason = "the names as files have them")]
pub enum Dtype {
    /// A byte that is 0 or 1.
    BOOL,
    /// Float of 4 bits, E2M1 (OCP MX); two in a byte.
    F4,
    /// Float of 6 bits, E2M3 (OCP MX); four in three bytes.
    F6_E2M3,
    /// Float of 6 bits, E3M2 (OCP MX); four in three bytes.
    F6_E3M2,
    /// Unsigned, 8 bits.
    U8,
    /// Signed, 8 bits.
    I8,
    /// Float of 8 bits with infinities (OCP FP8).
    F8_E5M2,
    /// Float of 8 bits without infinities (OCP FP8); torch's `float8_e4m3fn`.
    F8_E4M3,
    /// A power of two, the scale of a block (OCP MX).
    F8_E8M0,
    /// E4M3 without infinities and without a negative zero.
    F8_E4M3FNUZ,
    /// E5M2 without infinities and without a negative zero.
    F8_E5M2FNUZ,
    /// Signed, 16 bits.
    I16,
    /// Unsigned, 16 bits.
    U16,
    /// IEEE half precision.
    F16,
    /// The upper half of an `F32`.
    BF16,
    /// Signed, 32 bits.
    I32,
    /// Unsigned, 32 bits.
    U32,
    /// IEEE single precision.
    F32,
    /// Complex, two `F32`.
    C64,
    /// IEEE double precision.
    F64,
    /// Signed, 64 bits.
    I64,
    /// Unsigned, 64 bits.
    U64,
    /// A block of ggml, as all that follow: 32 values in 18 bytes. A shape counts blocks.
    Q4_0,
    /// 32 values in 20 bytes.
    Q4_1,
    /// 32 values in 22 bytes.
    Q5_0,
    /// 32 values in 24 bytes.
    Q5_1,
    /// 32 values in 34 bytes.
    Q8_0,
    /// 256 values in 84 bytes.
    Q2_K,
    /// 256 values in 110 bytes.
    Q3_K,
    /// 256 values in 144 bytes.
    Q4_K,
    /// 256 values in 176 bytes.
    Q5_K,
    /// 256 values in 210 bytes.
    Q6_K,
    /// 256 values in 66 bytes.
    IQ2_XXS,
    /// 256 values in 74 bytes.
    IQ2_XS,
    /// 256 values in 98 bytes.
    IQ3_XXS,
    /// 256 values in 50 bytes.
    IQ1_S,
    /// 32 values in 18 bytes.
    IQ4_NL,
    /// 256 values in 110 bytes.
    IQ3_S,
    /// 256 values in 82 bytes.
    IQ2_S,
    /// 256 values in 136 bytes.
    IQ4_XS,
    /// 256 values in 56 bytes.
    IQ1_M,
    /// 256 values in 54 bytes.
    TQ1_0,
    /// 256 values in 66 bytes.
    TQ2_0,
    /// 32 values in 17 bytes.
    MXFP4,
    /// 64 values in 36 bytes.
    NVFP4,
}

/// Values and bytes of a block of ggml, as its own sources have them.
struct BlockSize {
    values: u64,
    bytes: usize,
}

impl Dtype {
    /// Bits of one element.
    pub fn bitsize(self) -> usize {
        match self {
            Dtype::F4 => 4,
            Dtype::F6_E2M3 | Dtype::F6_E3M2 => 6,
            Dtype::BOOL | Dtype::U8 | Dtype::I8 => 8,
            Dtype::F8_E5M2 | Dtype::F8_E4M3 | Dtype::F8_E8M0 => 8,
            Dtype::F8_E4M3FNUZ | Dtype::F8_E5M2FNUZ => 8,
            Dtype::I16 | Dtype::U16 | Dtype::F16 | Dtype::BF16 => 16,
            Dtype::I32 | Dtype::U32 | Dtype::F32 => 32,
            Dtype::C64 | Dtype::F64 | Dtype::I64 | Dtype::U64 => 64,
            _ => self.block().map_or(0, |block| block.bytes * 8),
        }
    }

    /// Values that one element stands for: more than one for blocks of ggml.
    pub(crate) fn values(self) -> u64 {
        self.block().map_or(1, |block| block.values)
    }

    fn block(self) -> Option<BlockSize> {
        let (values, bytes) = match self {
            Dtype::Q4_0 | Dtype::IQ4_NL => (32, 18),
            Dtype::Q4_1 => (32, 20),
            Dtype::Q5_0 => (32, 22),
            Dtype::Q5_1 => (32, 24),
            Dtype::Q8_0 => (32, 34),
            Dtype::MXFP4 => (32, 17),
            Dtype::NVFP4 => (64, 36),
            Dtype::Q2_K => (256, 84),
            Dtype::Q3_K | Dtype::IQ3_S => (256, 110),
            Dtype::Q4_K => (256, 144),
            Dtype::Q5_K => (256, 176),
            Dtype::Q6_K => (256, 210),
            Dtype::IQ2_XXS | Dtype::TQ2_0 => (256, 66),
            Dtype::IQ2_XS => (256, 74),
            Dtype::IQ2_S => (256, 82),
            Dtype::IQ3_XXS => (256, 98),
            Dtype::IQ1_S => (256, 50),
            Dtype::IQ1_M => (256, 56),
            Dtype::IQ4_XS => (256, 136),
            Dtype::TQ1_0 => (256, 54),
            _ => return None,
        };
        Some(BlockSize { values, bytes })
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Bytes that `elements` of `dtype` take, or `None` if that overflows or is no whole number of bytes.
///
/// Sub-byte types (`F4`, `F6_*`) are counted in elements, not in packed bytes.
pub(crate) fn bytes_of(dtype: Dtype, elements: u64) -> Option<u64> {
    let bits = elements.checked_mul(dtype.bitsize() as u64)?;
    (bits % 8 == 0).then_some(bits / 8)
}

/// Whether an adapter's delta can be added to elements of this type as they are: plain floats up to 32 bits.
pub(crate) fn is_mergeable(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::BF16 | Dtype::F16 | Dtype::F32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_checked() {
        assert_eq!(bytes_of(Dtype::BF16, 3), Some(6));
        assert_eq!(bytes_of(Dtype::F4, 4), Some(2));
        assert_eq!(bytes_of(Dtype::F4, 3), None, "one and a half bytes");
        assert_eq!(bytes_of(Dtype::F6_E2M3, 4), Some(3));
        assert_eq!(bytes_of(Dtype::F6_E3M2, 2), None, "twelve bits");
        assert_eq!(bytes_of(Dtype::C64, 2), Some(16));
        assert_eq!(bytes_of(Dtype::F64, u64::MAX / 8), None, "overflows");
        assert_eq!((bytes_of(Dtype::Q4_K, 3), Dtype::Q4_K.values()), (Some(432), 256));
        assert_eq!((bytes_of(Dtype::Q8_0, 2), Dtype::F32.values()), (Some(68), 1));
    }
}
