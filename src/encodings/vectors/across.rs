//! Weights that are encoded again in the order of their bytes, which is across the order that the model has.

use super::kept::{SIZES, encode_in_tiles};
use super::*;

const ACROSS: [&str; 9] = [
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
    let across = |logical: &Logical| find_encoding(logical.encoding()).unwrap().across(logical);
    let both = |Detected { logical, .. }| (across(&logical).unwrap_or_else(|| logical.clone()), logical);
    (weights.into_iter().map(both).map(|(written, own)| (own, written)).collect(), bytes)
}

fn turned(values: &[f32], shape: &[u64]) -> Vec<f32> {
    let [.., rows, cols] = *shape else { panic!("a matrix") };
    let (rows, cols) = (rows as usize, cols as usize);
    let matrices = values.chunks(rows * cols);
    matrices.flat_map(|matrix| (0..cols * rows).map(|i| matrix[i % rows * cols + i / rows])).collect()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

#[test]
fn a_weight_across_is_the_transpose_and_is_encoded_to_its_bytes() {
    for vector in ACROSS {
        let (weights, file) = weights(vector);
        for (own, across) in &weights {
            let values = turned(&decode_in_tiles(own, &file, 1_000, 1_000), own.shape().axes());
            for (rows, cols) in SIZES {
                let found = decode_in_tiles(across, &file, rows, cols);
                assert_eq!(bits(&found), bits(&values), "{vector} in tiles of {rows} × {cols}");
            }
            for size in SIZES {
                encodes_to_itself(vector, across, (&file, &values), size);
            }
        }
    }
    let (weights, file) = weights(ALONG);
    let values = decode_in_tiles(&weights[0].0, &file, 1_000, 1_000);
    for size in SIZES {
        encodes_to_itself(ALONG, &weights[0].1, (&file, &values), size);
    }
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

/// The bytes of codes that are all the same.
fn all_of(code: u32, bits: u32, len: usize) -> Vec<u8> {
    let word = (0..32 / bits).fold(0, |word, field| word | code << (bits * field));
    word.to_le_bytes().repeat(len / 4)
}

/// Of all that its codes can stand for, each value becomes what is nearest: found by trying every code.
#[test]
fn changed_values_get_the_nearest_codes() {
    // The blocks of the last have scales that may change.
    for vector in ACROSS[..8].iter().copied().chain([ALONG]) {
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
        let bits = if vector.starts_with("gptq8") { 8 } else { 4 };
        let mut least = vec![f32::INFINITY; wanted.len()];
        for code in 0..1 << bits {
            let all = decoded(&all_of(code, bits, made.len()));
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
