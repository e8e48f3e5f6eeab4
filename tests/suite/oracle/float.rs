//! Number formats in f64: what the bytes of a tensor mean, and rounding into each format to nearest, ties to even.

use safetensors::Dtype;

/// A tensor as it lies in its file.
#[derive(Clone, PartialEq)]
pub struct Tensor {
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    pub raw: Vec<u8>,
}

/// Significand bits (with the hidden one) and the exponent of the smallest normal number.
fn format(dtype: Dtype) -> (i32, i32) {
    match dtype {
        Dtype::BF16 => (8, -126),
        Dtype::F16 => (11, -14),
        Dtype::F32 => (24, -126),
        Dtype::F8_E4M3 => (4, -6),
        other => panic!("{other:?} is no format of weights"),
    }
}

impl Tensor {
    /// The tensor that holds these values, each rounded once.
    pub fn rounded(values: &[f64], shape: &[usize], dtype: Dtype) -> Tensor {
        let raw = values.iter().flat_map(|&x| bytes(round(x, dtype), dtype)).collect();
        Tensor { dtype, shape: shape.to_vec(), raw }
    }

    /// Its values; codes of eight bits as they are, without a scale.
    pub fn values(&self) -> Vec<f64> {
        let pair = |b: &[u8]| u16::from_le_bytes([b[0], b[1]]);
        let single = |bits| f64::from(f32::from_bits(bits));
        match self.dtype {
            Dtype::BF16 => self.raw.chunks(2).map(|b| single(u32::from(pair(b)) << 16)).collect(),
            Dtype::F16 => self.raw.chunks(2).map(|b| half::f16::from_bits(pair(b)).to_f64()).collect(),
            Dtype::F32 => {
                self.raw.chunks(4).map(|b| single(u32::from_le_bytes([b[0], b[1], b[2], b[3]]))).collect()
            }
            Dtype::F8_E4M3 => self.raw.iter().map(|&code| eight(code)).collect(),
            Dtype::F64 => self.raw.as_chunks().0.iter().map(|&chunk| f64::from_le_bytes(chunk)).collect(),
            other => panic!("{other:?} is no format of weights"),
        }
    }
}

/// Sign, four bits of exponent (bias 7), three of fraction; no infinity, and all ones is not a number.
fn eight(code: u8) -> f64 {
    let (exponent, fraction) = (i32::from(code >> 3 & 15), f64::from(code & 7));
    let size = match (exponent, code & 7) {
        (15, 7) => f64::NAN,
        (0, _) => fraction * 2f64.powi(-9),
        _ => (8.0 + fraction) * 2f64.powi(exponent - 10),
    };
    if code & 128 == 0 { size } else { -size }
}

/// The distance between neighbors of a format at the size of `x`.
pub fn ulp(x: f64, dtype: Dtype) -> f64 {
    let (bits, smallest) = format(dtype);
    let exponent = if x == 0.0 { smallest } else { ((x.abs().to_bits() >> 52) as i32 - 1023).max(smallest) };
    2f64.powi(exponent - (bits - 1))
}

/// `x` rounded once; dividing by a power of two is exact.
fn round(x: f64, dtype: Dtype) -> f64 {
    let unit = ulp(x, dtype);
    (x / unit).round_ties_even() * unit
}

/// The bytes of a number that the format holds exactly.
fn bytes(x: f64, dtype: Dtype) -> Vec<u8> {
    match dtype {
        Dtype::BF16 => (((x as f32).to_bits() >> 16) as u16).to_le_bytes().to_vec(),
        Dtype::F16 => half::f16::from_f64(x).to_le_bytes().to_vec(),
        Dtype::F32 => (x as f32).to_le_bytes().to_vec(),
        other => panic!("nothing is rounded to {other:?} here"),
    }
}

#[test]
fn formats_are_read_and_rounded() {
    let codes = [0x00, 0x01, 0x07, 0x08, 0x38, 0x7e, 0x80, 0xb8, 0xfe];
    let eights = Tensor { dtype: Dtype::F8_E4M3, shape: vec![9], raw: codes.to_vec() }.values();
    let small = 2f64.powi(-9);
    assert_eq!(eights, [0.0, small, 7.0 * small, 8.0 * small, 1.0, 448.0, -0.0, -1.0, -448.0]);
    assert!(eight(0x7f).is_nan());
    // Halfway between neighbors, and just above it.
    for (dtype, unit) in
        [(Dtype::BF16, 2f64.powi(-7)), (Dtype::F16, 2f64.powi(-10)), (Dtype::F32, 2f64.powi(-23))]
    {
        let values = [1.0 + unit / 2.0, 1.0 + 1.5 * unit, 1.0 + unit * 0.5001, -1.0 - unit / 2.0, 0.0];
        let right = [1.0, 1.0 + 2.0 * unit, 1.0 + unit, -1.0, 0.0];
        assert_eq!(Tensor::rounded(&values, &[5], dtype).values(), right, "{dtype:?}");
        assert_eq!(ulp(1.5, dtype), unit);
        assert_eq!(ulp(0.75, dtype), unit / 2.0);
    }
    assert_eq!(Tensor::rounded(&[2f64.powi(-24), 2f64.powi(-25)], &[2], Dtype::F16).raw, [1, 0, 0, 0]);
}
