//! Codes that share bytes with distant ones against what HQQ and quanto decode.

use super::packed::{TILES, expected, refusal};
use super::*;

/// Vectors, and the encoding of each.
const VECTORS: [(&str, &str); 9] = [
    ("hqq4_g64_axis0", "hqq"),
    ("hqq4_g64_axis1", "hqq"),
    ("hqq4_g40_axis1_bf16", "hqq"),
    ("hqq8_g32_axis0", "hqq"),
    ("hqq8_g32_axis1", "hqq"),
    ("hqq2_g16_axis0", "hqq"),
    ("hqq1_g24_axis1", "hqq"),
    ("quanto_qint4", "quanto_int"),
    ("quanto_qint2", "quanto_int"),
];

#[test]
fn distant_codes_decode_in_tiles_of_any_size() {
    for (vector, encoding) in VECTORS {
        let file = fs::read(path(vector, "model.safetensors")).unwrap();
        let weights = recognised(&file, &json(vector, "config.json")).unwrap();
        let [Detected { name, logical, .. }] = &weights[..] else { panic!("{vector}: one weight") };
        let (shape, right) = expected(vector, name);
        assert_eq!((logical.encoding(), logical.shape().axes()), (encoding, &shape[..]), "{vector}");
        let more = (1..=shape[0]).flat_map(|rows| [(rows, shape[1]), (rows, 11)]);
        for (rows, cols) in TILES.into_iter().chain(more) {
            let values = decode_in_tiles(logical, &file, rows, cols);
            let wrong = values.iter().zip(&right).position(|(value, right)| value != right);
            assert_eq!(wrong, None, "{vector} in tiles of {rows} x {cols}");
            assert_eq!(values.len(), right.len());
        }
    }
}

/// quanto's own library says nothing in the config.
#[test]
fn quanto_is_known_by_its_names() {
    let none = serde_json::json!({});
    for vector in ["quanto_qint4", "quanto_qint8", "quanto_qfloat8"] {
        let file = fs::read(path(vector, "model.safetensors")).unwrap();
        assert_eq!(recognised(&file, &none).unwrap().len(), 1, "{vector}");
        let other = serde_json::json!({"quantization_config": {"quant_method": "fp8"}});
        assert!(recognised(&file, &other).unwrap().is_empty(), "{vector}");
    }
    let file = fs::read(path("hqq4_g64_axis1", "model.safetensors")).unwrap();
    assert!(recognised(&file, &none).unwrap().is_empty(), "HQQ always does");
}

/// The header of a vector with one of its texts replaced by one as long.
fn headed(vector: &str, from: &str, to: &str) -> String {
    assert_eq!(from.len(), to.len());
    refusal(vector, |_, file| {
        let at = file.windows(from.len()).position(|window| window == from.as_bytes()).expect("it is there");
        file[at..at + to.len()].copy_from_slice(to.as_bytes());
    })
}

/// A vector with other bytes in one of its tensors.
fn holding(vector: &str, leaf: &str, bytes: &[u8]) -> String {
    refusal(vector, |_, file| {
        let stored = SafeTensors::deserialize(file).unwrap();
        let name = stored.names().into_iter().find(|name| name.ends_with(&format!(".{leaf}"))).unwrap();
        let at = stored.tensor(name).unwrap().data().as_ptr() as usize - file.as_ptr() as usize;
        file[at..at + bytes.len()].copy_from_slice(bytes);
    })
}

fn shape_bytes(axes: [i64; 2]) -> Vec<u8> {
    axes.iter().flat_map(|axis| axis.to_le_bytes()).collect()
}

#[test]
fn numbers_of_hqq_are_held_against_its_tensors() {
    const VECTOR: &str = "hqq4_g64_axis1";
    for (leaf, bytes, says) in [
        ("nbits", 3u32.to_le_bytes().to_vec(), "`nbits` is 3; 1, 2, 4 and 8 are read"),
        ("nbits", 0u32.to_le_bytes().to_vec(), "`nbits` is 0; 1, 2, 4 and 8 are read"),
        ("nbits", 260u32.to_le_bytes().to_vec(), "`nbits` is 260; 1, 2, 4 and 8 are read"),
        ("nbits", 8u32.to_le_bytes().to_vec(), "W_q` has shape [32, 64], expected [64, 64]"),
        ("nbits", 2u32.to_le_bytes().to_vec(), "W_q` has shape [32, 64], expected [16, 64]"),
        ("shape", shape_bytes([0, 128]), "it is empty"),
        ("shape", shape_bytes([-1, 128]), "its shape is larger than any file"),
        ("shape", shape_bytes([i64::MAX, 1]), "its values are no multiple"),
        (
            "shape",
            shape_bytes([1 << 32, 1 << 30]),
            "W_q` has shape [32, 64], expected [32, 72057594037927936]",
        ),
        ("shape", shape_bytes([33, 128]), "W_q` has shape [32, 64], expected [32, 66]"),
        ("shape", shape_bytes([31, 127]), "its values are no multiple"),
        ("shape", shape_bytes([1, 7]), "its values are no multiple"),
        (
            "compute_dtype",
            b"torch.float64".to_vec(),
            "`compute_dtype` is `torch.float64`, not `torch.float16`",
        ),
    ] {
        let found = holding(VECTOR, leaf, &bytes);
        assert!(found.contains("q_proj.weight") && found.contains(says), "{leaf} {bytes:?}: {found}");
    }
}

#[test]
fn parts_of_the_wrong_kind_are_refused_by_name() {
    for (vector, from, to, says) in [
        ("hqq4_g64_axis1", "_proj.zero", "_proj.zer_", "it has no `model.layers.0.self_attn.q_proj.zero`"),
        ("hqq4_g64_axis1", "_proj.scale", "_proj.scal_", "q_proj.scale`"),
        ("hqq4_g64_axis1", "_proj.nbits", "_proj.nbit_", "it has no `model.layers.0.self_attn.q_proj.nbits`"),
        ("hqq4_g64_axis1", "_proj.shape", "_proj.shap_", "it has no `model.layers.0.self_attn.q_proj.shape`"),
        ("hqq4_g64_axis1", "[64,1]", "[1,64]", "q_proj.zero` has shape [64, 1], expected [1, 64]"),
        ("hqq4_g64_axis1", "[64,1]", "[32,2]", "q_proj.scale` has shape [32, 2], expected [64, 1]"),
        ("hqq4_g64_axis0", "[32,64]", "[64,32]", "W_q` has shape [64, 32], expected [32, 64]"),
        ("hqq4_g64_axis1", "\"F16\"", "\"I16\"", "has dtype I16, expected F32, BF16 or F16"),
        ("hqq4_g64_axis1", "\"F16\"", "\"U16\"", "has dtype U16"),
        (
            "hqq4_g64_axis1",
            "\"U8\",\"shape\":[32,64]",
            "\"I8\",\"shape\":[32,64]",
            "W_q` has dtype I8, expected U8",
        ),
        (
            "quanto_qint4",
            "weight._scale",
            "weight._scal_",
            "it has no `model.layers.0.self_attn.q_proj.weight._scale`",
        ),
        (
            "quanto_qint4",
            "weight._shift",
            "weight._shif_",
            "it has no `model.layers.0.self_attn.q_proj.weight._shift`",
        ),
        ("quanto_qint4", "_proj.bias", "_proj.bia_", "nothing else says how many columns it has"),
        (
            "quanto_qint8",
            "weight._scale",
            "weight._scal_",
            "it has no `model.layers.0.mlp.up_proj.weight._scale`",
        ),
        ("quanto_qint8", "[32,1]", "[1,32]", "_scale` has shape [1, 32], expected [32, 1]"),
        ("quanto_qfloat8", "F8_E4M3", "F8_E5M2", "has dtype F8_E5M2, expected F8_E4M3"),
    ] {
        let found = headed(vector, from, to);
        assert!(found.contains("_proj.weight`") && found.contains(says), "{vector} {to}: {found}");
    }
}
