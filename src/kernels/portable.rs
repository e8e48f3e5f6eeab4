//! Functions that the libraries of systems compute with other last bits each, from sums and products alone, so that they are the same
//! everywhere. They are off by a few units of f64's last place.

use std::f64::consts::{FRAC_2_SQRT_PI, LOG2_E};

/// The logarithm of two, in two parts of which the first has so few bits that its products with exponents are exact.
const LN_2: [f64; 2] = [6.931_471_803_691_238e-1, 1.908_214_929_270_587_7e-10];
/// Terms of the series of the exponential function, which is for arguments of no more than half of a logarithm of two.
const TERMS: i32 = 14;

/// `eˣ`.
pub(crate) fn exp(x: f64) -> f64 {
    // Beyond these nothing is left but zero and infinity.
    let x = x.clamp(-746.0, 710.0);
    let power = (x * LOG2_E).round();
    let rest = x - power * LN_2[0] - power * LN_2[1];
    let series = (1..=TERMS).rev().fold(1.0, |sum, n| 1.0 + sum * rest / f64::from(n));
    // In two steps, as a subnormal number has no power of two of its own that an exponent could hold.
    let power = power as i64;
    let half = power / 2;
    series * power_of_two(half) * power_of_two(power - half)
}

/// `2ⁿ` of a normal number.
fn power_of_two(n: i64) -> f64 {
    f64::from_bits(((n + 1023) as u64) << 52)
}

/// `1 / (1 + e⁻ˣ)`.
pub(crate) fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + exp(-x))
}

/// The hyperbolic tangent.
pub(crate) fn tanh(x: f64) -> f64 {
    2.0 * sigmoid(2.0 * x) - 1.0
}

/// The error function: `2/√π · e^(−x²) · Σ 2ⁿ x^(2n+1) / (1·3·…·(2n+1))`, whose terms have one sign.
pub(crate) fn erf(x: f64) -> f64 {
    if x.abs() > 6.0 {
        return x.signum();
    }
    let (mut term, mut sum, mut n) = (x, x, 1.0);
    while term.abs() > sum.abs() * 1e-17 {
        term *= 2.0 * x * x / (2.0 * n + 1.0);
        sum += term;
        n += 1.0;
    }
    FRAC_2_SQRT_PI * exp(-x * x) * sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_those_of_tables() {
        for (found, right) in [
            (exp(0.0), 1.0),
            (exp(1.0), std::f64::consts::E),
            (exp(-1.0), 0.367_879_441_171_442_33),
            (exp(0.3), 1.349_858_807_576_003),
            (exp(700.0), 1.014_232_054_735_005e304),
            (exp(-740.0), 4.199_558_4e-322),
            (sigmoid(0.5), 0.622_459_331_201_854_6),
            (tanh(0.5), 0.462_117_157_260_009_76),
            (tanh(-3.0), -0.995_054_753_686_730_5),
            (erf(0.5), 0.520_499_877_813_046_5),
            (erf(-1.0), -0.842_700_792_949_714_9),
            (erf(3.0), 0.999_977_909_503_001_4),
        ] {
            assert!((found - right).abs() <= 4.0 * f64::EPSILON * right.abs(), "{found:e} {right:e}");
        }
        assert_eq!((exp(1000.0), exp(-1000.0), erf(7.0), erf(0.0)), (f64::INFINITY, 0.0, 1.0, 0.0));
    }
}
