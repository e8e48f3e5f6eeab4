//! Codes that share bytes with distant ones, encoded again in the order of their bytes.

use super::across::bits;
use super::kept::{SIZES, encode_in_tiles};
use super::*;
use crate::encodings::encoding::WrittenOrder;
use crate::encodings::interleaved::interleaved;

/// Vectors whose bytes hold values of one column each.
const VECTORS: [&str; 5] =
    ["hqq4_g64_axis0", "hqq4_g64_axis1", "hqq8_g32_axis0", "hqq8_g32_axis1", "hqq1_g24_axis1"];
/// Others: bytes of several columns, or with bits that are no values.
const OTHERS: [&str; 4] = ["hqq2_g16_axis0", "hqq4_g40_axis1_bf16", "quanto_qint4", "quanto_qint2"];
/// Encoding, bits, rows × columns, values of a group, and whether its values follow each other. There are groups that reach beyond
/// a row, and scales that begin again in each row, with some row, and within one.
const MADE: [(&str, u64, [u64; 2], u64, bool); 8] = [
    ("hqq", 4, [8, 24], 12, true),
    ("hqq", 2, [8, 24], 16, true),
    ("hqq", 8, [6, 20], 10, true),
    ("hqq", 4, [16, 6], 8, false),
    ("hqq", 2, [16, 6], 12, false),
    ("hqq", 1, [16, 8], 32, false),
    ("quanto_int", 4, [6, 32], 16, true),
    ("quanto_int", 2, [8, 8], 4, true),
];

fn noise(seed: &mut u32) -> u32 {
    *seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
    *seed >> 8
}

/// A weight of random codes, scales and zero points or shifts, and its file.
fn made(
    (encoding, bits, [rows, cols], size, follow): (&'static str, u64, [u64; 2], u64, bool),
) -> (Logical, Vec<u8>) {
    let (groups, in_byte, mut seed) = (rows * cols / size, 8 / bits, 5);
    let bytes = rows * cols / in_byte;
    let codes = (0..bytes).map(|_| noise(&mut seed) as u8).collect::<Vec<_>>();
    let mut numbers = |least: f32| {
        let number = |_| half::f16::from_f32(least + (noise(&mut seed) % 64) as f32 / 64.0).to_le_bytes();
        (0..groups).flat_map(number).collect::<Vec<u8>>()
    };
    let file = [codes, numbers(0.25), numbers(2.0)].concat();
    let part = |offset, dtype, axes: [u64; 2]| TensorRef {
        file: FileId(0),
        offset,
        dtype,
        shape: Shape_::new(&axes).unwrap(),
    };
    let (stored, axes) =
        if follow { ([bytes / size, size], [groups, 1]) } else { ([bytes / groups, groups], [1, groups]) };
    let parts = [
        part(0, Dtype::U8, stored),
        part(bytes, Dtype::F16, axes),
        part(bytes + 2 * groups, Dtype::F16, axes),
    ];
    let fields = LogicalFields {
        encoding: encoding.into(),
        shape: Shape_::new(&[rows, cols]).unwrap(),
        block: if follow { (1, size) } else { (size, 1) },
        parts: parts.into_iter().flat_map(|part| [part.clone(), part]).collect(),
        constants: vec![bits as f32],
    };
    (fields.into(), file)
}

fn all() -> impl Iterator<Item = (String, Logical, Vec<u8>)> {
    let of_vector = |vector: &str| {
        let (logical, file) = logical(vector);
        (vector.to_owned(), logical, file)
    };
    let of_made = |how| {
        let (logical, file) = made(how);
        (format!("{how:?}"), logical, file)
    };
    VECTORS.into_iter().map(of_vector).chain(MADE.into_iter().map(of_made))
}

fn written(logical: &Logical) -> Option<(u64, Logical)> {
    let (order, written) = find_encoding(logical.encoding()).unwrap().across(logical)?;
    let WrittenOrder::Interleaved(count) = order else { panic!("{order:?}") };
    Some((count, written))
}

/// Values in the order in which they are written.
fn in_turn(values: &[f32], count: u64, stored: &[u64]) -> Vec<f32> {
    let [rows, cols] = [stored[0], stored[1] / count].map(|axis| axis as usize);
    let places = (0..rows).flat_map(|row| (0..cols).map(move |col| (row, col)));
    places
        .flat_map(|(row, col)| (0..count as usize).map(move |t| values[(t * rows + row) * cols + col]))
        .collect()
}

#[test]
fn what_is_written_has_each_value_beside_those_of_its_byte_and_is_encoded_to_it() {
    for (name, own, file) in all() {
        let (count, written) = written(&own).unwrap();
        let values = in_turn(&decode_in_tiles(&own, &file, 1_000, 1_000), count, written.shape().axes());
        for (rows, cols) in SIZES {
            let found = decode_in_tiles(&written, &file, rows, cols);
            assert_eq!(bits(&found), bits(&values), "{name} in tiles of {rows} × {cols}");
            let codes = &file[own.parts()[0].offset as usize..][..own.parts()[0].bytes() as usize];
            let made = encode_in_tiles(&written, &file, (&values, 0), (rows, cols)).unwrap();
            assert!(made == codes, "{name} in tiles of {rows} × {cols}");
        }
    }
    for vector in OTHERS {
        let (own, _) = logical(vector);
        assert!(written(&own).is_none(), "{vector}");
        assert!(find_encoding(own.encoding()).unwrap().decode_only(&own).is_some());
    }
}

/// Found by trying every code.
#[test]
fn changed_values_get_the_nearest_of_all_codes() {
    for (name, own, file) in all() {
        let (_, written) = written(&own).unwrap();
        let width = own.constants()[0] as u32;
        let values = decode_in_tiles(&written, &file, 1_000, 1_000);
        let most = values.iter().fold(0.0f32, |most, value| most.max(value.abs()));
        let mut seed = 7;
        let mut moved = |value: &f32| value + (noise(&mut seed) as f32 / (1 << 24) as f32 - 0.5) * most;
        let wanted: Vec<f32> = values.iter().map(&mut moved).collect();
        let made = encode_in_tiles(&written, &file, (&wanted, 0), (3, 5)).unwrap();
        let decoded =
            |codes: &[u8]| decode_in_tiles(&written, &with_part(&written, &file, 0, codes), 1_000, 1_000);
        let mut least = vec![f32::INFINITY; wanted.len()];
        for code in 0..1u32 << width {
            let byte = (0..8 / width).fold(0, |byte, field| byte | code << (width * field)) as u8;
            for ((least, value), wanted) in
                least.iter_mut().zip(decoded(&vec![byte; made.len()])).zip(&wanted)
            {
                *least = least.min((value - wanted).abs());
            }
        }
        let found = decoded(&made);
        let errors: Vec<f32> =
            found.iter().zip(&wanted).map(|(found, wanted)| (found - wanted).abs()).collect();
        assert_eq!(errors, least, "{name}");
        assert_ne!(found, values, "{name}");
    }
}

/// An original of plain numbers is taken in the same order.
#[test]
fn plain_numbers_are_taken_in_turn() {
    for dtype in [Dtype::F32, Dtype::BF16] {
        let tensor = TensorRef { file: FileId(0), offset: 4, dtype, shape: Shape_::new(&[12, 5]).unwrap() };
        let file: Vec<u8> = (0..4 + tensor.bytes()).map(|i| (i % 61) as u8).collect();
        let own = Logical::plain(&tensor).unwrap();
        let values = decode_in_tiles(&own, &file, 1_000, 1_000);
        for count in [1, 2, 4] {
            let turned = interleaved(&tensor, count).unwrap();
            let right = in_turn(&values, count, turned.shape().axes());
            for (rows, cols) in SIZES {
                assert_eq!(
                    bits(&decode_in_tiles(&turned, &file, rows, cols)),
                    bits(&right),
                    "{count} {rows} {cols}"
                );
            }
        }
        assert!(interleaved(&tensor, 5).is_none() && interleaved(&tensor, 0).is_none());
    }
}
