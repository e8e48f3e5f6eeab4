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
    ("quanto_qint8", "quanto_int8"),
    ("quanto_qfloat8", "quanto_float8"),
    ("torchao_int8wo", "torchao_int8"),
    ("torchao_int8_asym_group", "torchao_int8"),
    ("torchao_fp8wo", "torchao_float8"),
    ("torchao_fp8_tensor", "torchao_float8"),
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

/// Decodes one rectangle of a weight, and holds its bytes against the most that one of its size may take.
fn decode_rectangle(logical: &Logical, file: &[u8], rect: &Rect) -> Vec<f32> {
    let encoding = find_encoding(logical.encoding()).unwrap();
    let width = *logical.shape().axes().last().unwrap();
    let view = View { rows: logical.shape().elements() / width, cols: width };
    let first = Rect { rows: 0..rect.height(), cols: 0..rect.width() };
    let (place, first) = (Place::new(logical, view, rect), Place::new(logical, view, &first));
    for part in 0..logical.parts().len() {
        let (bytes, most) = (encoding.runs(part, place).bytes(), encoding.max_bytes(part, first));
        assert!(bytes <= most, "part {part} of {rect:?} takes {bytes} bytes, more than {most}");
    }
    let (parts, mut values) = (tile_bytes(place, file), vec![f32::NAN; rect.elements() as usize]);
    for (row, values) in values.chunks_mut(rect.width() as usize).enumerate() {
        // In two pieces, so that one begins inside the tile.
        let (left, right) = values.split_at_mut(values.len() / 3);
        let cols = [0..left.len(), left.len()..left.len() + right.len()];
        for (cols, out) in cols.into_iter().zip([left, right]) {
            assert!(encoding.decode_row(Kernels::detect(), &parts, place, RowPiece { row, cols }, out));
        }
    }
    values
}

/// Every rectangle of small weights: of each width of codes, with blocks that divide the shape and with such that do not.
#[test]
fn any_rectangle_is_decoded_within_its_bytes() {
    for (encoding, dtype, shape, block, scales) in [
        ("mxfp8", Dtype::U8, &[3u64, 3, 8][..], (2, 3), &[3u64, 2, 3][..]),
        ("fp8_scaled", Dtype::F32, &[2, 4, 8], (4, 1), &[2, 1, 8]),
        ("fp8_block", Dtype::BF16, &[2, 4, 8], (2, 5), &[2, 2, 2]),
        ("ct_int8", Dtype::F16, &[6, 8], (1, 8), &[6, 1]),
        ("ct_mxfp6", Dtype::U8, &[5, 12], (1, 5), &[5, 3]),
        ("ct_mxfp4", Dtype::U8, &[5, 12], (1, 5), &[5, 3]),
        ("modelopt_nvfp4", Dtype::F8_E4M3, &[5, 12], (1, 4), &[5, 3]),
    ] {
        let has_number = encoding.ends_with("nvfp4");
        let of = |dtype, axes: &[u64], offset| TensorRef {
            file: FileId(0),
            offset,
            dtype,
            shape: Shape_::new(axes).unwrap(),
        };
        // Codes of fewer bits than eight fill their bytes, all of which are given here.
        let codes = of(Dtype::I8, shape, 0);
        let at = shape.iter().product::<u64>();
        let scale_part = of(dtype, scales, at);
        let number = of(Dtype::F32, &[1], at + scale_part.bytes());
        let parts = [Some(codes), Some(scale_part), has_number.then_some(number)];
        let count = scales.iter().product::<u64>() as usize;
        let scale_bytes: Vec<u8> = match dtype {
            Dtype::F32 => (0..count).flat_map(|i| (1.5 + i as f32).to_le_bytes()).collect(),
            Dtype::BF16 => {
                (0..count).flat_map(|i| half::bf16::from_f32(1.5 + i as f32).to_le_bytes()).collect()
            }
            Dtype::F16 => {
                (0..count).flat_map(|i| half::f16::from_f32(1.5 + i as f32).to_le_bytes()).collect()
            }
            _ => (0..count).map(|i| 0x30 + i as u8).collect(),
        };
        let codes = (0..at as u32).map(|i| (i * 37 % 120) as u8);
        let file = [codes.collect(), scale_bytes, 0.75f32.to_le_bytes().to_vec()].concat();
        let whole = Shape_::new(shape).unwrap();
        let parts = parts.into_iter().flatten().collect();
        let logical: Logical =
            LogicalFields { encoding: encoding.into(), shape: whole, block, parts, constants: Vec::new() }
                .into();
        let (width, height) = (shape[shape.len() - 1], at / shape[shape.len() - 1]);
        let all = decode_rectangle(&logical, &file, &Rect { rows: 0..height, cols: 0..width });
        for (top, left) in (0..height).flat_map(|top| (0..width).map(move |left| (top, left))) {
            for (end, right) in (top + 1..=height).flat_map(|end| (left + 1..=width).map(move |r| (end, r))) {
                let rect = Rect { rows: top..end, cols: left..right };
                let wide = |row: u64| (row * width + left) as usize..(row * width + right) as usize;
                let expected: Vec<f32> = (top..end).flat_map(|row| all[wide(row)].to_vec()).collect();
                assert!(decode_rectangle(&logical, &file, &rect) == expected, "{encoding} {rect:?}");
            }
        }
    }
}
