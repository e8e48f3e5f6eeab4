//! Weights that are encoded again in the order of their bytes, which is across the order that the model has.

use super::kept::{SIZES, encode_in_tiles};
use super::*;

const ACROSS: [&str; 10] = [
    "gptq3_g32_sym",
    "gptq4_g32_sym",
    "gptq4_g32_asym",
    "gptq4_g32_asym_v1_borrow",
    "gptq4_g32_asym_v2",
    "gptq4_g32_desc_act",
    "gptq4_channel",
    "gptq8_g32_sym",
    "awq_gemm_g32",
    "gpt_oss_mxfp4",
];
/// Encoded again in the order that the model has.
const ALONG: &str = "awq_gemv_g32";

/// A vector's weights as the model has them and as they are written.
fn weights(vector: &str) -> (Vec<(Logical, Logical)>, Vec<u8>) {
    let bytes = fs::read(path(vector, "model.safetensors")).unwrap();
    let weights = recognised(&bytes, &json(vector, "config.json")).unwrap();
    let across = |logical: &Logical| {
        find_encoding(logical.encoding()).unwrap().across(logical).map(|(_, written)| written)
    };
    let both = |Detected { logical, .. }| (across(&logical).unwrap_or_else(|| logical.clone()), logical);
    (weights.into_iter().map(both).map(|(written, own)| (own, written)).collect(), bytes)
}

fn turned(values: &[f32], shape: &[u64]) -> Vec<f32> {
    let [.., rows, cols] = *shape else { panic!("a matrix") };
    let (rows, cols) = (rows as usize, cols as usize);
    let matrices = values.chunks(rows * cols);
    matrices.flat_map(|matrix| (0..cols * rows).map(|i| matrix[i % rows * cols + i / rows])).collect()
}

pub(super) fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

#[test]
fn a_weight_across_is_the_transpose_and_is_encoded_to_its_bytes() {
    for vector in ACROSS {
        let (weights, file) = weights(vector);
        // Its zero points, and others.
        let scrambled = |(own, across)| [(own, across, file.clone()), (own, across, with_zeros(own, &file))];
        for (own, across, file) in weights.iter().map(|(own, across)| (own, across)).flat_map(scrambled) {
            let file = &file;
            let values = turned(&decode_in_tiles(own, file, 1_000, 1_000), own.shape().axes());
            for (rows, cols) in SIZES {
                let found = decode_in_tiles(across, file, rows, cols);
                assert_eq!(bits(&found), bits(&values), "{vector} in tiles of {rows} × {cols}");
            }
            for size in SIZES {
                encodes_to_itself(vector, across, (file, &values), size);
            }
        }
    }
    let (weights, file) = weights(ALONG);
    let values = decode_in_tiles(&weights[0].0, &file, 1_000, 1_000);
    for size in SIZES {
        encodes_to_itself(ALONG, &weights[0].1, (&file, &values), size);
    }
}

/// A file with zero points of all kinds, where the weight has such.
fn with_zeros(logical: &Logical, file: &[u8]) -> Vec<u8> {
    let Some(zeros) = logical.parts().get(2) else { return file.to_vec() };
    let bytes: Vec<u8> = (0..zeros.bytes()).map(|i| ((i * 0x9e37) >> 5) as u8).collect();
    with_part(logical, file, 2, &bytes)
}

/// Bit by bit: a field may begin in one word and end in the next, and one that is stored as 7 is 0.
#[test]
fn zero_points_of_three_bits_are_read_by_themselves() {
    let (weights, file) = weights("gptq3_g32_sym");
    let (own, _) = &weights[0];
    let changed = with_zeros(own, &file);
    let [outputs, inputs] = *own.shape().axes() else { panic!("a matrix") };
    let stored = &changed[own.parts()[2].offset as usize..];
    let row = outputs as usize * 3 / 8;
    let zero = |group: usize, output: usize| {
        let bit = |bit: usize| i32::from(stored[group * row + bit / 8] >> (bit % 8) & 1);
        (bit(3 * output) + 2 * bit(3 * output + 1) + 4 * bit(3 * output + 2) + 1) % 8
    };
    let scale = |group: usize, output: usize| {
        let at = own.parts()[1].offset as usize + 2 * (group * outputs as usize + output);
        half::f16::from_le_bytes([file[at], file[at + 1]]).to_f32()
    };
    let [before, after] = [&file, &changed].map(|file| decode_in_tiles(own, file, 1_000, 1_000));
    for (i, (before, after)) in before.iter().zip(&after).enumerate() {
        let (output, group) = (i / inputs as usize, i % inputs as usize / 32);
        let code = before / scale(group, output) + 4.0;
        assert_eq!(*after, (code - zero(group, output) as f32) * scale(group, output), "{output} {group}");
    }
    let all = |number| (0..outputs as usize).any(|output| zero(0, output) == number);
    assert!((0..8).all(all), "all that there are");
}

fn encodes_to_itself(vector: &str, logical: &Logical, (file, values): (&[u8], &[f32]), size: (u64, u64)) {
    let encoding = find_encoding(logical.encoding()).unwrap();
    assert_eq!(encoding.decode_only(logical), None);
    for (part, tensor) in logical.parts().iter().enumerate().filter(|(i, _)| !encoding.is_kept(logical, *i)) {
        let right = &file[tensor.offset as usize..][..tensor.bytes() as usize];
        let made = encode_in_tiles(logical, file, (values, part), size).unwrap();
        assert!(made == right, "{vector}: part {part} in tiles of {size:?}");
    }
}

/// The bytes of codes that are all the same, of which a column of this many words are a stream if they cross words.
fn all_of(code: u32, bits: u32, len: usize, outputs: u64) -> Vec<u8> {
    let stream = (0..32).fold(0u128, |stream, field| stream | u128::from(code) << (bits * field % 96));
    let words = (0..len as u64 / 4).map(|at| if bits == 3 { at / outputs % 3 } else { 0 });
    words.flat_map(|word| ((stream >> (32 * word)) as u32).to_le_bytes()).collect()
}

/// Of all that its codes can stand for, each value becomes what is nearest: found by trying every code.
#[test]
fn changed_values_get_the_nearest_codes() {
    // The blocks of the last have scales that may change.
    for vector in ACROSS[..9].iter().copied().chain([ALONG]) {
        let (weights, file) = weights(vector);
        let (_, written) = &weights[0];
        let values = decode_in_tiles(written, &file, 1_000, 1_000);
        let most = values.iter().fold(0.0f32, |most, value| most.max(value.abs()));
        let mut seed = 5u32;
        let mut noise = || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            ((seed >> 8) as f32 / (1 << 24) as f32 - 0.5) * most / 2.0
        };
        let wanted: Vec<f32> = values.iter().map(|value| value + noise()).collect();
        let made = encode_in_tiles(written, &file, (&wanted, 0), (7, 1_000)).unwrap();
        let decoded =
            |codes: &[u8]| decode_in_tiles(written, &with_part(written, &file, 0, codes), 1_000, 1_000);
        let bits = vector.strip_prefix("gptq").map_or(4, |rest| rest[..1].parse().unwrap());
        let mut least = vec![f32::INFINITY; wanted.len()];
        for code in 0..1 << bits {
            let outputs = written.shape().axes()[1];
            let all = decoded(&all_of(code, bits, made.len(), outputs));
            for (least, (value, wanted)) in least.iter_mut().zip(all.iter().zip(&wanted)) {
                *least = least.min((value - wanted).abs());
            }
        }
        let found = decoded(&made);
        let errors = found.iter().zip(&wanted).map(|(found, wanted)| (found - wanted).abs());
        let wrong = errors.zip(&least).filter(|(error, least)| error > least).count();
        // Quotients are rounded, so that of two codes that are as near as f32 can tell either may come.
        assert!(wrong * 10_000 <= wanted.len(), "{vector}: {wrong} of {}", wanted.len());
        assert_ne!(found, values, "{vector}");
    }
}
