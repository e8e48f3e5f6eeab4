//! What is wrong with bases of HQQ and quanto is said with the name of the weight, what was found and what was expected.

use super::refusals_scaled::{all_are_refused, remove, reshape, retype, set};

const SAYS: &str = "`model.layers.0.self_attn.q_proj.weight` is quantized";
const NO_NUMBER: &str =
    "the data or the scales of `model.layers.0.self_attn.q_proj.weight` hold a value that is not finite";

#[test]
fn hqq() {
    const VECTOR: &str = "hqq4_g64_axis1";
    all_are_refused(&[
        (
            "no scale",
            VECTOR,
            |work| remove(work, "scale"),
            &[SAYS, "it has no `model.layers.0.self_attn.q_proj.scale`"],
        ),
        (
            "no shape",
            VECTOR,
            |work| remove(work, "shape"),
            &[SAYS, "it has no `model.layers.0.self_attn.q_proj.shape`"],
        ),
        (
            "codes of 3 bits",
            VECTOR,
            |work| set(work, "nbits", &[3]),
            &[SAYS, "`nbits` is 3; 1, 2, 4 and 8 are read"],
        ),
        (
            "codes that are called floats",
            "hqq8_g32_axis0",
            |work| retype(work, "W_q", "F8_E4M3"),
            &[SAYS, "q_proj.W_q` has dtype F8_E4M3, expected U8"],
        ),
        (
            "scales of another number of groups",
            VECTOR,
            |work| reshape(work, "scale", &[32, 1]),
            &[SAYS, "q_proj.zero` has shape [64, 1], expected [32, 1]"],
        ),
        ("no scales", VECTOR, |work| reshape(work, "scale", &[0, 1]), &[SAYS, "it is empty"]),
        (
            "the shape of another weight",
            VECTOR,
            |work| set(work, "shape", &[64]),
            &[SAYS, "q_proj.W_q` has shape [32, 64], expected [32, 128]"],
        ),
        (
            "a shape of one number",
            VECTOR,
            |work| reshape(work, "shape", &[1]),
            &[SAYS, "q_proj.shape` has shape [1], expected [2]"],
        ),
        ("a scale without end", VECTOR, |work| set(work, "scale", &[0x00, 0x7c]), &[NO_NUMBER]),
        (
            "values of another type",
            "hqq4_g40_axis1_bf16",
            |work| reshape(work, "compute_dtype", &[13]),
            &[SAYS, "`compute_dtype` is `torch.bfloat1`, not `torch.bfloat16`"],
        ),
    ]);
}

#[test]
fn quanto() {
    all_are_refused(&[
        (
            "no scales",
            "quanto_qint8",
            |work| remove(work, "weight._scale"),
            &[SAYS, "it has no `model.layers.0.self_attn.q_proj.weight._scale`"],
        ),
        (
            "a scale of the tensor",
            "quanto_qint8",
            |work| reshape(work, "weight._scale", &[1]),
            &[SAYS, "weight._scale` has shape [1], expected [32, 1]"],
        ),
        (
            "floats of another kind",
            "quanto_qfloat8",
            |work| retype(work, "weight._data", "F8_E5M2"),
            &[SAYS, "weight._data` has dtype F8_E5M2, expected F8_E4M3"],
        ),
        (
            "no bias",
            "quanto_qint4",
            |work| remove(work, "bias"),
            &[
                SAYS,
                "it has no `model.layers.0.self_attn.q_proj.bias`, and nothing else says how many columns it has",
                "hint: merge into the checkpoint that it was quantized from",
            ],
        ),
        (
            "no shift",
            "quanto_qint4",
            |work| remove(work, "weight._shift"),
            &[SAYS, "it has no `model.layers.0.self_attn.q_proj.weight._shift`"],
        ),
        (
            "whole numbers as shifts",
            "quanto_qint4",
            |work| retype(work, "weight._shift", "I32"),
            &[SAYS, "weight._shift` has dtype I32, expected F32, BF16 or F16"],
        ),
        (
            "a bias of another layer",
            "quanto_qint4",
            |work| reshape(work, "bias", &[4]),
            &[SAYS, "its groups are no whole number for each row of its bias"],
        ),
        (
            "codes too many",
            "quanto_qint4",
            |work| reshape(work, "weight._data._data", &[14, 96]),
            &[SAYS, "weight._data._data` has shape [14, 96], expected [7, 96]"],
        ),
        (
            "groups of nothing",
            "quanto_qint4",
            |work| reshape(work, "weight._data._data", &[7, 0]),
            &[SAYS, "it is empty"],
        ),
        (
            "a shift without end",
            "quanto_qint4",
            |work| set(work, "weight._shift", &f32::INFINITY.to_le_bytes()),
            &[NO_NUMBER],
        ),
    ]);
}
