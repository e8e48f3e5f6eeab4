//! Formats that results are rounded to: bf16, f16 and f32 are one rule with other sizes.

/// A binary floating-point format with subnormals and infinities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FloatFormat {
    /// Bits of the significand, the hidden one among them.
    pub precision: u32,
    /// Exponent of the smallest normal number.
    pub least_exponent: i64,
    /// Bits of the whole code.
    pub width: u32,
}

impl FloatFormat {
    /// The high half of an f32.
    pub const BF16: FloatFormat = FloatFormat { precision: 8, least_exponent: -126, width: 16 };
    /// IEEE binary16.
    pub const F16: FloatFormat = FloatFormat { precision: 11, least_exponent: -14, width: 16 };
    /// IEEE binary32.
    pub const F32: FloatFormat = FloatFormat { precision: 24, least_exponent: -126, width: 32 };

    /// The code of infinity; codes above it, without their sign, are NaN.
    pub(crate) fn infinity(self) -> u32 {
        ((1 << (self.width - self.precision)) - 1) << (self.precision - 1)
    }

    /// The bit of the sign.
    pub(crate) fn sign(self) -> u32 {
        1 << (self.width - 1)
    }

    /// Whether a code is neither infinite nor NaN.
    pub(crate) fn is_finite(self, code: u32) -> bool {
        code & !self.sign() < self.infinity()
    }

    /// An infinity as it is, and a NaN made quiet.
    pub(crate) fn quiet(self, code: u32) -> u32 {
        let is_nan = code & !self.sign() > self.infinity();
        code | if is_nan { 1 << (self.precision - 2) } else { 0 }
    }

    /// The value of a finite code, which f32 holds for every format here.
    pub(crate) fn value(self, code: u32) -> f32 {
        let magnitude = code & !self.sign();
        let (binade, fraction) =
            (magnitude >> (self.precision - 1), magnitude & ((1 << (self.precision - 1)) - 1));
        let significand = if binade == 0 { fraction } else { fraction | 1 << (self.precision - 1) };
        let unit = self.least_exponent - i64::from(self.precision) + i64::from(binade.max(1));
        // Both factors and the product are exact: the smallest unit is that of f32.
        let value = f64::from(significand) * f64::from_bits(((unit + 1023) as u64) << 52);
        (if code & self.sign() == 0 { value } else { -value }) as f32
    }

    /// Exponent of the unit in the last place of a number whose leading bit has the exponent `leading`.
    pub(crate) fn unit(self, leading: i64) -> i64 {
        leading.max(self.least_exponent) - i64::from(self.precision) + 1
    }

    /// The code of `units` units of a number whose leading bit has the exponent `leading`. Where rounding made one unit more than the
    /// significand holds, the sum carries into the exponent, which is right; what is too large is infinite.
    pub(crate) fn code(self, is_negative: bool, leading: i64, units: u64) -> u32 {
        let binade = leading.max(self.least_exponent) - self.least_exponent;
        // What has an exponent beyond those of the format is infinite, whatever its units are.
        let binade = binade.min(i64::from(self.infinity())) as u64;
        let magnitude = ((binade << (self.precision - 1)) + units).min(u64::from(self.infinity()));
        magnitude as u32 | if is_negative { self.sign() } else { 0 }
    }

    /// A finite f64 rounded to nearest even. Zero keeps its sign.
    pub(crate) fn round(self, value: f64) -> u32 {
        let bits = value.to_bits();
        let (is_negative, magnitude) = (bits >> 63 == 1, bits & !(1 << 63));
        // What is subnormal in f64 is far below half of every format's smallest number.
        if magnitude >> 52 == 0 {
            return self.code(is_negative, i64::MIN / 2, 0);
        }
        let leading = (magnitude >> 52) as i64 - 1023;
        let significand = (magnitude & ((1 << 52) - 1)) | (1 << 52);
        let dropped = self.unit(leading) - (leading - 52);
        let units = if dropped > 60 { 0 } else { round_bits(significand, dropped as u32) };
        self.code(is_negative, leading, units)
    }
}

/// `value · 2^-dropped`, to nearest even; some bits must be dropped.
fn round_bits(value: u64, dropped: u32) -> u64 {
    let (kept, half) = (value >> dropped, 1_u64 << (dropped - 1));
    let rest = value & ((1_u64 << dropped) - 1);
    kept + u64::from(rest > half || rest == half && kept & 1 == 1)
}
