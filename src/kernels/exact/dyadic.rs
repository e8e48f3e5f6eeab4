//! Numbers m · 2^e with any number of bits: sums and products of f32 values without any rounding.
//!
//! Slow, and only for the few elements that nothing else decides. Sums of products of three f32 values take 1,100 bits at the most and
//! stay in place; longer ones are allocated.

use std::cmp::Ordering;
use std::ops::Range;

use smallvec::{SmallVec, smallvec};

use crate::kernels::exact::Number;
use crate::kernels::exact::float_format::FloatFormat;
use crate::kernels::fused::made::Factors;

/// Digits of 64 bits, the lowest first.
type Digits = SmallVec<[u64; 20]>;

/// A number with as many bits as it needs.
#[derive(Clone, Debug)]
pub(crate) struct Dyadic {
    is_negative: bool,
    /// Without zeros at the end; empty for zero.
    digits: Digits,
    /// Of the lowest bit of the lowest digit.
    exponent: i64,
}

impl Dyadic {
    /// The number rounded once, to nearest even. A result of zero is +0, unless a negative number was rounded to it.
    pub(crate) fn round(&self, format: FloatFormat) -> u32 {
        let Some(leading) = self.leading() else { return 0 };
        let dropped = format.unit(leading) - self.exponent;
        let units = if dropped <= 0 {
            // All bits are kept: few enough for one digit, as the leading one is at most `precision` units high.
            self.digits[0] << -dropped
        } else {
            let dropped = dropped as usize;
            let kept = self.bits_from(dropped);
            let is_half = self.bit(dropped - 1);
            kept + u64::from(is_half && (kept & 1 == 1 || self.has_bits_below(dropped - 1)))
        };
        format.code(self.is_negative, leading, units)
    }

    /// Exponent of the highest bit that is set.
    fn leading(&self) -> Option<i64> {
        let last = self.digits.last()?;
        Some(self.exponent + 64 * self.digits.len() as i64 - 1 - i64::from(last.leading_zeros()))
    }

    fn digit(&self, at: usize) -> u64 {
        self.digits.get(at).copied().unwrap_or(0)
    }

    fn bit(&self, at: usize) -> bool {
        self.digit(at / 64) >> (at % 64) & 1 == 1
    }

    /// The bits from `at` on; at most 64 may be set there.
    fn bits_from(&self, at: usize) -> u64 {
        let (digit, shift) = (at / 64, at % 64);
        let high = if shift == 0 { 0 } else { self.digit(digit + 1) << (64 - shift) };
        self.digit(digit) >> shift | high
    }

    fn has_bits_below(&self, at: usize) -> bool {
        let whole = (at / 64).min(self.digits.len());
        self.digits[..whole].iter().any(|digit| *digit != 0)
            || self.digit(at / 64) & ((1 << (at % 64)) - 1) != 0
    }

    /// The same number from digits that may have zeros at the end.
    fn new(is_negative: bool, mut digits: Digits, exponent: i64) -> Dyadic {
        while digits.last() == Some(&0) {
            digits.pop();
        }
        Dyadic { is_negative, digits, exponent }
    }

    /// The digits of the same number with a lower exponent.
    fn lowered(&self, exponent: i64) -> Digits {
        let by = (self.exponent - exponent) as usize;
        let (whole, shift) = (by / 64, by % 64);
        let mut digits: Digits = smallvec![0; whole];
        if shift == 0 {
            digits.extend_from_slice(&self.digits);
            return digits;
        }
        let mut carry = 0;
        for digit in &self.digits {
            digits.push(digit << shift | carry);
            carry = digit >> (64 - shift);
        }
        digits.push(carry);
        digits
    }
}

impl Number for Dyadic {
    type Cpu = ();
    type Product<'p> = Factors<'p>;

    fn of(_: (), value: f32) -> Dyadic {
        let bits = value.to_bits();
        let (field, fraction) = (bits >> 23 & 0xff, bits & 0x007f_ffff);
        let significand = if field == 0 { fraction } else { fraction | 0x0080_0000 };
        Dyadic::new(bits >> 31 == 1, smallvec![u64::from(significand)], i64::from(field.max(1)) - 150)
    }

    fn load(_: (), values: &[f32], _: usize, _: usize) -> Dyadic {
        Dyadic::of((), values[0])
    }

    fn gather(_: (), _: usize, value: impl Fn(usize) -> f32) -> Dyadic {
        Dyadic::of((), value(0))
    }

    fn plus(self, other: &Dyadic) -> Dyadic {
        if self.digits.is_empty() {
            return other.clone();
        }
        if other.digits.is_empty() {
            return self;
        }
        let exponent = self.exponent.min(other.exponent);
        let (mut a, b) = (self.lowered(exponent), other.lowered(exponent));
        if self.is_negative == other.is_negative {
            add(&mut a, &b);
            return Dyadic::new(self.is_negative, a, exponent);
        }
        match compare(&a, &b) {
            Ordering::Less => Dyadic::new(other.is_negative, difference(b, &a), exponent),
            _ => Dyadic::new(self.is_negative, difference(a, &b), exponent),
        }
    }

    fn times(self, other: &Dyadic) -> Dyadic {
        let mut digits: Digits = smallvec![0; self.digits.len() + other.digits.len()];
        for (i, a) in self.digits.iter().enumerate() {
            let mut carry = 0;
            for (j, b) in other.digits.iter().enumerate() {
                let sum = u128::from(*a) * u128::from(*b) + u128::from(digits[i + j]) + carry;
                digits[i + j] = sum as u64;
                carry = sum >> 64;
            }
            digits[i + other.digits.len()] = carry as u64;
        }
        Dyadic::new(self.is_negative != other.is_negative, digits, self.exponent + other.exponent)
    }

    fn scaled(self, by: f32) -> Dyadic {
        self.times(&Dyadic::of((), by))
    }

    fn product(_: (), product: Factors<'_>, row: usize, cols: Range<usize>) -> Dyadic {
        let Factors { left, right } = product;
        let term = |k| Dyadic::of((), left.at(row, k)).times(&Dyadic::of((), right.at(k, cols.start)));
        (0..left.cols).fold(Dyadic::of((), 0.0), |sum, k| sum.plus(&term(k)))
    }
}

fn add(a: &mut Digits, b: &Digits) {
    a.resize(a.len().max(b.len()) + 1, 0);
    let mut carry = false;
    for (i, a) in a.iter_mut().enumerate() {
        let (sum, first) = a.overflowing_add(b.get(i).copied().unwrap_or(0));
        let (sum, second) = sum.overflowing_add(u64::from(carry));
        (*a, carry) = (sum, first || second);
    }
}

/// `a − b`, which must not be negative.
fn difference(mut a: Digits, b: &Digits) -> Digits {
    let mut borrow = false;
    for (i, a) in a.iter_mut().enumerate() {
        let (rest, first) = a.overflowing_sub(b.get(i).copied().unwrap_or(0));
        let (rest, second) = rest.overflowing_sub(u64::from(borrow));
        (*a, borrow) = (rest, first || second);
    }
    a
}

fn compare(a: &Digits, b: &Digits) -> Ordering {
    let digit = |of: &Digits, i: usize| of.get(i).copied().unwrap_or(0);
    let places = (0..a.len().max(b.len())).rev();
    places.map(|i| digit(a, i).cmp(&digit(b, i))).find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
}
