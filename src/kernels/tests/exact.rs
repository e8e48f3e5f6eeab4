//! Numbers of the formulas against exact sums: what rounds exactly, and bounds that hold.

use crate::kernels::exact::Number;
use crate::kernels::exact::ball::Ball;
use crate::kernels::exact::dyadic::Dyadic;
use crate::kernels::exact::float_format::FloatFormat;
use crate::kernels::exact::lanes::{Lanes, WIDE};
use crate::kernels::product::Matrix;
use crate::kernels::tests::Bits;
use crate::kernels::tests::fused::assert_rounded;
use crate::kernels::tests::rational::Rational;

const FORMATS: [FloatFormat; 3] = [FloatFormat::BF16, FloatFormat::F16, FloatFormat::F32];
/// Terms of a sum.
const RANK: usize = 5;

/// A base, a scale, and two factors: `left [1, RANK]`, `right [RANK, WIDE]`.
struct Sample {
    base: f32,
    scale: f32,
    left: Vec<f32>,
    right: Vec<f32>,
}

impl Sample {
    fn value<N: Number>(&self, cols: std::ops::Range<usize>) -> N {
        let left = Matrix::row_major(&self.left, 1, RANK);
        let right = Matrix::row_major(&self.right, RANK, WIDE);
        let sum = N::dot(left, 0, right, cols);
        // Both ways to multiply.
        let is_even = self.scale.to_bits() & 1 == 0;
        let delta = if is_even { sum.times(&N::of(self.scale)) } else { sum.scaled(self.scale) };
        N::of(self.base).plus(&delta)
    }

    fn exact(&self, col: usize) -> Rational {
        let mut sum = Rational::of(self.base);
        for k in 0..RANK {
            sum.add_product([self.left[k], self.right[k * WIDE + col], self.scale]);
        }
        sum
    }

    fn check(&self) {
        let lanes: Lanes = self.value(0..WIDE);
        for col in 0..WIDE {
            let (near, exact): (Ball, Dyadic) = (self.value(col..col + 1), self.value(col..col + 1));
            let side = Ball::within(lanes.middles[col], lanes.radii[col]);
            for format in FORMATS {
                let code = exact.round(format);
                assert_rounded(format, &self.exact(col), code);
                for ball in [near, side] {
                    assert!(ball.round(format).is_none_or(|rounded| rounded == code), "{ball:?} {format:?}");
                }
            }
        }
    }
}

fn sample(stream: &mut Bits, value: impl Fn(&mut Bits) -> f32) -> Sample {
    let (base, scale) = (value(stream), value(stream));
    let mut values = |count: usize| (0..count).map(|_| value(stream)).collect::<Vec<f32>>();
    Sample { base, scale, left: values(RANK), right: values(RANK * WIDE) }
}

#[test]
fn sums_are_rounded_right_and_bounds_hold() {
    let mut stream = Bits(21);
    let any = |stream: &mut Bits| loop {
        let value = f32::from_bits(stream.next() as u32);
        if value.is_finite() {
            return value;
        }
    };
    for _ in 0..8 {
        sample(&mut stream, Bits::value).check();
        sample(&mut stream, any).check();
    }
}

/// A base that takes the rest of the sum away, all of it or all but the smallest of its terms.
#[test]
fn cancellation_is_exact() {
    let mut stream = Bits(22);
    for tiny in [0.0, f32::from_bits(1), -2.0_f32.powi(-100)] {
        let mut made = sample(&mut stream, Bits::value);
        for col in 0..WIDE {
            made.right[WIDE + col] = -made.right[col];
            made.right[2 * WIDE + col] = -made.base;
            made.right[3 * WIDE + col] = tiny;
            made.right[4 * WIDE + col] = 0.0;
        }
        made.left = vec![0.7, 0.7, 1.0, 1.0, 1.0];
        made.scale = 1.0;
        made.check();
        let code = made.value::<Dyadic>(0..1).round(FloatFormat::F32);
        assert_eq!(code, tiny.to_bits(), "what is left is the tiny term");
    }
}

/// Ties of each format, and what lies a little beside them.
#[test]
fn ties_go_to_even() {
    for format in FORMATS {
        let half = 2.0_f32.powi(-(format.precision as i32));
        for (steps, expected) in [(1.0, 0), (3.0, 2)] {
            for (beside, more) in [
                (0.0, 0),
                (2.0_f32.powi(-100), i64::from(steps < 2.0)),
                (-2.0_f32.powi(-100), -i64::from(steps > 2.0)),
            ] {
                let delta = Dyadic::of(steps * half).plus(&Dyadic::of(beside));
                let one = Dyadic::of(1.0).round(format);
                let code = Dyadic::of(1.0).plus(&delta).round(format);
                assert_eq!(i64::from(code) - i64::from(one), expected + more, "{format:?} {steps} {beside}");
                assert_eq!(
                    Dyadic::of(-1.0).plus(&delta.times(&Dyadic::of(-1.0))).round(format),
                    code | format.sign()
                );
            }
        }
    }
}

#[test]
fn an_f64_is_rounded_as_a_dyadic_is() {
    let mut stream = Bits(23);
    for format in FORMATS {
        for _ in 0..4000 {
            let [a, b] = [0, 0].map(|_| f32::from_bits(stream.next() as u32));
            if a.is_finite() && b.is_finite() {
                let product = Dyadic::of(a).times(&Dyadic::of(b));
                let rounded = format.round(f64::from(a) * f64::from(b));
                // A product of zero has a sign in f64.
                let zero =
                    if a * b == 0.0 && (a == 0.0 || b == 0.0) { rounded } else { product.round(format) };
                assert_eq!(rounded, zero, "{a} {b} {format:?}");
            }
        }
        for code in (0..format.infinity()).step_by(97) {
            assert_eq!(format.round(f64::from(format.value(code))), code, "{format:?}");
        }
    }
}
