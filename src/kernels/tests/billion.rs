//! A billion elements of each format through the fused pass and the formulas' vectors, against sums in integers.
//!
//! The integers share nothing with what they judge: all factors are multiples of one power of two, so that the products of an
//! element add up in an i64 and their sum with the base in an i128, which is then cut to the format's digits. What is compared is
//! the code of every element.

use std::thread;

use crate::kernels::dispatch::Kernels;
use crate::kernels::exact::float_format::FloatFormat;
use crate::kernels::fused::pack::Term;
use crate::kernels::fused::tile::{Codes, FusedScratch};
use crate::kernels::product::Matrix;
use crate::kernels::tests::Bits;

/// Elements of each format.
const ELEMENTS: usize = 1_000_000_000;
const RANK: usize = 16;
const ROWS: usize = 252;
const COLS: usize = 1024;
/// Units of values in the factors and of the scale.
const UNITS: [i32; 3] = [-33, -30, -22];
/// The unit of a result.
const UNIT: i32 = UNITS[0] + UNITS[1] + UNITS[2];

/// A rectangle: factors and scale in their units, codes of the base, and what they must become.
struct Rectangle {
    left: Vec<i64>,
    right: Vec<i64>,
    scale: i64,
    codes: Vec<u16>,
    right_codes: Vec<u16>,
}

impl Rectangle {
    fn draw(format: FloatFormat, stream: &mut Bits) -> Rectangle {
        let mut values = |count: usize| -> Vec<i64> {
            // 24 bits with the sign's, some of them zeros in front.
            (0..count).map(|_| (stream.next() as i64 >> 40) >> (stream.next() % 12)).collect()
        };
        let (left, right) = (values(ROWS * RANK), values(RANK * COLS));
        let scale = values(1)[0] | 1;
        let (mut codes, mut right_codes) = (Vec::new(), Vec::new());
        for i in 0..ROWS * COLS {
            let (row, col) = (i / COLS, i % COLS);
            let sum: i64 = (0..RANK).map(|k| left[row * RANK + k] * right[k * COLS + col]).sum();
            let delta = i128::from(sum) * i128::from(scale);
            let code = match i % 16 {
                // One that takes away all that it can of the delta.
                0 => nearest(format, -delta),
                _ => any_code(format, stream.next()),
            };
            codes.push(code);
            right_codes.push(nearest(format, units(format, code) + delta));
        }
        Rectangle { left, right, scale, codes, right_codes }
    }

    /// Codes of the fused pass that are wrong.
    fn wrong(&self, kernels: Kernels, format: FloatFormat, scratch: &mut FusedScratch) -> usize {
        let scaled = |values: &[i64], unit: i32| -> Vec<f32> {
            values.iter().map(|value| *value as f32 * 2.0_f32.powi(unit)).collect()
        };
        let (left, right) = (scaled(&self.left, UNITS[0]), scaled(&self.right, UNITS[1]));
        let terms = [Term {
            left: Matrix::row_major(&left, ROWS, RANK),
            right: Matrix::row_major(&right, RANK, COLS),
            scale: self.scale as f32 * 2.0_f32.powi(UNITS[2]),
        }];
        let mut bytes: Vec<u8> = self.codes.iter().flat_map(|code| code.to_le_bytes()).collect();
        let mut codes = Codes { bytes: &mut bytes, stride: 2 * COLS, rows: ROWS, cols: COLS, values: None };
        kernels.merge_products(format, &mut codes, &terms, scratch);
        let merged = bytes.as_chunks().0.iter().map(|code| u16::from_le_bytes(*code));
        merged.zip(&self.right_codes).filter(|(merged, right)| merged != *right).count()
    }
}

/// A code of a size from 2⁻²⁰ to 2.
fn any_code(format: FloatFormat, bits: u64) -> u16 {
    let fraction = format.precision - 1;
    let lowest = (-20_i64).max(format.least_exponent - 1);
    let exponent = lowest + (bits >> 32) as i64 % (1 - lowest);
    let field = (exponent - format.least_exponent + 1).max(0) as u64;
    (field << fraction | bits & ((1 << fraction) - 1) | (bits >> 31 & 1) << 15) as u16
}

/// What a code means, in units of a result.
fn units(format: FloatFormat, code: u16) -> i128 {
    let fraction = format.precision - 1;
    let (field, low) = (i64::from(code & 0x7fff) >> fraction, i128::from(code & ((1 << fraction) - 1)));
    let significand = if field == 0 { low } else { low | 1 << fraction };
    let exponent = format.least_exponent + field.max(1) - 1 - i64::from(fraction);
    let magnitude = significand << (exponent - i64::from(UNIT));
    if code >> 15 == 1 { -magnitude } else { magnitude }
}

/// The code nearest to so many units, and even where two are; +0 for none.
fn nearest(format: FloatFormat, value: i128) -> u16 {
    let magnitude = value.unsigned_abs();
    if magnitude == 0 {
        return 0;
    }
    let fraction = format.precision - 1;
    let above = (127 - i64::from(magnitude.leading_zeros())) + i64::from(UNIT) - format.least_exponent;
    let lowest = format.least_exponent - i64::from(fraction) - i64::from(UNIT);
    let dropped = (lowest + above.max(0)) as u32;
    let (kept, rest) = (magnitude >> dropped, magnitude & ((1 << dropped) - 1));
    let half = 1 << (dropped - 1);
    let kept = kept + u128::from(rest > half || rest == half && kept & 1 == 1);
    // A significand that has become too long carries into the exponent.
    let binade = if above < 0 { 0 } else { (above as u128) << fraction };
    (binade + kept) as u16 | if value < 0 { 0x8000 } else { 0 }
}

#[test]
#[ignore = "takes minutes: `make exhaustive`"]
fn a_billion_elements_are_rounded_right() {
    for format in [FloatFormat::BF16, FloatFormat::F16] {
        count_wrong(format, ELEMENTS);
    }
}

#[test]
fn a_million_elements_are_rounded_right() {
    for format in [FloatFormat::BF16, FloatFormat::F16] {
        count_wrong(format, 1_000_000);
    }
}

/// Merges so many elements with the best kernel, on all CPUs, and panics if one is wrong.
fn count_wrong(format: FloatFormat, elements: usize) {
    let (kernels, rectangles) = (Kernels::detect(), elements.div_ceil(ROWS * COLS));
    let workers = thread::available_parallelism().map_or(1, usize::from);
    let wrong: usize = thread::scope(|scope| {
        let worker = |first: usize| {
            move || {
                let mut scratch = FusedScratch::new(RANK);
                let of_worker = (first..rectangles).step_by(workers);
                let drawn = of_worker.map(|i| Rectangle::draw(format, &mut Bits(1000 + i as u64)));
                drawn.map(|drawn| drawn.wrong(kernels, format, &mut scratch)).sum::<usize>()
            }
        };
        let threads: Vec<_> = (0..workers).map(|first| scope.spawn(worker(first))).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).sum()
    });
    assert_eq!(wrong, 0, "wrong of {} elements, {format:?}, {}", rectangles * ROWS * COLS, kernels.name());
}
