//! Weights of MLX that are encoded again: codes that stay, and new scales against what MLX makes and against a slow way to the same.

use super::kept::{SIZES, encode_by, encode_in_tiles};
use super::*;
use crate::encodings::codes::E2M1;
use crate::encodings::number::{number, rounded};
use crate::kernels::float8::E4M3;

/// A weight of one row: mode, bits, columns of a group; codes as MLX stores them, and what stands beside them.
type Stored<'s> = (&'static str, u64, u64, [&'s [u8]; 3], Dtype);

fn weight((encoding, bits, group, tensors, dtype): Stored<'_>) -> (Logical, Vec<u8>) {
    let cols = tensors[0].len() as u64 * 8 / bits;
    let (mut parts, mut offset) = (Vec::new(), 0);
    for (i, bytes) in tensors.iter().enumerate().filter(|(_, bytes)| !bytes.is_empty()) {
        let (dtype, len) = if i == 0 { (Dtype::U32, cols * bits / 32) } else { (dtype, cols / group) };
        let shape = Shape_::new(&[1, len]).unwrap();
        parts.push(TensorRef { file: FileId(0), offset, dtype, shape });
        offset += bytes.len() as u64;
    }
    let (shape, block, constants) = (Shape_::new(&[1, cols]).unwrap(), (1, group), vec![bits as f32]);
    let fields = LogicalFields { encoding: encoding.into(), shape, block, parts, constants };
    (fields.into(), tensors.concat())
}

/// Scales and biases of another weight, for one that gets new ones.
fn others(dtype: Dtype, groups: usize, has_biases: bool) -> [Vec<u8>; 2] {
    let size = dtype.bitsize() / 8;
    [vec![0; groups * size], vec![0; if has_biases { groups * size } else { 0 }]]
}

/// Every part of a weight with all scales made anew.
fn renewed(stored: (&'static str, u64, u64, Dtype), values: &[f32], size: (u64, u64)) -> Vec<Vec<u8>> {
    let (encoding, bits, group, dtype) = stored;
    let codes = vec![0; values.len() * bits as usize / 8];
    let [scales, biases] = others(dtype, values.len() / group as usize, encoding == "mlx_affine");
    let (logical, file) = weight((encoding, bits, group, [&codes, &scales, &biases], dtype));
    let parts = 0..logical.parts().len();
    parts.map(|part| encode_by(&logical, &file, (values, part), (size, true)).unwrap()).collect()
}

pub(super) fn hex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().as_chunks::<2>().0;
    digits.iter().map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// What `quantize` of MLX 0.32.4 makes on a CPU of [`sample`] in BF16: codes, scales and biases.
#[rustfmt::skip]
const MADE: [(&str, u64, u64, &str, &str, &str); 9] = [
    ("mlx_affine", 2, 32, "db76d8b61cb62d866d876dcb61db72d8", "f0beecbe", "703f6c3f"),
    ("mlx_affine", 3, 32, "a7cc74a84c79e94099f1528132d3a13ae5a54365c64b07ca", "70be6cbe", "703f6c3f"),
    ("mlx_affine", 4, 32, "9fe4286ca1f5398dc2064a9ed3276ba0e4287cb1f5498dc2065a9ed3276ba0e4", "d5bdd2bd", "703f6c3f"),
    ("mlx_affine", 5, 32, "9f221e4b76c2aa3f0f8704b750959766bf7119a0a8c7a29db8ebcfc321c92d58e5a5d96f60066aea", "4abd47bd", "703f6c3f"),
    ("mlx_affine", 6, 32, "3f0ae5a2326f045bf5e67383489c09eac4934ded19ef05a4912e2a3447b4957f3e3888c89ab04e7dd9d89e0163401aed", "cabcc7bc", "703f6c3f"),
    ("mlx_affine", 8, 32, "ffa142e68729cc6e0fb254f7993bde8021c46608ab4cf09133d6781abd5e00a344ec8b2ad27110b857ff9e3ce58322ca6908b04ff79635dd7b1ac26100a847ef", "c9bbc3bb", "703f6c3f"),
    ("mlx_mxfp4", 4, 32, "0cc4512a95c3401ba562490cb4523a06c4512b95c3401ba552490cb4513a96c4", "7d7d", ""),
    ("mlx_mxfp8", 8, 32, "f2d470ef5e73ea6876e26ef10071ee6274e86a76de6ff05472ec6574e66c77d870f05c73ea6875e36df2c871ee6174e96a76e06ef15072ec6474e76b77da70f0", "7777", ""),
    ("mlx_nvfp4", 4, 16, "9ed6624ca7e5602db674591dc6634b97d6614ca7e5602dc7745a0dc6624b97d5", "21222122", ""),
];

pub(super) fn sample() -> Vec<f32> {
    (0..64).map(|i| ((i * 37 % 101) as f32 - 40.0) / 64.0).collect()
}

#[test]
fn new_scales_are_those_that_mlx_makes() {
    for (encoding, bits, group, codes, scales, biases) in MADE {
        let right: Vec<Vec<u8>> =
            [codes, scales, biases].into_iter().map(hex).filter(|it| !it.is_empty()).collect();
        let dtype = if biases.is_empty() { Dtype::U8 } else { Dtype::BF16 };
        for size in SIZES {
            let made = renewed((encoding, bits, group, dtype), &sample(), size);
            assert!(made == right, "{encoding} of {bits} bits in tiles of {size:?}: {made:x?}");
        }
    }
}

/// Numbers like those of a weight, but for some groups that are all alike, of one sign, or very small.
pub(super) fn numbers(seed: u32, groups: usize, group: usize) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / 8_388_608.0 - 1.0
    };
    let of_group = |at: usize| -> Vec<f32> {
        let values = (0..group).map(|_| next() * 2f32.powi(at as i32 % 23 - 11));
        match at % 7 {
            0 => vec![next(); group],
            1 => values.map(f32::abs).collect(),
            2 => values.map(|value| -value.abs()).collect(),
            3 => vec![0.0; group],
            _ => values.collect(),
        }
    };
    (0..groups).flat_map(of_group).collect()
}

/// What MLX makes of a group of affine codes, in f64 as far as f32 is rounded to: codes, scale, bias.
fn affine(values: &[f32], bits: u64) -> (Vec<u32>, f32, f32) {
    let most = f64::from((1u32 << bits) - 1);
    let (low, high) = values.iter().fold((f32::MAX, f32::MIN), |(low, high), x| (low.min(*x), high.max(*x)));
    let mut scale = ((f64::from(high - low) / most) as f32).max(1e-7);
    let is_low = low.abs() > high.abs();
    let edge = if is_low { low } else { high };
    scale = if is_low { scale } else { -scale };
    let steps = f64::from((f64::from(edge) / f64::from(scale)) as f32).round_ties_even();
    let mut bias = 0.0;
    if steps != 0.0 {
        (scale, bias) = ((f64::from(edge) / steps) as f32, edge);
    }
    let code = |x: &f32| f64::from((f64::from(x - bias) / f64::from(scale)) as f32).round_ties_even();
    (values.iter().map(|x| code(x).clamp(0.0, most) as u32).collect(), scale, bias)
}

#[test]
fn affine_groups_are_made_by_its_rule() {
    for (bits, group) in
        [2, 3, 4, 5, 6, 8].into_iter().flat_map(|bits| [32, 64, 128].map(|group| (bits, group)))
    {
        for dtype in [Dtype::F32, Dtype::BF16, Dtype::F16] {
            let values = numbers(bits as u32 + 9, 70, group);
            let made = renewed(("mlx_affine", bits, group as u64, dtype), &values, (1, 300));
            for (i, of_group) in values.chunks(group).enumerate() {
                let (codes, scale, bias) = affine(of_group, bits);
                let what = format!("{bits} bits, groups of {group}, {dtype:?}, group {i}");
                let stored = [1, 2].map(|part| number(dtype, &made[part], i));
                assert_eq!(stored, [scale, bias].map(|number| rounded(dtype, number)), "{what}");
                let words = made[0].as_chunks::<4>().0;
                let bit = |at: u64| u32::from_le_bytes(words[at as usize / 32]) >> (at % 32) & 1;
                for (col, code) in codes.iter().enumerate() {
                    let first = (i * group + col) as u64 * bits;
                    let found = (0..bits).fold(0, |code, at| code | bit(first + at) << at);
                    assert_eq!(found, *code, "{what}, column {col}");
                }
            }
        }
    }
}

#[test]
fn float_groups_are_made_by_its_rule() {
    for (encoding, bits, group, table) in
        [("mlx_mxfp4", 4, 32, &E2M1[..]), ("mlx_mxfp8", 8, 32, &E4M3), ("mlx_nvfp4", 4, 16, &E2M1)]
    {
        let values = numbers(bits + 3, 161, group);
        let made = renewed((encoding, bits.into(), group as u64, Dtype::U8), &values, (1, 300));
        let most = if bits == 8 { 448.0 } else { 6.0 };
        for (i, of_group) in values.chunks(group).enumerate() {
            let largest = of_group.iter().fold(0.0f32, |most, x| most.max(x.abs()));
            let scale = if encoding == "mlx_nvfp4" {
                // The nearest of all, of two the even one.
                let error = |code: &u8| (E4M3[usize::from(*code)] - largest / 6.0).abs();
                (0..127u8).min_by(|one, other| {
                    error(one).total_cmp(&error(other)).then((one % 2).cmp(&(other % 2)))
                })
            } else {
                (0..254u8).find(|code| {
                    largest == 0.0 && *code == 127 || largest > 0.0 && power_of(*code) >= largest / most
                })
            };
            let scale = scale.unwrap();
            assert_eq!(made[1][i], scale, "{encoding}, group {i}");
            let by = if encoding == "mlx_nvfp4" { E4M3[usize::from(scale)] } else { power_of(scale) };
            for (col, x) in of_group.iter().enumerate() {
                let at = i * group + col;
                let code = if bits == 8 { made[0][at] } else { made[0][at / 2] >> (at % 2 * 4) & 15 };
                let quotient = if by == 0.0 { 0.0 } else { x / by };
                let errors = table.iter().map(|value| (value - quotient).abs());
                let least = errors.filter(|error| !error.is_nan()).fold(f32::MAX, f32::min);
                let found = table[usize::from(code)];
                assert_eq!((found - quotient).abs(), least, "{encoding}, group {i}, {x} as {found}");
                let is_zero = bits == 4 && found == 0.0;
                assert!(!is_zero || code == 0, "zeros have no sign");
            }
        }
    }
}

/// Of two codes of E2M1 that are as near, MLX takes the one nearer to 0, and 0 has no sign.
#[test]
fn numbers_between_two_codes_go_towards_zero() {
    let mut values = vec![0.0; 32];
    values[..9].copy_from_slice(&[6.0, 0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0, -0.1]);
    values[9..17].copy_from_slice(&[-0.25, -0.75, -1.25, -1.75, -2.5, -3.5, -5.0, -0.0]);
    let made = renewed(("mlx_mxfp4", 4, 32, Dtype::U8), &values, (1, 32));
    assert_eq!(made[0], hex("0721436500a9cbed0000000000000000".get(..32).unwrap()).as_slice());
    assert_eq!(made[1], [127]);
}

/// All codes with scales of many sizes, a scale of 0, and biases so large that codes cannot be told from values.
#[test]
fn every_code_of_mlx_comes_out_as_it_went_in() {
    let all: Vec<u8> = (0..=u8::MAX).cycle().take(3 * 256).collect();
    let bits_of = |bits: u64, group: u64| (all.len() as u64 * 8 / bits / group) as usize;
    for (bits, dtype) in
        [2, 3, 4, 6, 8].into_iter().flat_map(|b| [Dtype::F32, Dtype::BF16, Dtype::F16].map(|d| (b, d)))
    {
        let groups = bits_of(bits, 32);
        let of = |numbers: &mut dyn FnMut(usize) -> f32| -> Vec<u8> {
            let mut bytes = vec![0; groups * dtype.bitsize() / 8];
            let each = bytes.chunks_mut(dtype.bitsize() / 8).enumerate();
            each.for_each(|(i, bytes)| crate::encodings::number::store(dtype, bytes, numbers(i)));
            bytes
        };
        let scales = of(&mut |i| [0.37, -0.011, 1e-3, -1e-7, 0.0, 2.0][i % 6] * (1.0 + i as f32 / 37.0));
        let biases = of(&mut |i| [0.0, -1.7, 100.0, 3.0, -0.25][i % 5]);
        let (logical, file) = weight(("mlx_affine", bits, 32, [&all, &scales, &biases], dtype));
        comes_back(&logical, &file, [&all, &scales, &biases]);
    }
    let floats: Vec<u8> = all.iter().map(|code| if code & 0x7f == 0x7f { 0 } else { *code }).collect();
    let powers: Vec<u8> = (0..bits_of(8, 32) * 2).map(|i| 60 + i as u8 * 2).collect();
    let eighths: Vec<u8> = (0..bits_of(4, 16)).map(|i| (1 + i % 126) as u8).collect();
    for stored in [
        ("mlx_mxfp4", 4, 32, [&all[..], &powers, &[]], Dtype::U8),
        ("mlx_mxfp8", 8, 32, [&floats[..], &powers[..24], &[]], Dtype::U8),
        ("mlx_nvfp4", 4, 16, [&all, &eighths, &[]], Dtype::U8),
    ] {
        let (logical, file) = weight(stored);
        comes_back(&logical, &file, stored.3);
    }
}

/// Holds what is made of a weight's values against its parts.
fn comes_back(logical: &Logical, file: &[u8], parts: [&[u8]; 3]) {
    let values = decode_in_tiles(logical, file, 1_000, 1_000);
    for (part, right) in parts.into_iter().enumerate().filter(|(_, right)| !right.is_empty()) {
        let made = encode_in_tiles(logical, file, (&values, part), (1, 64)).unwrap();
        let wrong = made.iter().zip(right).position(|(made, right)| made != right);
        assert_eq!(wrong, None, "{} {:?}: part {part}", logical.encoding(), logical.parts()[1].dtype);
    }
}

/// A value that does not fit changes the numbers of its group alone.
#[test]
fn one_value_changes_one_group() {
    for vector in ["mlx_affine_3bit_g64", "mlx_affine_8bit_g32", "mlx_mxfp4_4bit_g32", "mlx_nvfp4_4bit_g16"] {
        let (logical, file) = logical(vector);
        let (cols, group) = (logical.shape().axes()[1], logical.block().1);
        let mut values = decode_in_tiles(&logical, &file, 1_000, 1_000);
        let at = (cols + group + 3) as usize;
        let changed = at / group as usize;
        let largest = values.iter().fold(0.0f32, |most, x| most.max(x.abs()));
        values[at] = 3.0 * largest;
        for part in 1..logical.parts().len() {
            let tensor = &logical.parts()[part];
            let old = &file[tensor.offset as usize..][..tensor.bytes() as usize];
            let new = encode_in_tiles(&logical, &file, (&values, part), (2, 64)).unwrap();
            let size = tensor.dtype.bitsize() / 8;
            let differ =
                old.chunks(size).zip(new.chunks(size)).enumerate().filter(|(_, (old, new))| old != new);
            assert_eq!(differ.map(|(i, _)| i).collect::<Vec<_>>(), [changed], "{vector}: part {part}");
        }
    }
}
