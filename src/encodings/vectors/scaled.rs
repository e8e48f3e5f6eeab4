//! Codes with scales against what the libraries decode that wrote them.

use super::packed::{TILES, expected};
use super::*;

/// Vectors, and the encoding of each.
const SCALED: &[(&str, &str)] = &[
    ("ct_fp8_tensor", "ct_fp8"),
    ("ct_fp8_channel", "ct_fp8"),
    ("ct_fp8_block", "ct_fp8"),
    ("ct_int8_w8a8_channel", "ct_int8"),
    ("bnb_int8", "bnb_int8"),
];

#[test]
fn codes_with_scales_decode_in_tiles_of_any_size() {
    for (vector, encoding) in SCALED {
        let file = fs::read(path(vector, "model.safetensors")).unwrap();
        let weights = recognised(&file, &json(vector, "config.json")).unwrap();
        let [Detected { name, logical, .. }] = weights.as_slice() else { panic!("{vector} has one weight") };
        let (shape, right) = expected(vector, name);
        assert_eq!((logical.encoding(), logical.shape().axes()), (*encoding, &shape[..]), "{vector}");
        for (rows, cols) in TILES {
            let values = decode_in_tiles(logical, &file, rows, cols);
            let wrong = values.iter().zip(&right).position(|(value, right)| value != right);
            assert_eq!(wrong, None, "{vector}: {name} in tiles of {rows} x {cols}");
            assert_eq!(values.len(), right.len());
        }
    }
}

/// A safetensors file of these tensors.
fn file_of(tensors: &[(&str, &str, &[u64], Vec<u8>)]) -> Vec<u8> {
    let (mut entries, mut data) = (serde_json::Map::new(), Vec::new());
    for (name, dtype, shape, bytes) in tensors {
        let offsets = [data.len(), data.len() + bytes.len()];
        let entry = serde_json::json!({"dtype": dtype, "shape": shape, "data_offsets": offsets});
        entries.insert((*name).to_owned(), entry);
        data.extend(bytes);
    }
    let header = Value::from(entries).to_string();
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &data].concat()
}

/// Fused experts: a scale for each, or for each of their columns, whichever way round these are written.
#[test]
fn experts_have_scales_of_their_own() {
    let shape = [3, 4, 6];
    let codes: Vec<u8> = (0..72).map(|i| i * 3 % 120).collect();
    let name = "model.layers.0.feed_forward.experts.down_proj";
    for (method, ending, scales) in [
        ("fbgemm_fp8", "_scale", &[3, 1, 6][..]),
        ("fbgemm_fp8", "_scale", &[3, 6, 1]),
        ("fp8", "_scale_inv", &[3, 1, 1]),
        ("fp8", "_scale_inv", &[3]),
    ] {
        let count = scales.iter().product::<u64>() as usize;
        let numbers: Vec<f32> = (0..count).map(|i| 0.3 + i as f32).collect();
        let bytes = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        let file = file_of(&[
            (name, "F8_E4M3", &shape, codes.clone()),
            (&format!("{name}{ending}"), "F32", scales, bytes),
        ]);
        let config = serde_json::json!({"quant_method": method, "weight_block_size": null});
        let weights = recognised(&file, &serde_json::json!({"quantization_config": config})).unwrap();
        let [weight] = weights.as_slice() else { panic!("{method} {scales:?}: one weight") };
        let mut right = vec![0.0; codes.len()];
        Kernels::scalar().widen_e4m3(&codes, &mut right);
        for (i, value) in right.iter_mut().enumerate() {
            *value *= numbers[i / 24 * (count / 3) + i % 6 % (count / 3)];
        }
        for (rows, cols) in TILES {
            let values = decode_in_tiles(&weight.logical, &file, rows, cols);
            assert!(values == right, "{method} {scales:?} in tiles of {rows} x {cols}");
        }
    }
}

/// Every whole number with one scale for the tensor.
#[test]
fn whole_numbers_have_a_sign() {
    let codes: Vec<u8> = (0..=u8::MAX).collect();
    let scale = half::bf16::from_f32(0.37).to_le_bytes().to_vec();
    let file = file_of(&[("m.weight", "I8", &[8, 32], codes), ("m.weight_scale", "BF16", &[1], scale)]);
    let weights = serde_json::json!({"num_bits": 8, "type": "int", "symmetric": true, "strategy": "tensor"});
    let config = serde_json::json!({
        "quant_method": "compressed-tensors",
        "format": "int-quantized",
        "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights}},
    });
    let found = recognised(&file, &serde_json::json!({"quantization_config": config})).unwrap();
    let right: Vec<f32> =
        (0..=255u8).map(|code| f32::from(code as i8) * half::bf16::from_f32(0.37).to_f32()).collect();
    for (rows, cols) in TILES {
        assert!(decode_in_tiles(&found[0].logical, &file, rows, cols) == right, "{rows} x {cols}");
    }
}
