//! GPTQ, AWQ, bitsandbytes of 4 bits and MLX against what auto-gptq, AutoAWQ, bitsandbytes and MLX decode.

use super::packed::{TILES, expected, refusal};
use super::*;

/// Vectors, and the encoding of each.
const VECTORS: [(&str, &str); 24] = [
    ("gptq3_g32_sym", "gptq3"),
    ("gptq4_channel", "gptq4"),
    ("gptq4_g32_asym", "gptq4"),
    ("gptq4_g32_asym_v1_borrow", "gptq4"),
    ("gptq4_g32_asym_v2", "gptq4"),
    ("gptq4_g32_desc_act", "gptq4"),
    ("gptq4_g32_sym", "gptq4"),
    ("gptq8_g32_sym", "gptq8"),
    ("awq_gemm_g32", "awq_gemm"),
    ("awq_gemv_g32", "awq_gemv"),
    ("bnb_fp4", "fp4"),
    ("bnb_nf4", "nf4"),
    ("bnb_nf4_bf16storage", "nf4"),
    ("bnb_nf4_double", "nf4"),
    ("bnb_nf4_experts3d", "nf4"),
    ("bnb_nf4_partial_block", "nf4"),
    ("bnb_nf4_row_not_multiple", "nf4"),
    ("mlx_affine_3bit_g64", "mlx_affine"),
    ("mlx_affine_4bit_g64", "mlx_affine"),
    ("mlx_affine_6bit_g64", "mlx_affine"),
    ("mlx_affine_8bit_g32", "mlx_affine"),
    ("mlx_mxfp4_4bit_g32", "mlx_mxfp4"),
    ("mlx_mxfp8_8bit_g32", "mlx_mxfp8"),
    ("mlx_nvfp4_4bit_g16", "mlx_nvfp4"),
];

#[test]
fn weights_decode_in_tiles_of_any_size() {
    for (vector, encoding) in VECTORS {
        let (weight, file) = detected(vector);
        let (shape, right) = expected(vector, &weight.name);
        assert_eq!(
            (weight.logical.encoding(), weight.logical.shape().axes()),
            (encoding, &shape[..]),
            "{vector}"
        );
        for (rows, cols) in TILES {
            let values = decode_in_tiles(&weight.logical, &file, rows, cols);
            let wrong = values.iter().zip(&right).position(|(value, right)| value != right);
            assert_eq!(wrong, None, "{vector} in tiles of {rows} x {cols}");
            assert_eq!(values.len(), right.len());
        }
    }
}

/// The one weight of a vector, and its file.
fn detected(vector: &str) -> (Detected, Vec<u8>) {
    let file = fs::read(path(vector, "model.safetensors")).unwrap();
    let mut weights = recognised(&file, &json(vector, "config.json")).unwrap();
    assert_eq!(weights.len(), 1, "{vector}");
    (weights.remove(0), file)
}

#[test]
fn what_no_value_depends_on_goes_with_the_codes() {
    let (weight, _) = detected("bnb_nf4_double");
    assert_eq!(weight.auxiliary.len(), 1, "the description");
    assert_eq!((weight.logical.parts().len(), weight.logical.constants().len()), (5, 1));
    let (weight, _) = detected("bnb_nf4");
    assert_eq!((weight.logical.parts().len(), weight.logical.constants().len()), (3, 0));
}

/// A config with one value changed.
fn with_setting(vector: &str, key: &str, value: Value) -> String {
    refusal(vector, |config, _| config["quantization_config"][key] = value)
}

#[test]
fn settings_that_are_not_read_are_said() {
    use serde_json::json;
    for (vector, key, value, says) in [
        ("gptq4_g32_sym", "bits", json!(5), "`bits` is 5; 2, 3, 4 and 8 are read"),
        ("gptq4_g32_sym", "bits", json!(null), "`bits` is nothing"),
        ("gptq4_g32_sym", "bits", json!(8), "scales` has shape"),
        ("gptq4_g32_sym", "group_size", json!(0), "`group_size` is 0, expected a number above 0, or -1"),
        ("gptq4_g32_sym", "group_size", json!(-7), "`group_size` is -7"),
        ("gptq4_g32_sym", "group_size", json!(64), "scales` has shape"),
        ("gptq4_g32_sym", "group_size", json!(u64::MAX), "`group_size` is nothing"),
        ("gptq4_g32_sym", "group_size", json!(i64::MAX), "scales` has shape"),
        ("gptq4_g32_sym", "checkpoint_format", json!("marlin"), "`checkpoint_format` is `marlin`"),
        ("gptq4_g32_sym", "is_marlin_format", json!(true), "in another order"),
        (
            "awq_gemm_g32",
            "version",
            json!("gemv_fast"),
            "`version` is `gemv_fast`; `gemm` and `gemv` are read",
        ),
        ("awq_gemm_g32", "version", json!("gemv"), "scales` has shape"),
        ("awq_gemm_g32", "bits", json!(3), "`bits` is 3; 4 is read"),
        ("awq_gemm_g32", "group_size", json!(0), "`group_size` is 0"),
        ("awq_gemv_g32", "group_size", json!(48), "`group_size` is 48; 32, 64 and 128 are read"),
    ] {
        let found = with_setting(vector, key, value);
        assert!(found.contains(says), "{vector} {key}: {found}");
    }
    let plain = json!(false);
    for (vector, key, value, says) in [
        ("mlx_affine_4bit_g64", "bits", json!(7), "`bits` is 7; 2, 3, 4, 5, 6 and 8 are read"),
        ("mlx_affine_4bit_g64", "bits", json!(8), "scales` has shape"),
        ("mlx_affine_4bit_g64", "bits", json!(0), "`bits` is 0"),
        ("mlx_affine_4bit_g64", "group_size", json!(32), "scales` has shape"),
        ("mlx_affine_4bit_g64", "group_size", json!(0), "`group_size` is 0; 32, 64 and 128 are read"),
        ("mlx_affine_4bit_g64", "mode", json!("int7"), "`mode` is `int7`"),
        ("mlx_affine_4bit_g64", "mode", json!("mxfp4"), "`group_size` is 64; 32 is read"),
        ("mlx_affine_4bit_g64", "model.layers.0.mlp.up_proj", plain, "lists its module as plain"),
        (
            "mlx_affine_4bit_g64",
            "model.layers.0.mlp.up_proj",
            json!({"bits": 5}),
            "512 bits hold no whole number",
        ),
        ("mlx_mxfp4_4bit_g32", "bits", json!(8), "`bits` is 8; 4 is read"),
        ("mlx_nvfp4_4bit_g16", "mode", json!("affine"), "`group_size` is 16"),
    ] {
        let found = with_setting(vector, key, value);
        assert!(found.contains(says), "{vector} {key}: {found}");
    }
}

/// The same file with a tensor's name changed to one as long, so that it lacks it.
fn without(vector: &str, leaf: &str) -> String {
    refusal(vector, |_, file| {
        let from = leaf.as_bytes();
        let at = file.windows(from.len()).position(|window| window == from).expect("it is there");
        file[at + from.len() - 1] = b'_';
    })
}

#[test]
fn what_lacks_a_part_is_refused_by_its_name() {
    for (vector, leaf) in [
        ("gptq4_g32_sym", "qzeros"),
        ("gptq4_g32_sym", "scales"),
        ("awq_gemm_g32", "qzeros"),
        ("awq_gemv_g32", "scales"),
        ("bnb_nf4", "weight.absmax"),
        ("bnb_nf4", "quant_map"),
        ("bnb_nf4_double", "nested_absmax"),
        ("bnb_nf4_double", "nested_quant_map"),
        ("mlx_affine_4bit_g64", "biases"),
    ] {
        let found = without(vector, leaf);
        assert!(found.contains("it has no `") && found.contains(leaf), "{vector} {leaf}: {found}");
    }
}

/// A description of bitsandbytes with some of its text replaced by text as long.
fn described(vector: &str, from: &str, to: &str) -> String {
    assert_eq!(from.len(), to.len());
    refusal(vector, |_, file| {
        let at = file.windows(from.len()).rposition(|window| window == from.as_bytes()).expect("it is there");
        file[at..at + to.len()].copy_from_slice(to.as_bytes());
    })
}

#[test]
fn descriptions_are_held_against_the_tensors() {
    for (vector, from, to, says) in [
        ("bnb_nf4", "\"blocksize\": 64", "\"blocksize\":  0", "its `blocksize` is 0"),
        ("bnb_nf4", "\"blocksize\": 64", "\"blocksize\": 32", "absmax` has shape [48], expected [96]"),
        ("bnb_nf4", "\"blocksize\": 64", "\"blocksize\": -4", "is no description"),
        ("bnb_nf4", "[24, 128]", "[24, 129]", "its codes take 1536 bytes, expected 1548 for 3096 values"),
        ("bnb_nf4", "[24, 128]", "[0, 9128]", "it is empty"),
        ("bnb_nf4", "\"shape\": [24, 128]", "\"shape\": [9e9, 12]", "is no description"),
        ("bnb_nf4", "\"nf4\"", "\"fp4\"", "`quant_type` is `fp4`, not `nf4`"),
        (
            "bnb_nf4_double",
            "\"nested_blocksize\": 256",
            "\"nested_blocksize\": 128",
            "`nested_blocksize` is 128",
        ),
        ("bnb_nf4_double", "\"float32\"", "\"float64\"", "`nested_dtype` is `float64`, not `float32`"),
        ("bnb_nf4_double", "nested_offset", "nested_offse_", "its `nested_offset` is no number"),
    ] {
        let found = described(vector, from, to);
        assert!(found.contains(says), "{vector} {to}: {found}");
    }
}

/// A row of a weight, decoded from a file with one part changed.
fn row_is_finite(vector: &str, part: usize, bytes: &[u8]) -> bool {
    let (Detected { logical, .. }, file) = detected(vector);
    let file = with_part(&logical, &file, part, bytes);
    let width = *logical.shape().axes().last().unwrap();
    let rect = Rect { rows: 0..1, cols: 0..width };
    let view = View { rows: logical.shape().elements() / width, cols: width };
    let place = Place::new(&logical, view, &rect);
    let (parts, mut out) = (tile_bytes(place, &file), vec![0.0; width as usize]);
    let at = RowPiece { row: 0, cols: 0..width as usize };
    find_encoding(logical.encoding()).unwrap().decode_row(Kernels::detect(), &parts, place, at, &mut out)
}

#[test]
fn scales_and_groups_that_mean_nothing_are_said() {
    let nan = f32::NAN.to_le_bytes();
    assert!(row_is_finite("gptq4_g32_desc_act", 3, &2u32.to_le_bytes()), "the last group");
    for (what, vector, part, bytes) in [
        ("a scale that is infinite", "gptq4_g32_sym", 1, &[0x00, 0x7c][..]),
        ("a group beyond the last", "gptq4_g32_desc_act", 3, &3u32.to_le_bytes()),
        ("the group -1", "gptq4_g32_desc_act", 3, &(-1i32).to_le_bytes()),
        ("a scale that is NaN", "awq_gemm_g32", 1, &[0x01, 0x7c]),
        ("a magnitude that is NaN", "bnb_nf4", 1, &nan),
        ("a table of NaN", "bnb_nf4", 2, &nan.repeat(16)),
        ("a scale of MLX that is NaN", "mlx_affine_4bit_g64", 1, &[0xc0, 0x7f]),
        ("a bias that is infinite", "mlx_affine_4bit_g64", 2, &[0x80, 0x7f]),
        ("E8M0 255", "mlx_mxfp4_4bit_g32", 1, &[255]),
        ("a code that is NaN", "mlx_mxfp8_8bit_g32", 0, &[0x7f]),
        ("a nested scale that is NaN", "bnb_nf4_double", 3, &nan),
        ("a scale of HQQ that is NaN", "hqq4_g64_axis1", 2, &[0x01, 0x7c]),
        ("a zero point of HQQ that is infinite", "hqq4_g64_axis0", 4, &[0x00, 0x7c]),
        ("a shift that is NaN", "quanto_qint4", 4, &nan),
    ] {
        assert!(!row_is_finite(vector, part, bytes), "{what}");
    }
}

/// How many weights are found where the config says this.
fn found_by(vector: &str, said: Value) -> usize {
    let file = fs::read(path(vector, "model.safetensors")).unwrap();
    recognised(&file, &serde_json::json!({ "quantization_config": said })).unwrap().len()
}

#[test]
fn files_of_quantizers_name_no_method() {
    use serde_json::json;
    let gptq = json!({"bits": 4, "group_size": 32, "desc_act": false, "sym": true});
    assert_eq!(found_by("gptq4_g32_sym", gptq), 1);
    assert_eq!(found_by("gptq4_g32_sym", json!({"bits": 4, "group_size": 32})), 0, "it may be of anything");
    let awq = json!({"w_bit": 4, "q_group_size": 32, "zero_point": true, "version": "GEMM"});
    assert_eq!(found_by("awq_gemm_g32", awq), 1);
    assert_eq!(
        found_by("awq_gemm_g32", json!({"quant_method": "auto-round", "bits": 4, "group_size": 32})),
        0
    );
}
