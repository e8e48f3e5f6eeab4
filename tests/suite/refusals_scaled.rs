//! What is wrong with bases of codes with scales is said with the name of the weight, what was found and what was expected.

use serde_json::{Value, json};

use super::quantized_scaled::based_on;
use super::refusals::{named, refused};
use super::support::f32s;
use super::work::{MODULE, Tensor, Work, edit, edit_json};

/// One thing that is wrong: what it is, the vector, how its base gets there, and what the message must say.
type Wrong = (&'static str, &'static str, fn(&Work), &'static [&'static str]);

fn all_are_refused(wrongs: &[Wrong]) {
    for (what, vector, damage, says) in wrongs {
        let (work, _) = based_on(vector);
        damage(&work);
        refused(&format!("{vector}, {what}"), &work, &[], 65, says);
    }
}

/// Changes the tensor of the adapted module that ends so.
fn change(work: &Work, leaf: &str, change: impl FnOnce(&mut Tensor)) {
    edit(&work.base.join("model.safetensors"), |tensors| change(named(tensors, &format!("{MODULE}.{leaf}"))));
}

/// Gives it another shape, and as many bytes of it as that has.
fn reshape(work: &Work, leaf: &str, shape: &[u64]) {
    change(work, leaf, |tensor| {
        let size = tensor.data.len() / tensor.shape.iter().product::<u64>().max(1) as usize;
        tensor.data.resize(shape.iter().product::<u64>() as usize * size, 0x38);
        tensor.shape = shape.to_vec();
    });
}

/// Gives it another type of the same size.
fn retype(work: &Work, leaf: &str, dtype: &str) {
    change(work, leaf, |tensor| tensor.dtype = dtype.into());
}

fn remove(work: &Work, leaf: &str) {
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
fn set(work: &Work, leaf: &str, bytes: &[u8]) {
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
const NO_NUMBER: &str = "the quantized data or the scales of `model.layers.0.self_attn.q_proj.weight` hold a value that is not finite";

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
            &[SAYS, "`strategy` is `attn_head`; `tensor`, `channel` and `block` are read"],
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
            "a format that is not read",
            "ct_fp8_channel",
            |work| quantization(work, "format", json!("dense")),
            &[SAYS, "it is stored as F8_E4M3 of FP8 of compressed-tensors"],
        ),
    ]);
}
