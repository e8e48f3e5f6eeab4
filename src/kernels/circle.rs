//! Sines and cosines from sums and products alone, so that they are the same on every machine: off by a few units of f64's last place.

use std::f64::consts::{FRAC_2_PI, FRAC_PI_2};

/// A quarter of a circle, in three parts of which the first two have so few bits that their products with counts of quarters are exact.
const QUARTER: [f64; 3] = [1.570_796_326_734_125_6, 6.077_100_506_303_966e-11, 2.022_266_248_795_950_6e-21];
/// The largest angle of which those parts leave enough; there is no number for larger ones.
const LARGEST: f64 = 1_048_576.0;

/// Terms of both series, for angles of no more than an eighth of a circle.
const TERMS: u32 = 9;

/// The cosine and the sine of an angle.
pub(crate) fn cos_sin(angle: f64) -> [f64; 2] {
    if angle.is_nan() || angle.abs() > LARGEST {
        return [f64::NAN; 2];
    }
    let quarters = (angle * FRAC_2_PI).round();
    let rest = angle - quarters * QUARTER[0] - quarters * QUARTER[1] - quarters * QUARTER[2];
    turned(quarters as i64, rest)
}

/// The cosine and the sine of a part of a full circle.
pub(crate) fn of_circle(part: u64, whole: u64) -> [f64; 2] {
    let (part, whole) = (i128::from(part % whole), i128::from(whole));
    let quarters = (8 * part + whole) / (2 * whole);
    let rest = (4 * part - quarters * whole) as f64 / whole as f64;
    turned(quarters as i64, rest * FRAC_PI_2)
}

/// The same of an angle that is so many quarters more than `rest`.
fn turned(quarters: i64, rest: f64) -> [f64; 2] {
    let square = rest * rest;
    let (mut cos, mut sin) = (1.0, 1.0);
    for n in (1..=TERMS).rev() {
        let n = f64::from(2 * n);
        cos = 1.0 - cos * square / (n * (n - 1.0));
        sin = 1.0 - sin * square / (n * (n + 1.0));
    }
    let sin = sin * rest;
    match quarters.rem_euclid(4) {
        0 => [cos, sin],
        1 => [-sin, cos],
        2 => [-cos, -sin],
        _ => [sin, -cos],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_are_the_library_s_but_for_last_places() {
        let mut angle = 1e-9;
        while angle < 1e6 {
            for angle in [angle, -angle] {
                let (sin, cos) = f64::sin_cos(angle);
                let off = |[c, s]: [f64; 2]| (c - cos).abs().max((s - sin).abs());
                assert!(off(cos_sin(angle)) <= 4.0 * f64::EPSILON, "{angle}: {:e}", off(cos_sin(angle)));
            }
            angle *= 1.003;
        }
        assert!(cos_sin(f64::INFINITY)[0].is_nan() && cos_sin(2e6)[1].is_nan());
    }

    #[test]
    fn parts_of_a_circle_come_round() {
        for whole in [1, 2, 3, 4, 5, 8, 12, 43, 4096, 11008] {
            for part in 0..2 * whole {
                let [cos, sin] = of_circle(part, whole);
                let (right_sin, right_cos) =
                    ((part % whole) as f64 / whole as f64 * std::f64::consts::TAU).sin_cos();
                let off = (cos - right_cos).abs().max((sin - right_sin).abs());
                assert!(off <= 8.0 * f64::EPSILON, "{part} of {whole}: {off:e}");
            }
            assert_eq!(of_circle(0, whole), [1.0, 0.0]);
        }
        assert_eq!(
            (of_circle(1, 4), of_circle(3, 4), of_circle(2, 4)),
            ([0.0, 1.0], [0.0, -1.0], [-1.0, 0.0])
        );
    }
}
