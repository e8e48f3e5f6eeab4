//! What is wrong with bases of codes with scales is said with the name of the weight, what was found and what was expected.

use serde_json::{Value, json};

use super::quantized_scaled::case;
use super::refusals::{named, refused};
use super::support::f32s;
use super::work::{MODULE, Tensor, Work, edit, edit_json};

/// One thing that is wrong: what it is, the vector, how its base gets there, and what the message must say.
pub(super) type Wrong = (&'static str, &'static str, fn(&Work), &'static [&'static str]);

pub(super) fn all_are_refused(wrongs: &[Wrong]) {
    for (what, vector, damage, says) in wrongs {
        let (work, _) = case(vector);
        damage(&work);
        refused(&format!("{vector}, {what}"), &work, &[], 65, says);
    }
}

/// Changes the tensor of the adapted module that ends so.
fn change(work: &Work, leaf: &str, change: impl FnOnce(&mut Tensor)) {
    edit(&work.base.join("model.safetensors"), |tensors| change(named(tensors, &format!("{MODULE}.{leaf}"))));
}

/// Gives it another shape, and as many bytes of it as that has.
pub(super) fn reshape(work: &Work, leaf: &str, shape: &[u64]) {
    change(work, leaf, |tensor| {
        let size = tensor.data.len() / tensor.shape.iter().product::<u64>().max(1) as usize;
        tensor.data.resize(shape.iter().product::<u64>() as usize * size, 0x38);
        tensor.shape = shape.to_vec();
    });
}

/// Gives it another type of the same size.
pub(super) fn retype(work: &Work, leaf: &str, dtype: &str) {
    change(work, leaf, |tensor| tensor.dtype = dtype.into());
}

pub(super) fn remove(work: &Work, leaf: &str) {
    let name = format!("{MODULE}.{leaf}");
    edit(&work.base.join("model.safetensors"), |tensors| {
        let count = tensors.len();
        tensors.retain(|tensor| tensor.name != name);
        assert_eq!(tensors.len() + 1, count, "`{name}` was there");
    });
}

/// Adds a tensor of ones.
fn add(work: &Work, leaf: &str, shape: &[u64]) {
    edit(&work.base.join("model.safetensors"), |tensors| {
        let (name, data) = (format!("{MODULE}.{leaf}"), f32s((0..shape.iter().product()).map(|_| 1.0)));
        tensors.push(Tensor { name, dtype: "F32".into(), shape: shape.to_vec(), data });
    });
}

/// Sets the first bytes of it.
pub(super) fn set(work: &Work, leaf: &str, bytes: &[u8]) {
    change(work, leaf, |tensor| tensor.data[..bytes.len()].copy_from_slice(bytes));
}

fn quantization(work: &Work, key: &str, value: Value) {
    edit_json(&work.base.join("config.json"), |config| {
        config["quantization_config"][key] = value;
    });
}

/// Sets an argument of the weights of the only group.
fn argument(work: &Work, key: &str, value: Value) {
    edit_json(&work.base.join("config.json"), |config| {
        config["quantization_config"]["config_groups"]["group_0"]["weights"][key] = value;
    });
}

const NAN: [u8; 4] = f32::NAN.to_le_bytes();
const SAYS: &str = "`model.layers.0.self_attn.q_proj.weight` is quantized";
const NO_NUMBER: &str =
    "the data or the scales of `model.layers.0.self_attn.q_proj.weight` hold a value that is not finite";

#[test]
fn fp8_with_a_scale_for_each_tensor_or_channel() {
    const SCALE: &str = "`model.layers.0.self_attn.q_proj.weight_scale` has";
    all_are_refused(&[
        (
            "no scale",
            "fp8_tensor_inv",
            |work| remove(work, "weight_scale_inv"),
            &[SAYS, "it has no `model.layers.0.self_attn.q_proj.weight_scale_inv`"],
        ),
        (
            "scales of blocks",
            "fp8_tensor_inv",
            |work| reshape(work, "weight_scale_inv", &[1, 2]),
            &[SAYS, "shape [1, 2], expected [1, 1] for blocks of 24 × 40"],
        ),
        (
            "no numbers",
            "fp8_tensor",
            |work| reshape(work, "weight_scale", &[0]),
            &[SAYS, SCALE, "shape [0], expected [1, 1]"],
        ),
        (
            "a scale of another type",
            "fp8_tensor",
            |work| retype(work, "weight_scale", "U32"),
            &[SAYS, SCALE, "dtype U32, expected F32, BF16 or F16"],
        ),
        (
            "a scale without end",
            "fp8_tensor",
            |work| set(work, "weight_scale", &f32::INFINITY.to_le_bytes()),
            &[NO_NUMBER],
        ),
        (
            "codes of another type",
            "fp8_tensor",
            |work| retype(work, "weight", "F8_E4M3FNUZ"),
            &[SAYS, "has dtype F8_E4M3FNUZ, expected F8_E4M3"],
        ),
        (
            "two scales of a tensor",
            "mistral",
            |work| reshape(work, "qscale_weight", &[2]),
            &[SAYS, "q_proj.qscale_weight` has shape [2], expected [1, 1]"],
        ),
        (
            "a scale of the tensor",
            "fbgemm",
            |work| reshape(work, "weight_scale", &[1]),
            &[SAYS, SCALE, "shape [1], expected [24, 1] for blocks of 1 × 40"],
        ),
        (
            "no scales",
            "fbgemm",
            |work| remove(work, "weight_scale"),
            &[SAYS, "it has no `model.layers.0.self_attn.q_proj.weight_scale`"],
        ),
        (
            "scales of channels",
            "modelopt_fp8",
            |work| reshape(work, "weight_scale", &[24]),
            &[SAYS, SCALE, "shape [24], expected [1, 1] for blocks of 24 × 40"],
        ),
        (
            "no scale by ModelOpt's file",
            "modelopt_fp8_file",
            |work| remove(work, "weight_scale"),
            &[SAYS, "it has no `model.layers.0.self_attn.q_proj.weight_scale`"],
        ),
        (
            "a scale of the tensor by ModelOpt",
            "modelopt_fp8_channel",
            |work| reshape(work, "weight_scale", &[]),
            &[SAYS, SCALE, "shape [], expected [24, 1] for blocks of 1 × 40"],
        ),
        (
            "another algorithm",
            "modelopt_fp8",
            |work| quantization(work, "quant_algo", json!("FP8_PB_WO")),
            &[SAYS, "it is stored as F8_E4M3 of FP8 of ModelOpt"],
        ),
        (
            "another basis",
            "modelopt_fp8",
            |work| add(work, "pre_quant_scale", &[40]),
            &[SAYS, "q_proj.pre_quant_scale` stands beside it too"],
        ),
        (
            "plain by ModelOpt's file",
            "modelopt_fp8_file",
            |work| {
                let said = json!({"quantization": {"quant_algo": "FP8", "exclude_modules": ["*self_attn*"]}});
                std::fs::write(work.base.join("hf_quant_config.json"), said.to_string()).expect("written");
            },
            &[SAYS, "lists its module as plain"],
        ),
        (
            "of no algorithm",
            "modelopt_mixed_fp8",
            |work| {
                let said = json!({"quantization": {"quant_algo": "MIXED_PRECISION", "quantized_layers": {}}});
                std::fs::write(work.base.join("hf_quant_config.json"), said.to_string()).expect("written");
            },
            &[SAYS, "it is stored as F8_E4M3 of"],
        ),
    ]);
}

#[test]
fn fp8_of_compressed_tensors() {
    const SCALE: &str = "`model.layers.0.self_attn.q_proj.weight_scale` has";
    all_are_refused(&[
        (
            "no scale",
            "ct_fp8_tensor",
            |work| remove(work, "weight_scale"),
            &[SAYS, "it has no `model.layers.0.self_attn.q_proj.weight_scale`"],
        ),
        (
            "two scales of a tensor",
            "ct_fp8_tensor",
            |work| reshape(work, "weight_scale", &[2]),
            &[SAYS, SCALE, "shape [2], expected [1, 1] for blocks of 24 × 40"],
        ),
        (
            "a scale for each column",
            "ct_fp8_channel",
            |work| reshape(work, "weight_scale", &[1, 24]),
            &[SAYS, SCALE, "shape [1, 24], expected [24, 1] for blocks of 1 × 40"],
        ),
        (
            "no scales at all",
            "ct_fp8_channel",
            |work| reshape(work, "weight_scale", &[24, 0]),
            &[SAYS, SCALE, "shape [24, 0], expected [24, 1]"],
        ),
        (
            "blocks of another size",
            "ct_fp8_block",
            |work| argument(work, "block_structure", json!([16, 32])),
            &[SAYS, SCALE, "shape [2, 3], expected [2, 2] for blocks of 16 × 32"],
        ),
        (
            "blocks larger than anything",
            "ct_fp8_block",
            |work| argument(work, "block_structure", json!([u64::MAX, 1u64 << 63])),
            &[SAYS, SCALE, "shape [2, 3], expected [1, 1] for blocks of 32 × 48"],
        ),
        (
            "blocks of no size",
            "ct_fp8_block",
            |work| argument(work, "block_structure", json!([0, 16])),
            &[SAYS, "`block_structure` is no pair of sizes"],
        ),
        (
            "blocks below nothing",
            "ct_fp8_block",
            |work| argument(work, "block_structure", json!([-16, 16])),
            &[SAYS, "`block_structure` is no pair of sizes"],
        ),
        (
            "another strategy",
            "ct_fp8_channel",
            |work| argument(work, "strategy", json!("tensor")),
            &[SAYS, SCALE, "shape [24, 1], expected [1, 1]"],
        ),
        (
            "a strategy that is not read",
            "ct_fp8_channel",
            |work| argument(work, "strategy", json!("attn_head")),
            &[SAYS, "`strategy` is `attn_head`; `tensor`, `channel`, `block` and `group` are read"],
        ),
        (
            "other bits",
            "ct_fp8_channel",
            |work| argument(work, "num_bits", json!(4)),
            &[SAYS, "`num_bits` is 4; 8 is read"],
        ),
        (
            "whole numbers",
            "ct_fp8_channel",
            |work| argument(work, "type", json!("int")),
            &[SAYS, "`type` is `int`, not `float`"],
        ),
        (
            "zero points by the config",
            "ct_fp8_channel",
            |work| argument(work, "symmetric", json!(false)),
            &[SAYS, "it is not symmetric, and zero points are not read"],
        ),
        (
            "zero points by the tensors",
            "ct_fp8_channel",
            |work| add(work, "weight_zero_point", &[24, 1]),
            &[SAYS, "it is symmetric, and has a `weight_zero_point`"],
        ),
        (
            "scales of another type",
            "ct_fp8_channel",
            |work| retype(work, "weight_scale", "I32"),
            &[SAYS, SCALE, "dtype I32, expected F32, BF16 or F16"],
        ),
        (
            "codes of another type",
            "ct_fp8_channel",
            |work| retype(work, "weight", "F8_E5M2"),
            &[SAYS, "`model.layers.0.self_attn.q_proj.weight` has dtype F8_E5M2, expected F8_E4M3"],
        ),
        (
            "one axis",
            "ct_fp8_tensor",
            |work| reshape(work, "weight", &[960]),
            &[SAYS, "its quantized data has shape [960], where two axes are read"],
        ),
        ("no rows", "ct_fp8_tensor", |work| reshape(work, "weight", &[0, 40]), &[SAYS, "it is empty"]),
        (
            "another basis",
            "ct_fp8_channel",
            |work| quantization(work, "transform_config", json!({"config_groups": {"R1": {}}})),
            &[SAYS, "stored in another basis"],
        ),
        ("a scale that is no number", "ct_fp8_block", |work| set(work, "weight_scale", &NAN), &[NO_NUMBER]),
        ("a code that is no number", "ct_fp8_tensor", |work| set(work, "weight", &[0xff]), &[NO_NUMBER]),
        (
            "more groups than anyone needs",
            "ct_fp8_channel",
            |work| {
                let groups: serde_json::Map<_, _> = (0..300).map(|i| (i.to_string(), json!({}))).collect();
                quantization(work, "config_groups", Value::from(groups));
            },
            &[SAYS, "the config has more than 256 `config_groups`"],
        ),
        (
            "more patterns than anyone needs",
            "ct_fp8_channel",
            |work| {
                let patterns: Vec<String> = (0..1001).map(|i| format!("re:.*{i}")).collect();
                edit_json(&work.base.join("config.json"), |config| {
                    config["quantization_config"]["config_groups"]["group_1"] = json!({"targets": patterns});
                });
            },
            &[SAYS, "`config_groups` have more than 1000 patterns"],
        ),
        (
            "patterns that are large together",
            "ct_fp8_channel",
            |work| {
                let patterns: Vec<String> = (0..200).map(|i| format!("re:(a{{90}}){{90}}{i}")).collect();
                edit_json(&work.base.join("config.json"), |config| {
                    config["quantization_config"]["config_groups"]["group_1"] = json!({"targets": patterns});
                });
            },
            &[SAYS, "the patterns of `config_groups` are too large together"],
        ),
        (
            "a pattern that is none",
            "ct_fp8_channel",
            |work| {
                edit_json(&work.base.join("config.json"), |config| {
                    config["quantization_config"]["config_groups"]["group_1"] = json!({"targets": ["re:("]});
                });
            },
            &[SAYS, "the target `re:(` of `config_groups` is a pattern that is not supported"],
        ),
        (
            "of two groups",
            "ct_fp8_channel",
            |work| {
                edit_json(&work.base.join("config.json"), |config| {
                    let groups = &mut config["quantization_config"]["config_groups"];
                    groups["group_1"] = groups["group_0"].clone();
                    groups["group_1"]["weights"]["strategy"] = json!("tensor");
                });
            },
            &[SAYS, "the `config_groups` differ, and no target says which is its own"],
        ),
        (
            "a format that is not read",
            "ct_fp8_channel",
            |work| quantization(work, "format", json!("dense")),
            &[SAYS, "it is stored as F8_E4M3 of FP8 of compressed-tensors"],
        ),
    ]);
}

#[test]
fn whole_numbers_of_eight_bits() {
    const SCALE: &str = "`model.layers.0.self_attn.q_proj.weight_scale` has";
    const SCB: &str = "`model.layers.0.self_attn.q_proj.SCB` has";
    all_are_refused(&[
        (
            "no scales",
            "ct_int8_w8a8_channel",
            |work| remove(work, "weight_scale"),
            &[SAYS, "it has no `model.layers.0.self_attn.q_proj.weight_scale`"],
        ),
        (
            "a scale of the tensor",
            "ct_int8_w8a8_channel",
            |work| reshape(work, "weight_scale", &[1]),
            &[SAYS, SCALE, "shape [1], expected [16, 1] for blocks of 1 × 48"],
        ),
        (
            "blocks",
            "ct_int8_w8a8_channel",
            |work| argument(work, "strategy", json!("block")),
            &[SAYS, "`strategy` is `block`; `tensor`, `channel` and `group` are read"],
        ),
        (
            "groups of another size",
            "ct_int8_group",
            |work| argument(work, "group_size", json!(32)),
            &[SAYS, SCALE, "shape [10, 4], expected [10, 3] for blocks of 1 × 32"],
        ),
        (
            "groups of a negative size",
            "ct_int8_group",
            |work| argument(work, "group_size", json!(-24)),
            &[SAYS, "`strategy` is `group`, and `group_size` is no size"],
        ),
        (
            "floats",
            "ct_int8_w8a8_channel",
            |work| argument(work, "type", json!("float")),
            &[SAYS, "`type` is `float`, not `int`"],
        ),
        (
            "other bits",
            "ct_int8_w8a8_channel",
            |work| argument(work, "num_bits", json!(-8)),
            &[SAYS, "`num_bits` is nothing; 8 is read"],
        ),
        (
            "zero points",
            "ct_int8_w8a8_channel",
            |work| {
                argument(work, "symmetric", json!(false));
                add(work, "weight_zero_point", &[16, 1]);
            },
            &[SAYS, "it is not symmetric, and zero points are not read"],
        ),
        (
            "a scale that is no number",
            "ct_int8_w8a8_channel",
            |work| set(work, "weight_scale", &NAN),
            &[NO_NUMBER],
        ),
        (
            "no largest magnitudes",
            "bnb_int8",
            |work| remove(work, "SCB"),
            &[SAYS, "it has no `model.layers.0.self_attn.q_proj.SCB`"],
        ),
        (
            "one for each column",
            "bnb_int8",
            |work| reshape(work, "SCB", &[48]),
            &[SAYS, SCB, "shape [48], expected [16, 1] for blocks of 1 × 48"],
        ),
        (
            "magnitudes of another type",
            "bnb_int8",
            |work| {
                change(work, "SCB", |tensor| {
                    tensor.dtype = "F16".into();
                    tensor.data.truncate(32);
                });
            },
            &[SAYS, SCB, "dtype F16, expected F32"],
        ),
        (
            "columns in the order of a GPU",
            "bnb_int8",
            |work| set(work, "weight_format", &[1]),
            &[SAYS, "`weight_format` is `[1]`, not `[0]`"],
        ),
        (
            "an order that is no number",
            "bnb_int8",
            |work| reshape(work, "weight_format", &[2]),
            &[SAYS, "`weight_format` is `[0, 56]`, not `[0]`"],
        ),
        (
            "an order of many bytes",
            "bnb_int8",
            |work| reshape(work, "weight_format", &[70_000]),
            &["q_proj.weight_format` is quantized", "it has 70000 bytes, where a few numbers are expected"],
        ),
        (
            "no config of it",
            "bnb_int8",
            |work| {
                edit_json(&work.base.join("config.json"), |config| {
                    drop(config.shift_remove("quantization_config"));
                });
            },
            &[
                SAYS,
                "it is stored as bitsandbytes of 8 bits",
                "`quant_method` is missing, not `bitsandbytes`",
            ],
        ),
        (
            "another method",
            "bnb_int8",
            |work| quantization(work, "quant_method", json!("gptq")),
            &["GPTQ", "bitsandbytes of 8 bits", "one of the two comes from another checkpoint"],
        ),
        ("no rows", "bnb_int8", |work| reshape(work, "weight", &[0, 48]), &[SAYS, "it is empty"]),
        ("a magnitude that is no number", "bnb_int8", |work| set(work, "SCB", &NAN), &[NO_NUMBER]),
    ]);
}

#[test]
fn microscaling() {
    const SCALE: &str = "`model.layers.0.self_attn.q_proj.weight_scale` has";
    all_are_refused(&[
        (
            "no scales",
            "ct_mxfp4",
            |work| remove(work, "weight_scale"),
            &[SAYS, "it has no `model.layers.0.self_attn.q_proj.weight_scale`"],
        ),
        (
            "too few scales",
            "ct_mxfp4",
            |work| reshape(work, "weight_scale", &[16, 2]),
            &[SAYS, SCALE, "shape [16, 2], expected [16, 3] for blocks of 1 × 32"],
        ),
        (
            "scales of the other axis",
            "ct_mxfp8",
            |work| reshape(work, "weight_scale", &[3, 16]),
            &[SAYS, SCALE, "shape [3, 16], expected [16, 3]"],
        ),
        (
            "codes of fewer columns",
            "ct_mxfp6",
            |work| reshape(work, "weight_packed", &[16, 24]),
            &[SAYS, SCALE, "shape [16, 3], expected [16, 1]"],
        ),
        (
            "a part of a code",
            "ct_mxfp6",
            |work| reshape(work, "weight_packed", &[16, 71]),
            &[SAYS, "its quantized data has 71 bytes in a row, which are no whole number of codes"],
        ),
        (
            "groups of another size",
            "ct_mxfp8",
            |work| argument(work, "group_size", json!(16)),
            &[SAYS, "`group_size` is 16; 32 is read"],
        ),
        (
            "groups of no size",
            "ct_mxfp4",
            |work| argument(work, "group_size", json!(0)),
            &[SAYS, "`strategy` is `group`, and `group_size` is no size"],
        ),
        (
            "groups larger than anything",
            "ct_mxfp4",
            |work| argument(work, "group_size", json!(i64::MAX)),
            &[SAYS, "`group_size` is 9223372036854775807; 32 is read"],
        ),
        (
            "other bits",
            "ct_mxfp4",
            |work| argument(work, "num_bits", json!(6)),
            &[SAYS, "`num_bits` is 6; 4 is read"],
        ),
        (
            "scales of another type",
            "ct_mxfp4",
            |work| retype(work, "weight_scale", "F8_E4M3"),
            &[SAYS, SCALE, "dtype F8_E4M3, expected U8 or F8_E8M0"],
        ),
        ("a scale that is no number", "ct_mxfp6", |work| set(work, "weight_scale", &[255]), &[NO_NUMBER]),
        (
            "the weight twice",
            "ct_mxfp4",
            |work| add(work, "weight", &[16, 96]),
            &[SAYS, "it is there twice, as `model.layers.0.self_attn.q_proj.weight"],
        ),
        (
            "no scales of transformers",
            "mxfp8",
            |work| remove(work, "weight_scale_inv"),
            &[SAYS, "it has no `model.layers.0.self_attn.q_proj.weight_scale_inv`"],
        ),
        (
            "blocks of FP8",
            "mxfp8",
            |work| quantization(work, "weight_block_size", json!([128, 128])),
            &[SAYS, "`weight_block_size` is `[128,128]`, not `[1,32]`"],
        ),
        (
            "scales that are numbers",
            "mxfp8",
            |work| {
                change(work, "weight_scale_inv", |tensor| {
                    tensor.dtype = "F32".into();
                    tensor.data.resize(192, 0);
                });
            },
            &[SAYS, "q_proj.weight_scale_inv` has dtype F32, expected U8 or F8_E8M0"],
        ),
        (
            "groups of another size by ModelOpt",
            "modelopt_mxfp8",
            |work| quantization(work, "group_size", json!(-32)),
            &[SAYS, "`group_size` is nothing; 32 is read"],
        ),
        (
            "scales of another shape by ModelOpt",
            "modelopt_mxfp8",
            |work| reshape(work, "weight_scale", &[16, 3, 1]),
            &[SAYS, SCALE, "shape [16, 3, 1], expected [16, 3]"],
        ),
        (
            "scales of another shape of experts",
            "deepseek_v4_fp4",
            |work| reshape(work, "scale", &[16, 1]),
            &[SAYS, "q_proj.scale` has shape [16, 1], expected [16, 2] for blocks of 1 × 32"],
        ),
        (
            "scales of another type of experts",
            "deepseek_v4_fp4",
            |work| retype(work, "scale", "U8"),
            &[SAYS, "q_proj.scale` has dtype U8, expected F8_E8M0"],
        ),
        (
            "no scales of experts",
            "deepseek_v4_fp4",
            |work| remove(work, "scale"),
            &[SAYS, "its encoding is not supported (a scheme that is not known)"],
        ),
        (
            "a scale of experts that is no number",
            "deepseek_v4_fp4",
            |work| set(work, "scale", &[255]),
            &[NO_NUMBER],
        ),
    ]);
}

#[test]
fn nvfp4() {
    const SCALE: &str = "`model.layers.0.self_attn.q_proj.weight_scale` has";
    all_are_refused(&[
        (
            "no scales",
            "ct_nvfp4",
            |work| remove(work, "weight_scale"),
            &[SAYS, "it has no `model.layers.0.self_attn.q_proj.weight_scale`"],
        ),
        (
            "no global scale",
            "ct_nvfp4",
            |work| remove(work, "weight_global_scale"),
            &[SAYS, "it has no `model.layers.0.self_attn.q_proj.weight_global_scale`"],
        ),
        (
            "a global scale for each row",
            "ct_nvfp4",
            |work| reshape(work, "weight_global_scale", &[16]),
            &[SAYS, "q_proj.weight_global_scale` has shape [16], expected [1]"],
        ),
        (
            "a global scale that is none",
            "ct_nvfp4",
            |work| reshape(work, "weight_global_scale", &[0]),
            &[SAYS, "q_proj.weight_global_scale` has shape [0], expected [1]"],
        ),
        (
            "a global scale of another type",
            "ct_nvfp4",
            |work| retype(work, "weight_global_scale", "I32"),
            &[SAYS, "q_proj.weight_global_scale` has dtype I32, expected F32"],
        ),
        (
            "a global scale that nothing can be divided by",
            "ct_nvfp4",
            |work| set(work, "weight_global_scale", &[0; 4]),
            &[NO_NUMBER],
        ),
        (
            "scales of another size of groups",
            "ct_nvfp4",
            |work| reshape(work, "weight_scale", &[16, 2]),
            &[SAYS, SCALE, "shape [16, 2], expected [16, 4] for blocks of 1 × 16"],
        ),
        (
            "scales that are powers of two",
            "ct_nvfp4",
            |work| retype(work, "weight_scale", "U8"),
            &[SAYS, SCALE, "dtype U8, expected F8_E4M3"],
        ),
        (
            "groups of another size",
            "ct_nvfp4",
            |work| argument(work, "group_size", json!(32)),
            &[SAYS, "`group_size` is 32; 16 is read"],
        ),
        (
            "another strategy",
            "ct_nvfp4",
            |work| argument(work, "strategy", json!("group")),
            &[SAYS, "`strategy` is `group`; `tensor_group` is read"],
        ),
        ("a scale that is no number", "ct_nvfp4", |work| set(work, "weight_scale", &[0x7f]), &[NO_NUMBER]),
        (
            "no config of it",
            "ct_nvfp4",
            |work| {
                edit_json(&work.base.join("config.json"), |config| {
                    drop(config.shift_remove("quantization_config"));
                });
            },
            &[SAYS, "it is stored as NVFP4 of compressed-tensors", "`quant_method` is missing"],
        ),
        (
            "no scales by ModelOpt",
            "modelopt_nvfp4",
            |work| remove(work, "weight_scale"),
            &[SAYS, "it has no `model.layers.0.self_attn.q_proj.weight_scale`"],
        ),
        (
            "no scale of the tensor by ModelOpt",
            "modelopt_nvfp4",
            |work| remove(work, "weight_scale_2"),
            &[SAYS, "it has no `model.layers.0.self_attn.q_proj.weight_scale_2`"],
        ),
        (
            "a scale of each row by ModelOpt",
            "modelopt_nvfp4_file",
            |work| reshape(work, "weight_scale_2", &[16, 1]),
            &[SAYS, "q_proj.weight_scale_2` has shape [16, 1], expected [1]"],
        ),
        (
            "groups of another size by ModelOpt",
            "modelopt_nvfp4",
            |work| argument(work, "group_size", json!(32)),
            &[SAYS, "`group_size` is 32; 16 is read"],
        ),
        (
            "another basis",
            "modelopt_nvfp4",
            |work| add(work, "pre_quant_scale", &[64]),
            &[SAYS, "q_proj.pre_quant_scale` stands beside it too", "in another basis"],
        ),
        (
            "another basis by the algorithm",
            "modelopt_nvfp4",
            |work| quantization(work, "quant_algo", json!("NVFP4_AWQ")),
            &["in another basis", "NVFP4 of ModelOpt", "one of the two comes from another checkpoint"],
        ),
        (
            "a stack of experts",
            "modelopt_nvfp4",
            |work| reshape(work, "weight", &[2, 16, 32]),
            &[SAYS, "its quantized data has shape [2, 16, 32], where two axes are read"],
        ),
        (
            "no config of ModelOpt's",
            "modelopt_nvfp4",
            |work| {
                edit_json(&work.base.join("config.json"), |config| {
                    drop(config.shift_remove("quantization_config"));
                });
            },
            &[SAYS, "it is stored as NVFP4 of ModelOpt", "`quant_method` is missing, not `modelopt`"],
        ),
        (
            "a scale of the tensor without end",
            "modelopt_nvfp4",
            |work| set(work, "weight_scale_2", &f32::INFINITY.to_le_bytes()),
            &[NO_NUMBER],
        ),
        (
            "codes that are whole numbers",
            "modelopt_nvfp4",
            |work| retype(work, "weight", "I8"),
            &[SAYS, "it is stored as I8 of a scheme that is not known"],
        ),
    ]);
}
