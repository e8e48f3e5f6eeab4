//! Codes with zero points that are encoded again, and rules of torchao and quanto for new scales: against what these libraries make,
//! and against a slow way to the same.

use super::kept::{SIZES, encode_by, encode_in_tiles};
use super::kept_mlx::{hex, numbers, sample};
use super::*;

/// A weight of rows of so many columns, a scale for each block of them, and its file. No zero points where there are none.
fn weight(
    encoding: &'static str,
    (cols, block): (u64, u64),
    [codes, scales, zeros]: [&[u8]; 3],
) -> (Logical, Vec<u8>) {
    let rows = codes.len() as u64 / cols;
    let part = |offset: usize, dtype, cols| {
        let shape = Shape_::new(&[rows, cols]).unwrap();
        TensorRef { file: FileId(0), offset: offset as u64, dtype, shape }
    };
    let mut parts = vec![part(0, Dtype::I8, cols), part(codes.len(), Dtype::F32, cols / block)];
    if !zeros.is_empty() {
        parts.push(part(codes.len() + scales.len(), Dtype::I8, cols / block));
    }
    let (shape, block) = (Shape_::new(&[rows, cols]).unwrap(), (1, block));
    let fields = LogicalFields { encoding: encoding.into(), shape, block, parts, constants: Vec::new() };
    (fields.into(), [codes, scales, zeros].concat())
}

/// Every part of a weight of rows of 32 with all scales made anew. Zero points are what they are made from.
fn renewed(
    (encoding, block, zero): (&'static str, u64, Option<u8>),
    values: &[f32],
    size: (u64, u64),
) -> Vec<Vec<u8>> {
    let blocks = values.len() / block as usize;
    let (codes, scales) = (vec![0; values.len()], 1f32.to_le_bytes().repeat(blocks));
    let zeros = zero.map_or(Vec::new(), |zero| vec![zero; blocks]);
    let (logical, file) = weight(encoding, (32.max(block), block), [&codes, &scales, &zeros]);
    let parts = 0..logical.parts().len();
    parts.map(|part| encode_by(&logical, &file, (values, part), (size, true)).unwrap()).collect()
}

/// What torchao 0.18 and quanto 0.2.7 make of [`sample`] as two rows: codes, scales and zero points, the second with a mapping that is
/// not symmetric.
#[rustfmt::skip]
const MADE: [(&str, u64, &str, &str, &str); 5] = [
    ("torchao_int8", 16, "a2f950b91168d1287fe840a90057c01864dc2a79f140b80655cd1c6ae2317ff84fb50e67cd267fe63fa5fe57bd166fd52979ef3fb40454ca1a6ae0307ff545bb", "d9d8d83bf1f0f03bd5d4d43bedecec3b", "00000000"),
    ("torchao_int8", 16, "80e5499c0064b71b7fd23689ed51a4085cae1277c92d80e4499bff64b61a7fd14693fb62af177fcb3380e74f9c036bb81377c92e80e4499b0064b61b7fd13688", "bdbcbc3bbdbcbc3bb7b6b63bbdbcbc3b", "eddceadf"),
    ("torchao_float8", 32, "f9db78f6657af1707de975f90079f5697bf0717de576f85b79f36c7ced737edf78f7637af26f7dea74f9cf79f5697bf1717de776f85779f46b7cee727ee177f7", "9224093b6edb063b", ""),
    ("quanto_int8", 32, "abfa48c00f5dd62472eb39b2004ec71563dc2a79f140b80655cd1c6ae2317ff847bd0d5dd32272e838aefe4dc41363d92979ef3eb50454ca1a69e02f7ff545bb", "c8e3f13bb7dbed3b", ""),
    ("quanto_float8", 32, "f9db78f6657af1707de975f90079f5697bf0717de576f85b79f36c7ced737edf78f7637af26f7dea74f9cf79f5697bf1717de776f85779f46b7cee727ee177f7", "9224093b6edb063b", ""),
];

#[test]
fn new_scales_are_those_that_torchao_and_quanto_make() {
    for (at, (encoding, block, codes, scales, zeros)) in MADE.into_iter().enumerate() {
        let right: Vec<Vec<u8>> =
            [codes, scales, zeros].into_iter().map(hex).filter(|bytes| !bytes.is_empty()).collect();
        let zero = (right.len() == 3).then_some(if at == 1 { 9 } else { 0 });
        for size in SIZES {
            let made = renewed((encoding, block, zero), &sample(), size);
            assert!(made == right, "{encoding} in tiles of {size:?}: {made:x?}");
        }
    }
}

#[test]
fn zero_points_are_made_by_the_rule_of_torchao() {
    let values = numbers(3, 200, 32);
    for zero in [0, 9u8] {
        let made = renewed(("torchao_int8", 32, Some(zero)), &values, (1, 32));
        for (i, block) in values.chunks(32).enumerate() {
            let (low, high) = block.iter().fold((0f32, 0f32), |(low, high), x| (low.min(*x), high.max(*x)));
            let (range, zero) =
                if zero == 0 { (2.0 * low.abs().max(high), None) } else { (high - low, Some(low)) };
            let scale = ((f64::from(range) / 255.0) as f32).max(f32::EPSILON);
            let whole = |x: f32| f64::from(x).round_ties_even();
            let zero = zero.map_or(0.0, |low| (-128.0 - whole(low / scale)).clamp(-128.0, 127.0));
            assert_eq!(made[1][4 * i..][..4], scale.to_le_bytes(), "block {i}");
            assert_eq!(f64::from(made[2][i] as i8), zero, "block {i}");
            let inverse = (1.0 / f64::from(scale)) as f32;
            for (x, code) in block.iter().zip(&made[0][32 * i..]) {
                let right = (whole(x * inverse) + zero).clamp(-128.0, 127.0);
                assert_eq!(f64::from(*code as i8), right, "block {i}: {x}");
            }
        }
    }
}

/// Every code with every zero point.
#[test]
fn codes_with_zero_points_come_out_as_they_went_in() {
    let codes: Vec<u8> = (0..=u8::MAX).collect::<Vec<_>>().repeat(256);
    let zeros: Vec<u8> = (0..=u8::MAX).collect();
    let scales: Vec<u8> = (0..256).flat_map(|i| (0.0137f32 * (i as f32 + 1.3)).to_le_bytes()).collect();
    let parts = [&codes[..], &scales, &zeros];
    let (logical, file) = weight("torchao_int8", (256, 256), parts);
    let mut values = decode_in_tiles(&logical, &file, 1_000, 1_000);
    for (part, right) in parts.into_iter().enumerate() {
        let made = encode_in_tiles(&logical, &file, (&values, part), (3, 64)).unwrap();
        assert!(made == right, "part {part}");
    }
    // Half a step beyond the last code of a row is its last code; what is beyond that gives this row another scale, and in the end
    // another zero point.
    for (beyond, changed) in [(0.49, [0, 0]), (0.51, [1, 0]), (20.0, [1, 1])] {
        values[5 * 256 + 7] = (127.0 + beyond - 5.0) * 0.0137f32 * (5.0 + 1.3);
        for ((part, size), count) in [(1, 4), (2, 1)].into_iter().zip(changed) {
            let made = encode_in_tiles(&logical, &file, (&values, part), (3, 64)).unwrap();
            let pairs = made.chunks(size).zip(parts[part].chunks(size)).enumerate();
            let differ: Vec<usize> = pairs.filter(|(_, (made, old))| made != old).map(|(i, _)| i).collect();
            assert_eq!(differ, vec![5; count], "part {part}, {beyond} steps beyond");
        }
    }
}

/// torchao rounds before it adds the zero point, so that halves go to the even number of steps from it.
#[test]
fn halves_are_rounded_before_zero_points_are_added() {
    let (logical, file) = weight("torchao_int8", (4, 4), [&[0; 4], &0.5f32.to_le_bytes(), &[1]]);
    let made = encode_in_tiles(&logical, &file, (&[1.25, 1.75, -0.25, -0.75], 0), (1, 4)).unwrap();
    assert_eq!(made, [3, 5, 1, 255]);
}
