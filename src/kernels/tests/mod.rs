//! Every kernel against the scalar one bit for bit, the scalar one against oracles that share no code with it.

pub(crate) mod billion;
pub(crate) mod exact;
pub(crate) mod fused;
pub(crate) mod product;
pub(crate) mod rational;

use half::{bf16, f16};
use proptest::prelude::*;

use crate::kernels::dispatch::Kernels;
use crate::kernels::float8::ceil_log2;
use crate::kernels::outcome::Narrowed;
use crate::kernels::product::{Matrix, RANK_BLOCK};

/// Around the widths of vectors and of the counting run, and beyond it.
const SIZES: [usize; 16] = [0, 1, 2, 3, 7, 8, 15, 17, 31, 33, 255, 257, 4095, 4096, 4097, 40_001];

type Widen = fn(Kernels, &[u8], &mut [f32]) -> bool;
type Narrow = fn(Kernels, &[f32], &mut [u8]) -> Narrowed;

const WIDENERS: [(&str, usize, Widen); 4] = [
    ("bf16", 2, Kernels::widen_bf16),
    ("f16", 2, Kernels::widen_f16),
    ("f32", 4, Kernels::widen_f32),
    ("e4m3", 1, Kernels::widen_e4m3),
];
const NARROWERS: [(&str, usize, Narrow); 4] = [
    ("bf16", 2, Kernels::narrow_bf16),
    ("f16", 2, Kernels::narrow_f16),
    ("f32", 4, Kernels::narrow_f32),
    ("e4m3", 1, Kernels::narrow_e4m3),
];

/// A stream of bits from a seed (splitmix64).
struct Bits(u64);

impl Bits {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Finite, of mixed sign, spread over 24 binary orders of magnitude.
    fn value(&mut self) -> f32 {
        let mantissa = (self.next() >> 40) as f32 / (1 << 24) as f32 - 0.5;
        mantissa * 2.0_f32.powi((self.next() % 24) as i32 - 12)
    }

    fn values(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.value()).collect()
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next() as u8).collect()
    }
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

fn vector_kernels() -> Vec<Kernels> {
    Kernels::available().split_off(1)
}

fn assert_widens_alike(bytes: &[u8]) {
    for (dtype, width, widen) in WIDENERS {
        let bytes = &bytes[..bytes.len() / width * width];
        let mut expected = vec![0.0; bytes.len() / width];
        let finite = widen(Kernels::scalar(), bytes, &mut expected);
        assert_eq!(finite, expected.iter().all(|value| value.is_finite()), "{dtype}");
        for kernels in vector_kernels() {
            let mut out = vec![f32::NAN; expected.len()];
            assert_eq!(widen(kernels, bytes, &mut out), finite, "{dtype} {}", kernels.name());
            assert_eq!(bits(&out), bits(&expected), "{dtype} {}", kernels.name());
        }
    }
}

/// `offset` shifts the codes away from any alignment; `before` fills them.
fn assert_narrows_alike(values: &[f32], offset: usize, before: &[u8]) {
    for (dtype, width, narrow) in NARROWERS {
        let before = &before[..offset + values.len() * width];
        let mut expected = before.to_vec();
        let narrowed = narrow(Kernels::scalar(), values, &mut expected[offset..]);
        let differing = before[offset..].chunks(width).zip(expected[offset..].chunks(width));
        assert_eq!(narrowed.changed, differing.filter(|(old, new)| old != new).count() as u64, "{dtype}");
        for kernels in vector_kernels() {
            let mut bytes = before.to_vec();
            assert_eq!(narrow(kernels, values, &mut bytes[offset..]), narrowed, "{dtype} {}", kernels.name());
            assert!(bytes == expected, "{dtype} {}", kernels.name());
            let again = narrow(kernels, values, &mut bytes[offset..]);
            assert_eq!(again, Narrowed { changed: 0, ..narrowed }, "{dtype} {}", kernels.name());
        }
    }
}

/// One special value at each place of a short run must be seen, by the vector loop as by the tail.
#[test]
fn one_value_that_is_not_finite_is_found_wherever_it_stands() {
    for place in 0..40 {
        for special in [f32::INFINITY, f32::NEG_INFINITY, f32::NAN, -f32::NAN] {
            let mut values = [1.5; 40];
            values[place] = special;
            for kernels in Kernels::available() {
                for ((dtype, width, narrow), (_, _, widen)) in NARROWERS.into_iter().zip(WIDENERS) {
                    let mut bytes = vec![0; 40 * width];
                    assert!(!narrow(kernels, &values, &mut bytes).finite, "{dtype} {}", kernels.name());
                    assert!(!widen(kernels, &bytes, &mut [0.0; 40]), "{dtype} {}", kernels.name());
                }
            }
        }
    }
}

#[test]
fn every_size_and_alignment_gives_the_scalar_result() {
    let mut stream = Bits(1);
    for size in SIZES {
        for offset in 0..4 {
            let bytes = stream.bytes(offset + 4 * size);
            assert_widens_alike(&bytes[offset..]);
            let values = stream.values(size);
            assert_narrows_alike(&values, offset, &bytes);
            for kernels in vector_kernels() {
                let delta = stream.values(size);
                let (mut expected, mut acc) = (values.clone(), values.clone());
                let (mut by_scalar, mut scaled) = (delta.clone(), delta.clone());
                Kernels::scalar().add_scaled(&mut expected, &mut by_scalar, 0.3);
                kernels.add_scaled(&mut acc, &mut scaled, 0.3);
                assert!(bits(&by_scalar) == bits(&scaled), "what was added is left");
                let (mut lanes, mut expected_lanes) = ([0.5; 8], [0.5; 8]);
                Kernels::scalar().add_squares(&delta, &mut expected_lanes);
                kernels.add_squares(&delta, &mut lanes);
                assert_eq!(lanes, expected_lanes);
                let (mut sums, mut expected_sums) = (vec![0.25; delta.len()], vec![0.25; delta.len()]);
                Kernels::scalar().add_squares_each(&delta, &mut expected_sums);
                kernels.add_squares_each(&delta, &mut sums);
                assert_eq!(sums, expected_sums);
                let retention_sums = |kernels: Kernels| kernels.retention_sums(&acc, &delta, &scaled, &delta);
                assert_eq!(retention_sums(kernels), retention_sums(Kernels::scalar()));
                assert_eq!(bits(&acc), bits(&expected), "{} {size}", kernels.name());
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_bits_convert_as_scalar_does(
        patterns in prop::collection::vec(any::<u32>(), 0..600),
        seed in any::<u64>(),
        offset in 0_usize..4,
    ) {
        let values: Vec<f32> = patterns.iter().map(|bits| f32::from_bits(*bits)).collect();
        let bytes = Bits(seed).bytes(offset + 4 * values.len());
        assert_narrows_alike(&values, offset, &bytes);
        assert_widens_alike(&bytes[offset..]);
    }
}

#[test]
fn all_two_byte_codes_widen_exactly() {
    let codes: Vec<u16> = (0..=u16::MAX).collect();
    let bytes: Vec<u8> = codes.iter().flat_map(|code| code.to_le_bytes()).collect();
    for kernels in Kernels::available() {
        let mut out = vec![0.0; codes.len()];
        assert!(!kernels.widen_f16(&bytes, &mut out));
        for (code, value) in codes.iter().zip(&out) {
            assert_eq!(value.to_bits(), f16::from_bits(*code).to_f32().to_bits(), "f16 {code:#06x}");
        }
        assert!(!kernels.widen_bf16(&bytes, &mut out));
        for (code, value) in codes.iter().zip(&out) {
            assert_eq!(value.to_bits(), u32::from(*code) << 16, "bf16 {code:#06x}");
            let oracle = bf16::from_bits(*code).to_f32(); // makes a NaN quiet, which loses a bit
            assert!(oracle.is_nan() && value.is_nan() || oracle.to_bits() == value.to_bits());
        }
    }
}

/// Narrows `patterns` with every kernel and compares each code with `half`.
fn assert_narrows_as_half(patterns: &[u32]) {
    let values: Vec<f32> = patterns.iter().map(|bits| f32::from_bits(*bits)).collect();
    let mut bytes = vec![0; 2 * values.len()];
    for kernels in Kernels::available() {
        kernels.narrow_bf16(&values, &mut bytes);
        for (value, code) in values.iter().zip(bytes.as_chunks().0) {
            let expected = bf16::from_f32(*value).to_bits();
            assert_eq!(
                u16::from_le_bytes(*code),
                expected,
                "bf16 of {:#010x} {}",
                value.to_bits(),
                kernels.name()
            );
        }
        kernels.narrow_f16(&values, &mut bytes);
        for (value, code) in values.iter().zip(bytes.as_chunks().0) {
            let expected = f16::from_f32(*value).to_bits();
            assert_eq!(
                u16::from_le_bytes(*code),
                expected,
                "f16 of {:#010x} {}",
                value.to_bits(),
                kernels.name()
            );
        }
    }
}

#[test]
fn a_walk_through_all_exponents_narrows_as_half() {
    let patterns: Vec<u32> = (0..=u32::MAX).step_by(4099).collect();
    assert_narrows_as_half(&patterns);
}

#[test]
fn all_ties_and_their_neighbors_narrow_as_half() {
    let low_halves = [0x0000, 0x0001, 0x7fff, 0x8000, 0x8001, 0xffff];
    let bf16_ties = (0..=u32::from(u16::MAX)).flat_map(|high| low_halves.map(|low| (high << 16) | low));
    assert_narrows_as_half(&bf16_ties.collect::<Vec<_>>());

    // Half-way between an f16 and the next, from 0 up to where infinity begins.
    let f16_ties = (0..0x7c00_u16).flat_map(|code| {
        let here = f16::from_bits(code).to_f32();
        let next = if code == 0x7bff { 65536.0 } else { f16::from_bits(code + 1).to_f32() };
        let tie = (here + (next - here) / 2.0).to_bits();
        [tie - 1, tie, tie + 1].into_iter().flat_map(|bits| [bits, bits | 0x8000_0000])
    });
    assert_narrows_as_half(&f16_ties.collect::<Vec<_>>());
}

#[test]
#[ignore = "walks all 2^32 values, `make exhaustive`: run it when convert.rs or f16c.rs changes"]
fn every_value_narrows_as_half() {
    for high in 0..=u16::MAX {
        let patterns: Vec<u32> = (0..=u16::MAX).map(|low| (u32::from(high) << 16) | u32::from(low)).collect();
        assert_narrows_as_half(&patterns);
    }
}

/// What the format's definition says: s eeee mmm.
fn e4m3(code: u8) -> f64 {
    let (exponent, mantissa) = (i32::from(code >> 3 & 15), f64::from(code & 7));
    let magnitude = match code & 0x7f {
        0x7f => f64::NAN,
        0..8 => mantissa * 2.0_f64.powi(-9),
        _ => (1.0 + mantissa / 8.0) * 2.0_f64.powi(exponent - 7),
    };
    if code < 0x80 { magnitude } else { -magnitude }
}

#[test]
fn all_one_byte_codes_widen_exactly() {
    let codes: Vec<u8> = (0..=u8::MAX).collect();
    for kernels in Kernels::available() {
        let mut out = vec![0.0; 256];
        assert!(!kernels.widen_e4m3(&codes, &mut out));
        for (code, value) in codes.iter().zip(&out) {
            let expected = match code {
                0x7f => 0x7ff0_0000,
                0xff => 0xfff0_0000,
                _ => (e4m3(*code) as f32).to_bits(),
            };
            assert_eq!(value.to_bits(), expected, "e4m3 {code:#04x} {}", kernels.name());
        }
        assert!(kernels.widen_e4m3(&codes[..0x7f], &mut out[..0x7f]));
        assert!(kernels.widen_e4m3(&codes[0x80..0xff], &mut out[..0x7f]));
    }
}

/// The E4M3 code whose value is nearest, the even one of two: looked for among all. Past 448 a 480 would follow, and what
/// is nearest to that is NaN.
fn nearest_e4m3(value: f32) -> u8 {
    let sign = if value.is_sign_negative() { 0x80 } else { 0 };
    if value.is_nan() {
        return sign | 0x7f;
    }
    let magnitude = f64::from(value.abs()).min(480.0); // so that f64 tells all distances apart
    let distance = |code| (magnitude - if code == 0x7f { 480.0 } else { e4m3(code) }).abs();
    let nearest = (0..=0x7f).min_by(|a, b| distance(*a).total_cmp(&distance(*b)).then((a & 1).cmp(&(b & 1))));
    sign | nearest.unwrap()
}

/// Narrows `patterns` with every kernel and compares each code with the nearest, and what is reported with the codes.
fn assert_narrows_to_the_nearest_e4m3(patterns: &[u32]) {
    let values: Vec<f32> = patterns.iter().map(|bits| f32::from_bits(*bits)).collect();
    let expected: Vec<u8> = values.iter().map(|value| nearest_e4m3(*value)).collect();
    for kernels in Kernels::available() {
        let mut bytes = vec![0; values.len()];
        let narrowed = kernels.narrow_e4m3(&values, &mut bytes);
        for (bits, (code, expected)) in patterns.iter().zip(bytes.iter().zip(&expected)) {
            assert_eq!(code, expected, "e4m3 of {bits:#010x} {}", kernels.name());
        }
        assert_eq!(narrowed.finite, expected.iter().all(|code| code & 0x7f != 0x7f), "{}", kernels.name());
        assert_eq!(narrowed.changed, expected.iter().filter(|code| **code != 0).count() as u64);
    }
}

#[test]
fn any_value_narrows_to_the_nearest_e4m3() {
    let mut stream = Bits(4);
    assert_narrows_to_the_nearest_e4m3(&(0..100_000).map(|_| stream.next() as u32).collect::<Vec<_>>());
    // Most of those are beyond the format; these are not.
    let within = (0..100_000).map(|_| ((stream.value() / 8.0).to_bits()) ^ (stream.next() as u32 >> 24));
    assert_narrows_to_the_nearest_e4m3(&within.collect::<Vec<_>>());
}

/// Every number, every half-way point and what lies beside them, up to where NaN begins and at the ends of f32.
#[test]
fn all_e4m3_ties_and_their_neighbors_narrow_to_the_nearest() {
    let numbers: Vec<f64> = (0..0x7f).map(e4m3).chain([480.0]).collect();
    let ties = numbers.windows(2).map(|pair| f64::midpoint(pair[0], pair[1]));
    let points = numbers.iter().copied().chain(ties).map(|point| (point as f32).to_bits());
    let ends = [0, 1, 0x007f_ffff, 0x0080_0000, 0x7f7f_ffff, 0x7f80_0000, 0x7f80_0001, 0x7fff_ffff];
    let around = points.flat_map(|bits| [bits.saturating_sub(1), bits, bits + 1]).chain(ends);
    assert_narrows_to_the_nearest_e4m3(&around.flat_map(|bits| [bits, bits | 1 << 31]).collect::<Vec<_>>());
}

/// Rounding keeps order, so all values between two of the same code have that code and need not be looked up.
#[test]
#[ignore = "walks all 2^32 values, `make exhaustive`: run it when convert.rs or scalar.rs changes"]
fn every_value_narrows_to_the_nearest_e4m3() {
    for high in 0..=u16::MAX {
        let patterns: Vec<u32> = (0..=u16::MAX).map(|low| (u32::from(high) << 16) | u32::from(low)).collect();
        let values: Vec<f32> = patterns.iter().map(|bits| f32::from_bits(*bits)).collect();
        let (first, last) = (nearest_e4m3(values[0]), nearest_e4m3(values[0xffff]));
        let expected: Vec<u8> = if first == last {
            vec![first; values.len()]
        } else {
            values.iter().map(|value| nearest_e4m3(*value)).collect()
        };
        let mut bytes = vec![0; values.len()];
        for kernels in Kernels::available() {
            kernels.narrow_e4m3(&values, &mut bytes);
            assert!(bytes == expected, "{high:#06x} {}", kernels.name());
        }
    }
}

/// Beside every power of two an f32 can hold, and at both ends.
#[test]
fn the_logarithm_rounds_up_from_the_bits() {
    for exponent in -149..=127 {
        let power = 2.0_f64.powi(exponent) as f32;
        assert_eq!(ceil_log2(power), Some(exponent));
        assert_eq!(ceil_log2(power.next_up()), Some(exponent + 1));
    }
    assert_eq!(ceil_log2(f32::from_bits(7)), Some(-146));
    assert_eq!(ceil_log2(f32::MIN_POSITIVE.next_down()), Some(-126));
    assert_eq!(ceil_log2(f32::MAX), Some(128));
    for value in [0.0, -0.0, -1.0, -f32::from_bits(1), f32::INFINITY, f32::NEG_INFINITY, f32::NAN] {
        assert_eq!(ceil_log2(value), None, "{value}");
    }
}

#[test]
fn overflow_is_reported() {
    for kernels in Kernels::available() {
        let name = kernels.name();
        let bytes = &mut [0; 2];
        assert!(kernels.narrow_f16(&[65519.996], bytes).finite, "{name}");
        assert!(!kernels.narrow_f16(&[65520.0], bytes).finite, "{name}");
        assert_eq!(*bytes, 0x7c00_u16.to_le_bytes(), "{name}");
        assert!(kernels.narrow_bf16(&[f32::from_bits(0x7f7f_7fff)], bytes).finite, "{name}");
        assert!(!kernels.narrow_bf16(&[-f32::MAX], bytes).finite, "{name}");
        let byte = &mut [0];
        assert!(kernels.narrow_e4m3(&[464.0], byte).finite, "{name}");
        assert_eq!(*byte, [0x7e], "{name}");
        assert!(!kernels.narrow_e4m3(&[464.0_f32.next_up()], byte).finite, "{name}");
        assert_eq!(*byte, [0x7f], "{name}");
        assert!(!kernels.narrow_e4m3(&[f32::NEG_INFINITY], byte).finite, "{name}");
        assert_eq!(*byte, [0xff], "{name}");
    }
}

/// A case where fusing would give another sum.
#[test]
fn adding_rounds_twice() {
    let (delta, scale, acc) = (1.0 + f32::EPSILON, 1.0 + f32::EPSILON, -(1.0 + 2.0 * f32::EPSILON));
    assert_ne!(delta.mul_add(scale, acc), 0.0);
    for kernels in Kernels::available() {
        let mut values = [acc; 19];
        kernels.add_scaled(&mut values, &mut [delta; 19], scale);
        assert_eq!(values, [0.0; 19], "{}", kernels.name());
    }
}

/// Subnormals survive every operation.
#[test]
fn nothing_is_flushed_to_zero() {
    let tiny = f32::from_bits(1);
    for kernels in Kernels::available() {
        let mut values = [tiny; 19];
        kernels.add_scaled(&mut values, &mut [tiny; 19], 2.0);
        assert_eq!(bits(&values), [3; 19], "{}", kernels.name());
        let mut product = [0.0; 19];
        kernels.product(Matrix::row_major(&[tiny], 1, 1), Matrix::row_major(&[3.0; 19], 1, 19), &mut product);
        assert_eq!(bits(&product), [3; 19], "{}", kernels.name());
    }
}
