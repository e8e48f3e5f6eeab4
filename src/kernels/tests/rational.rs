//! Sums of products of f32 values as integers of 1600 bits, in the plainest way: the unit is 2⁻⁷⁶⁰, and every digit of 32 bits is
//! kept in an i64 that takes carries late.

use std::cmp::Ordering;

/// Digits of 32 bits.
const DIGITS: usize = 50;
/// The unit's exponent.
const UNIT: i32 = -760;

/// A multiple of the unit.
#[derive(Clone)]
pub(super) struct Rational([i64; DIGITS]);

impl Rational {
    pub(super) fn of(value: f32) -> Rational {
        Rational::of_f64(f64::from(value))
    }

    pub(super) fn of_f64(value: f64) -> Rational {
        let mut sum = Rational([0; DIGITS]);
        sum.add_f64(value);
        sum
    }

    pub(super) fn add_f64(&mut self, value: f64) {
        let (significand, exponent) = parts(value);
        self.add_scaled(significand.into(), exponent);
    }

    /// Adds the product of at most five values.
    pub(super) fn add_product(&mut self, factors: &[f32]) {
        let (mut product, mut exponent) = (1_i128, 0);
        for factor in factors {
            // At most 24 bits, without the zeros behind.
            let (significand, place) = parts(f64::from(*factor));
            product *= i128::from(significand);
            exponent += place;
        }
        self.add_scaled(product, exponent);
    }

    fn add_scaled(&mut self, significand: i128, exponent: i32) {
        let (sign, mut rest) = (significand.signum() as i64, significand.unsigned_abs());
        if rest == 0 {
            return;
        }
        let place = exponent - UNIT;
        assert!(place >= 0, "below the unit");
        let (mut digit, shift) = (place as usize / 32, place % 32);
        // The lowest digit takes what fits above the shift.
        let low = (rest & ((1 << (32 - shift)) - 1)) << shift;
        self.0[digit] += sign * low as i64;
        rest >>= 32 - shift;
        while rest != 0 {
            digit += 1;
            self.0[digit] += sign * (rest & 0xffff_ffff) as i64;
            rest >>= 32;
        }
    }

    pub(super) fn negated(&self) -> Rational {
        Rational(self.0.map(|digit| -digit))
    }

    /// Half of it: nothing here is odd.
    pub(super) fn halved(&self) -> Rational {
        let mut half = self.carried();
        for i in 0..DIGITS {
            let odd = half[i] & 1;
            half[i] >>= 1;
            if i > 0 {
                half[i - 1] += odd << 31;
            }
        }
        Rational(half)
    }

    /// All digits but the last from 0 to 2³² − 1; the last has the sign.
    fn carried(&self) -> [i64; DIGITS] {
        let mut digits = self.0;
        for i in 0..DIGITS - 1 {
            let carry = digits[i] >> 32;
            digits[i] -= carry << 32;
            digits[i + 1] += carry;
        }
        digits
    }

    pub(super) fn compare(&self, other: &Rational) -> Ordering {
        let mut difference = self.clone();
        for (digit, other) in difference.0.iter_mut().zip(other.0) {
            *digit -= other;
        }
        let digits = difference.carried();
        match digits[DIGITS - 1].cmp(&0) {
            Ordering::Equal if digits.iter().any(|digit| *digit != 0) => Ordering::Greater,
            order => order,
        }
    }

    pub(super) fn is_zero(&self) -> bool {
        self.compare(&Rational([0; DIGITS])).is_eq()
    }

    pub(super) fn is_positive(&self) -> bool {
        self.compare(&Rational([0; DIGITS])).is_gt()
    }
}

/// A finite f64 as an integer times a power of two.
fn parts(value: f64) -> (i64, i32) {
    let bits = value.to_bits();
    let (field, fraction) = ((bits >> 52 & 0x7ff) as i32, (bits & ((1 << 52) - 1)) as i64);
    let significand = if field == 0 { fraction } else { fraction | 1 << 52 };
    let zeros = if significand == 0 { 0 } else { significand.trailing_zeros() };
    let signed = if bits >> 63 == 0 { significand } else { -significand };
    (signed >> zeros, field.max(1) - 1075 + zeros as i32)
}
