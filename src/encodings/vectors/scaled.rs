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
    ("ct_mxfp4", "ct_mxfp4"),
    ("ct_mxfp6", "ct_mxfp6"),
    ("ct_mxfp8", "ct_mxfp8"),
    ("deepseek_v4_fp4", "deepseek_fp4"),
    ("ct_nvfp4", "ct_nvfp4"),
    ("modelopt_nvfp4", "modelopt_nvfp4"),
    ("ct_fp8_block_ragged", "ct_fp8"),
    ("ct_fp8_channel_bf16", "ct_fp8"),
    ("ct_fp8_group", "ct_fp8"),
    ("ct_int8_tensor", "ct_int8"),
    ("ct_int8_group", "ct_int8"),
];

#[test]
fn codes_with_scales_decode_in_tiles_of_any_size() {
    for (vector, encoding) in SCALED {
        assert_eq!(decoded_right(vector), [*encoding], "{vector}");
    }
    assert_eq!(decoded_right("ct_mixed"), ["ct_int8", "ct_fp8"], "each by its own group");
}

/// Decodes all weights of a vector in tiles, and gives their encodings in the order of their names.
fn decoded_right(vector: &str) -> Vec<String> {
    let file = fs::read(path(vector, "model.safetensors")).unwrap();
    let mut weights = recognised(&file, &json(vector, "config.json")).unwrap();
    weights.sort_by(|one, other| one.name.cmp(&other.name));
    for Detected { name, logical, .. } in &weights {
        let (shape, right) = expected(vector, name);
        assert_eq!(logical.shape().axes(), &shape[..], "{vector}");
        for (rows, cols) in TILES {
            let values = decode_in_tiles(logical, &file, rows, cols);
            let wrong = values.iter().zip(&right).position(|(value, right)| value != right);
            assert_eq!(wrong, None, "{vector}: {name} in tiles of {rows} x {cols}");
            assert_eq!(values.len(), right.len());
        }
    }
    weights.into_iter().map(|weight| weight.logical.encoding().to_owned()).collect()
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
    let codes: Vec<u8> = (0..72u32).map(|i| (i * 3 % 120) as u8).collect();
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

/// The values of every code of four and of six bits.
#[test]
fn small_floats_mean_what_their_formats_say() {
    let tables = json("float_codes", "codes.json");
    let table: Vec<f64> = tables["f4_e2m1"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
    assert_eq!(crate::encodings::codes::E2M1.map(f64::from).as_slice(), table);
    // OCP MX 1.0, table 5: 6 bits are sign, two of exponent with a bias of 1, three of mantissa.
    let e2m3 = |code: u8| {
        let (mantissa, exponent) = (f32::from(code & 7) / 8.0, i32::from(code >> 3 & 3));
        let magnitude = if exponent == 0 { mantissa } else { (1.0 + mantissa) * 2f32.powi(exponent - 1) };
        if code & 32 == 0 { magnitude } else { -magnitude }
    };
    let codes: Vec<u8> = (0..64).collect();
    let packed: Vec<u8> = codes
        .chunks(4)
        .flat_map(|c| {
            let word = c.iter().rev().fold(0u32, |word, code| word << 6 | u32::from(*code));
            word.to_le_bytes()[..3].to_vec()
        })
        .collect();
    let scale = vec![127u8; 2];
    let file =
        file_of(&[("m.weight_packed", "U8", &[1, 48], packed), ("m.weight_scale", "U8", &[1, 2], scale)]);
    let weights = serde_json::json!({"num_bits": 6, "type": "float", "strategy": "group", "group_size": 32});
    let config = serde_json::json!({
        "quant_method": "compressed-tensors",
        "config_groups": {"group_0": {"format": "mxfp6-pack-quantized", "weights": weights}},
    });
    let found = recognised(&file, &serde_json::json!({"quantization_config": config})).unwrap();
    let right: Vec<f32> = codes.into_iter().map(e2m3).collect();
    for (rows, cols) in TILES {
        assert!(decode_in_tiles(&found[0].logical, &file, rows, cols) == right, "{rows} x {cols}");
    }
}

/// Tiles of a stack of matrices whose blocks are cut off at the end of each, held against the value of each place.
#[test]
fn stacks_of_ragged_matrices_decode_in_tiles_of_any_size() {
    let (shape, block) = ([3u64, 5, 7], (2u64, 3u64));
    let codes: Vec<u8> = (0..105u32).map(|i| (i * 7 % 120) as u8).collect();
    let scales: Vec<u8> = (0..27).map(|i| 110 + i).collect();
    let part = |offset, dtype, axes: &[u64]| {
        let shape = Shape_::new(axes).unwrap();
        TensorRef { file: FileId(0), offset, dtype, shape }
    };
    let parts = vec![part(0, Dtype::F8_E4M3, &shape), part(105, Dtype::U8, &[3, 3, 3])];
    let whole = Shape_::new(&shape).unwrap();
    let logical: Logical =
        LogicalFields { encoding: "mxfp8".into(), shape: whole, block, parts, constants: Vec::new() }.into();
    let mut right = vec![0.0; 105];
    Kernels::scalar().widen_e4m3(&codes, &mut right);
    for (i, value) in right.iter_mut().enumerate() {
        let (matrix, row, col) = (i / 35, i / 7 % 5, i % 7);
        *value *= crate::encodings::number::power_of(scales[matrix * 9 + row / 2 * 3 + col / 3]);
    }
    let file = [codes, scales].concat();
    for (rows, cols) in (1..16).flat_map(|rows| (1..8).map(move |cols| (rows, cols))) {
        assert!(decode_in_tiles(&logical, &file, rows, cols) == right, "{rows} x {cols}");
    }
}
