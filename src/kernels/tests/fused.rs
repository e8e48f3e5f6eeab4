//! The fused pass against exact sums, which share no code with it, and every kernel against the reference byte for byte.

use crate::kernels::dispatch::Kernels;
use crate::kernels::exact::float_format::FloatFormat;
use crate::kernels::fused::pack::Term;
use crate::kernels::fused::tile::{Codes, FusedScratch};
use crate::kernels::product::Matrix;
use crate::kernels::tests::Bits;
use crate::kernels::tests::rational::Rational;

const FORMATS: [FloatFormat; 2] = [FloatFormat::BF16, FloatFormat::F16];

/// Factors and scales of several products, by rank; every second is stored the other way round.
struct Products {
    rows: usize,
    cols: usize,
    terms: Vec<(usize, Vec<f32>, Vec<f32>, f32)>,
}

impl Products {
    fn terms(&self) -> Vec<Term<'_>> {
        let mut terms = Vec::new();
        for (i, (rank, left, right, scale)) in self.terms.iter().enumerate() {
            let (left, right) = if i % 2 == 0 {
                (Matrix::row_major(left, self.rows, *rank), Matrix::row_major(right, *rank, self.cols))
            } else {
                let left = Matrix::row_major(left, *rank, self.rows).transposed();
                (left, Matrix::row_major(right, self.cols, *rank).transposed())
            };
            terms.push(Term { left, right, scale: *scale });
        }
        terms
    }

    /// The exact result of one element; none where the base is no number.
    fn exact(&self, format: FloatFormat, base: u32, row: usize, col: usize) -> Option<Rational> {
        Some(self.sum(format.is_finite(base).then(|| decode(format, base))?, row, col))
    }

    /// The exact sum of a value and the products of an element.
    fn sum(&self, base: f32, row: usize, col: usize) -> Rational {
        let mut sum = Rational::of(base);
        for Term { left, right, scale } in self.terms() {
            for k in 0..left.cols {
                sum.add_product(&[left.at(row, k), right.at(k, col), scale]);
            }
        }
        sum
    }

    /// Merges with every kernel into values beside codes, which are these values rounded, and holds the results to the exact ones.
    fn check_values(&self, format: FloatFormat, values: &[f32]) {
        let codes: Vec<u16> = values.iter().map(|value| encode(format, *value)).collect();
        let (terms, rank) = (self.terms(), self.terms().iter().map(|term| term.left.cols).sum());
        for kernels in Kernels::available() {
            let mut bytes: Vec<u8> = bytemuck::cast_slice(&codes).to_vec();
            let (stride, rows, cols) = (2 * self.cols, self.rows, self.cols);
            let mut rectangle = Codes { bytes: &mut bytes, stride, rows, cols, values: Some(values) };
            let mut scratch = FusedScratch::new(rank);
            let narrowed = kernels.merge_products(format, &mut rectangle, &terms, &mut scratch);
            let merged: Vec<u16> = bytes.as_chunks().0.iter().map(|code| u16::from_le_bytes(*code)).collect();
            let differing = codes.iter().zip(&merged).filter(|(old, new)| old != new).count() as u64;
            assert_eq!(narrowed.changed, differing, "{}, {format:?}", kernels.name());
            let overflows =
                |(value, code): (&f32, &u16)| value.is_finite() && !format.is_finite(u32::from(*code));
            assert_eq!(narrowed.finite, !values.iter().zip(&merged).any(overflows), "{}", kernels.name());
            for (i, (value, merged)) in values.iter().zip(&merged).enumerate() {
                if value.is_finite() {
                    assert_rounded(format, &self.sum(*value, i / cols, i % cols), u32::from(*merged));
                } else {
                    assert!(!format.is_finite(u32::from(*merged)), "what is no number stays so");
                }
            }
        }
    }

    /// Merges codes that lie `gap` bytes further apart than they must.
    fn merge(&self, kernels: Kernels, format: FloatFormat, codes: &[u16], gap: usize) -> Vec<u16> {
        let rank = self.terms().iter().map(|term| term.left.cols).sum();
        self.merge_in(FusedScratch::new(rank), kernels, format, codes, gap)
    }

    /// The same with scratch that may be for more.
    fn merge_in(
        &self,
        mut scratch: FusedScratch,
        kernels: Kernels,
        format: FloatFormat,
        codes: &[u16],
        gap: usize,
    ) -> Vec<u16> {
        let stride = 2 * self.cols + gap;
        let mut bytes = vec![0xa5; self.rows * stride];
        for (row, codes) in bytes.chunks_exact_mut(stride).zip(codes.chunks_exact(self.cols)) {
            row[..2 * self.cols].copy_from_slice(bytemuck::cast_slice(codes));
        }
        let terms = self.terms();
        let mut rectangle =
            Codes { bytes: &mut bytes, stride, rows: self.rows, cols: self.cols, values: None };
        let narrowed = kernels.merge_products(format, &mut rectangle, &terms, &mut scratch);
        let mut merged = Vec::new();
        for row in bytes.chunks_exact(stride) {
            merged.extend(row[..2 * self.cols].as_chunks().0.iter().map(|code| u16::from_le_bytes(*code)));
            assert!(row[2 * self.cols..].iter().all(|byte| *byte == 0xa5), "wrote between the rows");
        }
        let pairs = || codes.iter().zip(&merged);
        assert_eq!(narrowed.changed, pairs().filter(|(old, new)| old != new).count() as u64);
        let overflows = |(old, new): (&u16, &u16)| {
            format.is_finite(u32::from(*old)) && !format.is_finite(u32::from(*new))
        };
        assert_eq!(narrowed.finite, !pairs().any(overflows));
        merged
    }

    /// Merges with every kernel, and holds the results to each other and to the exact ones.
    fn check(&self, format: FloatFormat, codes: &[u16]) {
        let expected = self.merge(Kernels::scalar(), format, codes, 0);
        for kernels in Kernels::available() {
            for gap in [0, 6] {
                let merged = self.merge(kernels, format, codes, gap);
                let differing = (0..codes.len()).find(|i| merged[*i] != expected[*i]);
                assert_eq!(differing, None, "{} differs, {format:?}", kernels.name());
            }
        }
        for (i, (base, merged)) in codes.iter().zip(&expected).enumerate() {
            let (base, merged) = (u32::from(*base), u32::from(*merged));
            match self.exact(format, base, i / self.cols, i % self.cols) {
                Some(exact) => assert_rounded(format, &exact, merged),
                None => assert!(!format.is_finite(merged), "what is no number stays so"),
            }
        }
    }
}

/// What a code means, by `half`.
fn decode(format: FloatFormat, code: u32) -> f32 {
    match format {
        FloatFormat::BF16 => half::bf16::from_bits(code as u16).to_f32(),
        _ => half::f16::from_bits(code as u16).to_f32(),
    }
}

/// Holds a code to be the nearest to a number, and even where two are.
pub(super) fn assert_rounded(format: FloatFormat, exact: &Rational, code: u32) {
    let (sign, magnitude) = (code & format.sign(), code & !format.sign());
    let exact = if sign == 0 { exact.clone() } else { exact.negated() };
    let is_even = magnitude & 1 == 0;
    let beyond = exact.compare(&middle(format, magnitude));
    let is_above = magnitude < format.infinity() && (beyond.is_gt() || beyond.is_eq() && !is_even);
    assert!(!is_above, "{code:#x} is too small in {format:?}");
    if magnitude == 0 {
        let is_right = if exact.is_zero() { sign == 0 } else { exact.is_positive() };
        assert!(is_right, "zero has a wrong sign");
        return;
    }
    let below = exact.compare(&middle(format, magnitude - 1));
    assert!(below.is_gt() || below.is_eq() && is_even, "{code:#x} is too large in {format:?}");
}

/// Half-way between a code and the next, where infinity counts as the number that would follow.
fn middle(format: FloatFormat, code: u32) -> Rational {
    let value = |code: u32| match code {
        code if code < format.infinity() => decode_any(format, code),
        _ => 2.0 * f64::from(decode_any(format, format.infinity() - (1 << (format.precision - 1))) as f32),
    };
    let mut sum = Rational::of_f64(value(code));
    sum.add_f64(value(code + 1));
    sum.halved()
}

fn decode_any(format: FloatFormat, code: u32) -> f64 {
    match format {
        FloatFormat::F32 => f64::from(f32::from_bits(code)),
        _ => f64::from(decode(format, code)),
    }
}

/// Any code that is a number.
fn code(stream: &mut Bits, format: FloatFormat) -> u16 {
    loop {
        let code = stream.next() as u16;
        if format.is_finite(u32::from(code)) {
            return code;
        }
    }
}

/// The code nearest to a value.
fn encode(format: FloatFormat, value: f32) -> u16 {
    match format {
        FloatFormat::BF16 => half::bf16::from_f32(value).to_bits(),
        _ => half::f16::from_f32(value).to_bits(),
    }
}

fn products(
    stream: &mut Bits,
    (rows, cols): (usize, usize),
    ranks: &[usize],
    scale: f32,
    value: impl Fn(&mut Bits) -> f32,
) -> Products {
    let mut values = |count: usize| (0..count).map(|_| value(stream)).collect::<Vec<f32>>();
    let terms = ranks.iter().map(|&rank| (rank, values(rows * rank), values(rank * cols), scale)).collect();
    Products { rows, cols, terms }
}

#[test]
fn every_size_is_rounded_right() {
    let mut stream = Bits(11);
    for shape in [(1, 1), (6, 64), (5, 63), (7, 65), (13, 130)] {
        for ranks in [&[1][..], &[16], &[33], &[5, 70, 3]] {
            let made = products(&mut stream, shape, ranks, 0.75, Bits::value);
            for format in FORMATS {
                let value = |stream: &mut Bits| encode(format, stream.value());
                let codes: Vec<u16> = (0..shape.0 * shape.1).map(|_| value(&mut stream)).collect();
                made.check(format, &codes);
            }
        }
    }
}

#[test]
fn values_beside_codes_are_rounded_once() {
    let mut stream = Bits(16);
    for shape in [(1, 1), (6, 64), (5, 63), (7, 65), (13, 130)] {
        for (ranks, scale) in
            [(&[1][..], 0.75), (&[16], 0.75), (&[5, 70, 3], 0.75), (&[2], 1.0e-30), (&[2], 0.0)]
        {
            let made = products(&mut stream, shape, ranks, scale, Bits::value);
            for format in FORMATS {
                let mut values: Vec<f32> = (0..shape.0 * shape.1).map(|_| stream.value()).collect();
                made.check_values(format, &values);
                // On ties, and beside them.
                for (i, value) in values.iter_mut().enumerate() {
                    let tie = 1 << (23 - format.precision);
                    let bits = value.to_bits() & !(2 * tie - 1) | tie;
                    *value = f32::from_bits(bits + i as u32 % 3 - 1);
                }
                made.check_values(format, &values);
            }
        }
    }
    for format in FORMATS {
        let made = products(&mut stream, (1, 8), &[2], 0.5, Bits::value);
        let large = if format == FloatFormat::BF16 { f32::MAX } else { 65519.9 };
        made.check_values(
            format,
            &[f32::INFINITY, f32::NAN, -0.0, 0.0, large, -large, 70000.0, f32::from_bits(1)],
        );
        let none = Products { terms: vec![(1, vec![0.0], vec![0.0; 8], 1.0)], ..made };
        none.check_values(
            format,
            &[f32::NEG_INFINITY, 1.0, -0.0, 0.0, large, 1.0e-40, -65520.0, f32::from_bits(1)],
        );
    }
}

/// More rows than are packed at once, of a lower rank than there is room for, and ranks that are cut.
#[test]
fn no_row_is_left_out() {
    let mut stream = Bits(15);
    for (rank, most) in [(2, 16), (5, 300), (70, 70), (130, 300)] {
        let rows = if rank < 64 { 700 } else { 40 };
        let made = products(&mut stream, (rows, 9), &[rank], 0.75, Bits::value);
        let codes: Vec<u16> = (0..rows * 9).map(|_| encode(FloatFormat::BF16, stream.value())).collect();
        let expected = made.merge(Kernels::scalar(), FloatFormat::BF16, &codes, 0);
        for kernels in Kernels::available() {
            let merged = made.merge_in(FusedScratch::new(most), kernels, FloatFormat::BF16, &codes, 0);
            let differing = (0..codes.len()).find(|i| merged[*i] != expected[*i]);
            assert_eq!(differing, None, "{}, rank {rank} in scratch for {most}", kernels.name());
        }
    }
}

#[test]
fn any_bits_are_rounded_right() {
    let mut stream = Bits(12);
    let any = |stream: &mut Bits| loop {
        let value = f32::from_bits(stream.next() as u32);
        if value.is_finite() {
            return value;
        }
    };
    for scale in [1.0, 3.0e-38, 1.0e-44, 0.1, -2.0, 3.0e38, 0.0] {
        let made = products(&mut stream, (7, 66), &[3, 2], scale, any);
        for format in FORMATS {
            let codes: Vec<u16> = (0..7 * 66).map(|_| code(&mut stream, format)).collect();
            made.check(format, &codes);
        }
    }
}

/// Sums that cancel to the last bit but one, in a product and against the base.
#[test]
fn cancellation_is_rounded_right() {
    let mut stream = Bits(13);
    let mut made = products(&mut stream, (6, 64), &[24], 1.0, Bits::value);
    let (_, left, right, _) = &mut made.terms[0];
    for k in (0..24).step_by(2) {
        // The second of a pair takes the first away, but for a part of 2⁻²³ or less.
        for row in 0..6 {
            left[row * 24 + k + 1] = -left[row * 24 + k];
        }
        for col in 0..64 {
            let nudge = (stream.next() % 3) as u32;
            right[(k + 1) * 64 + col] = f32::from_bits(right[k * 64 + col].to_bits() + nudge);
        }
    }
    for format in FORMATS {
        made.check(format, &[0; 6 * 64]);
        let near: Vec<u16> = (0..6 * 64)
            .map(|i| {
                let sum: f64 = made.terms().iter().map(|t| dot(t, i / 64, i % 64)).sum();
                encode(format, -sum as f32)
            })
            .collect();
        made.check(format, &near);
    }
}

fn dot(term: &Term<'_>, row: usize, col: usize) -> f64 {
    let product = |k| f64::from(term.left.at(row, k)) * f64::from(term.right.at(k, col));
    f64::from(term.scale) * (0..term.left.cols).map(product).sum::<f64>()
}

/// Deltas of exactly half a unit, and of a little more or less: 2⁻¹²⁰ of it, which only an exact sum sees.
#[test]
fn ties_are_rounded_to_even() {
    for format in FORMATS {
        let first = encode(format, 1.0);
        let codes: Vec<u16> =
            (0..64).map(|i| first + i as u16 / 4 + if i % 8 < 4 { 0 } else { 0x8000 }).collect();
        let half = 2.0_f32.powi(-(format.precision as i32));
        let tiny = [0.0, 2.0_f32.powi(-120), -2.0_f32.powi(-120), f32::from_bits(1)];
        for sign in [1.0, -1.0] {
            let right: Vec<f32> = (0..64).map(|_| sign * half).chain((0..64).map(|i| tiny[i % 4])).collect();
            let terms = vec![(2, vec![1.0, 1.0], right, 1.0)];
            Products { rows: 1, cols: 64, terms }.check(format, &codes);
        }
    }
}

#[test]
fn zeros_and_what_is_no_number_stay() {
    for format in FORMATS {
        let (sign, infinity) = (format.sign() as u16, format.infinity() as u16);
        let codes = [0, sign, 1, sign | 1, infinity, sign | infinity, infinity + 1, sign | 0x7fff];
        // A zero row, a zero column, and a product that underflows to either side of zero.
        let right = vec![0.0, 1.0, f32::from_bits(1), 1.0, 1.0, 1.0, 1.0, 1.0];
        for left in [0.0, 1.0e-30, -1.0e-30] {
            let made = Products { rows: 1, cols: 8, terms: vec![(1, vec![left], right.clone(), 0.5)] };
            made.check(format, &codes);
            let merged = made.merge(Kernels::detect(), format, &codes, 0);
            assert_eq!(merged[4..6], codes[4..6], "infinities stay");
        }
    }
}

#[test]
fn adapters_may_come_in_any_order() {
    let mut stream = Bits(14);
    let mut made = products(&mut stream, (12, 70), &[8, 8, 8], 0.3, Bits::value);
    for format in FORMATS {
        let codes: Vec<u16> = (0..12 * 70).map(|_| encode(format, stream.value())).collect();
        for kernels in Kernels::available() {
            let merged = made.merge(kernels, format, &codes, 0);
            made.terms.swap(0, 2); // both are stored one way
            assert!(made.merge(kernels, format, &codes, 0) == merged);
        }
    }
}
