//! One element of a tensor: its value, and its place among all values of its dtype.

use half::{bf16, f16};
use safetensors::Dtype;

/// A dtype whose elements can be counted in units in the last place. The others are compared by their bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Number {
    F64,
    F32,
    F16,
    Bf16,
    /// One byte with this many bits of mantissa: 3 for e4m3, 2 for e5m2.
    F8(u32),
    /// Whole numbers of this many bytes; a unit is 1.
    Signed(usize),
    Unsigned(usize),
}

/// One element.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Element {
    pub(super) value: f64,
    /// Neighboring values have neighboring places; both zeros have place 0. `None`: not a number.
    place: Option<i64>,
}

impl Element {
    /// Steps from one value to the other: 0 between two NaNs, the maximum between a NaN and a number.
    pub(super) fn ulps(self, other: Self) -> u64 {
        match (self.place, other.place) {
            (Some(a), Some(b)) => a.abs_diff(b),
            (None, None) => 0,
            _ => u64::MAX,
        }
    }
}

impl Number {
    /// How to read a dtype, if its elements are whole bytes that we know.
    pub(super) fn of(dtype: Dtype) -> Option<Self> {
        Some(match dtype {
            Dtype::F64 => Self::F64,
            Dtype::F32 => Self::F32,
            Dtype::F16 => Self::F16,
            Dtype::BF16 => Self::Bf16,
            Dtype::F8_E4M3 => Self::F8(3),
            Dtype::F8_E5M2 => Self::F8(2),
            Dtype::I8 | Dtype::I16 | Dtype::I32 | Dtype::I64 => Self::Signed(dtype.bitsize() / 8),
            Dtype::BOOL | Dtype::U8 | Dtype::U16 | Dtype::U32 | Dtype::U64 => {
                Self::Unsigned(dtype.bitsize() / 8)
            }
            _ => return None,
        })
    }

    /// The dtype of fewer bits of two floating-point ones, to which values of the other can be rounded.
    pub(super) fn narrower(a: Dtype, b: Dtype) -> Option<Self> {
        let (a, b) = (Self::of(a)?, Self::of(b)?);
        let narrow = if b.bytes() < a.bytes() { b } else { a };
        let floats = [a, b].iter().all(|n| matches!(n, Self::F64 | Self::F32 | Self::F16 | Self::Bf16));
        floats.then_some(narrow)
    }

    /// Bytes of an element.
    pub(super) fn bytes(self) -> usize {
        match self {
            Self::F64 => 8,
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::F8(_) => 1,
            Self::Signed(bytes) | Self::Unsigned(bytes) => bytes,
        }
    }

    /// Reads one element from its little-endian bytes.
    pub(super) fn read(self, bytes: &[u8]) -> Element {
        let bits = match *bytes {
            [a] => a.into(),
            [a, b] => u16::from_le_bytes([a, b]).into(),
            [a, b, c, d] => u32::from_le_bytes([a, b, c, d]).into(),
            _ => u64::from_le_bytes(bytes.try_into().expect("an element has 1, 2, 4 or 8 bytes")),
        };
        let value = match self {
            Self::F64 => f64::from_bits(bits),
            Self::F32 => f32::from_bits(bits as u32).into(),
            Self::F16 => f16::from_bits(bits as u16).into(),
            Self::Bf16 => bf16::from_bits(bits as u16).into(),
            Self::F8(mantissa) => f8(bits as u8, mantissa),
            Self::Unsigned(_) => return Element { value: bits as f64, place: Some(bits.cast_signed()) },
            Self::Signed(bytes) => {
                let unused = 64 - 8 * bytes as u32;
                let whole = (bits << unused).cast_signed() >> unused;
                return Element { value: whole as f64, place: Some(whole) };
            }
        };
        Element { value, place: (!value.is_nan()).then(|| self.place(bits)) }
    }

    /// Rounds a value to nearest, ties to even, as an element of this floating-point dtype.
    pub(super) fn round(self, value: f64) -> Element {
        match self {
            Self::F32 => self.read(&(value as f32).to_le_bytes()),
            Self::F16 => self.read(&f16::from_f32(round_to_odd(value)).to_le_bytes()),
            Self::Bf16 => self.read(&bf16::from_f32(round_to_odd(value)).to_le_bytes()),
            _ => Self::F64.read(&value.to_le_bytes()),
        }
    }

    /// The bits of a float are sign and magnitude, and magnitudes are in order.
    fn place(self, bits: u64) -> i64 {
        let sign = 1_u64 << (8 * self.bytes() - 1);
        let magnitude = (bits & (sign - 1)).cast_signed();
        if bits & sign == 0 { magnitude } else { -magnitude }
    }
}

/// Rounds to f32 so that rounding once more, to a dtype of at most 22 bits, is as good as rounding once: cuts towards
/// zero and marks in the last bit that something was cut off. (`half`'s own `from_f64` ignores the low 32 bits, and so
/// takes some values for ties that are none.)
fn round_to_odd(value: f64) -> f32 {
    let near = value as f32;
    if f64::from(near) == value || near.is_nan() {
        return near;
    }
    let cut = near.to_bits() - u32::from(f64::from(near).abs() > value.abs());
    f32::from_bits(cut | 1)
}

/// An 8-bit float: e4m3 (no infinity, one NaN) or e5m2 (as IEEE has it).
fn f8(bits: u8, mantissa: u32) -> f64 {
    let bias = if mantissa == 3 { 7 } else { 15 };
    let exponent = i32::from((bits & 0x7f) >> mantissa);
    let fraction = f64::from(bits & ((1 << mantissa) - 1)) / f64::from(1 << mantissa);
    let magnitude = match (mantissa, bits & 0x7f) {
        (3, 0x7f) | (2, 0x7d..) => f64::NAN,
        (2, 0x7c) => f64::INFINITY,
        _ if exponent == 0 => fraction * 2_f64.powi(1 - bias),
        _ => (1.0 + fraction) * 2_f64.powi(exponent - bias),
    };
    if bits & 0x80 == 0 { magnitude } else { -magnitude }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bf16_ulps(a: f32, b: f32) -> u64 {
        let read = |value: f32| Number::Bf16.read(&bf16::from_f32(value).to_le_bytes());
        read(a).ulps(read(b))
    }

    #[test]
    fn ulps_count_steps_between_values() {
        assert_eq!(bf16_ulps(1.0, 1.0), 0);
        assert_eq!(bf16_ulps(1.0, 1.0 + 1.0 / 128.0), 1);
        assert_eq!(bf16_ulps(1.0, 1.0 - 1.0 / 256.0), 1);
        assert_eq!(bf16_ulps(0.0, -0.0), 0);
        assert_eq!(bf16_ulps(-1e-40, 1e-40), 2);
        assert_eq!(bf16_ulps(f32::NAN, 1.0), u64::MAX);
        assert_eq!(bf16_ulps(f32::NAN, f32::NAN), 0);
    }

    #[test]
    fn integers_are_read_with_their_sign() {
        assert_eq!(Number::Signed(2).read(&(-3_i16).to_le_bytes()).value, -3.0);
        assert_eq!(Number::Unsigned(1).read(&[255]).ulps(Number::Unsigned(1).read(&[250])), 5);
    }

    #[test]
    fn eight_bit_floats_have_their_published_limits() {
        assert_eq!(f8(0x7e, 3), 448.0);
        assert_eq!(f8(0x01, 3), 2_f64.powi(-9));
        assert_eq!(f8(0xfb, 2), -57344.0);
        assert!(f8(0xff, 3).is_nan() && f8(0x7c, 2).is_infinite());
    }

    #[test]
    fn a_wider_value_is_rounded_to_nearest_even() {
        assert_eq!(Number::narrower(Dtype::F32, Dtype::BF16), Some(Number::Bf16));
        assert_eq!(Number::narrower(Dtype::F32, Dtype::I32), None);
        let tie = 1.0 + 1.0 / 256.0;
        assert_eq!(Number::Bf16.round(tie).value, 1.0);
        for beyond_the_tie in [tie + 2_f64.powi(-23), tie + 2_f64.powi(-50)] {
            assert_eq!(Number::Bf16.round(beyond_the_tie).value, 1.0 + 1.0 / 128.0);
            assert_eq!(Number::Bf16.round(-beyond_the_tie).value, -1.0 - 1.0 / 128.0);
        }
        assert_eq!(Number::F16.round(65519.999).value, 65504.0);
        assert!(Number::F16.round(65520.0).value.is_infinite());
    }
}
