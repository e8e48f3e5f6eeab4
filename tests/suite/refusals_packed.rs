//! What is wrong with bases in packed integers and in MXFP4 is said with the name of the weight.

use serde_json::json;

use super::refusals::named;
use super::refusals_kinds::{all_are_refused, config, single};
use super::support::f32s;
use super::work::{Tensor, Work, edit, edit_json};

/// A packed weight that the case's adapter changes.
const UP: &str = "mlp.experts.0.gate_proj.weight";
const GATE_UP: &str = "model.layers.0.mlp.experts.gate_up_proj";

/// Sets an argument of the only group.
fn argument(work: &Work, name: &str, value: serde_json::Value) {
    edit_json(&work.base.join("config.json"), |config| {
        config["quantization_config"]["config_groups"]["group_0"]["weights"][name] = value;
    });
}

fn remove(work: &Work, name: &str) {
    edit(&single(work), |tensors| {
        let count = tensors.len();
        tensors.retain(|tensor| tensor.name != name);
        assert_eq!(tensors.len() + 1, count, "`{name}` was there");
    });
}

/// Adds a tensor of these many zeros.
fn add(work: &Work, name: &str, shape: &[u64]) {
    edit(&single(work), |tensors| {
        let data = f32s((0..shape.iter().product()).map(|_| 0.0));
        tensors.push(Tensor { name: name.into(), dtype: "F32".into(), shape: shape.to_vec(), data });
    });
}

#[test]
fn packed_integers() {
    const SAYS: &str = "`mlp.experts.0.gate_proj.weight` is quantized";
    all_are_refused(&[
        (
            "no scales",
            "int4",
            |work| remove(work, &format!("{UP}_scale")),
            &[SAYS, "it has no `mlp.experts.0.gate_proj.weight_scale`"],
        ),
        (
            "no zero points",
            "int4-asym",
            |work| remove(work, &format!("{UP}_zero_point")),
            &[SAYS, "it is not symmetric, and has no `weight_zero_point`"],
        ),
        (
            "zero points too many",
            "int4-asym",
            |work| argument(work, "symmetric", json!(true)),
            &[SAYS, "it is symmetric, and has a `weight_zero_point`"],
        ),
        (
            "no shape where nothing else says it",
            "int4-channel",
            |work| remove(work, &format!("{UP}_shape")),
            &[SAYS, "nothing else says how many columns it has"],
        ),
        (
            "another group size",
            "int4",
            |work| argument(work, "group_size", json!(16)),
            &[SAYS, "its quantized data has 8 words in a row, expected 4 for 32 columns of 4 bits"],
        ),
        (
            "other bits",
            "int4",
            |work| argument(work, "num_bits", json!(8)),
            &[SAYS, "its quantized data has 8 words in a row, expected 16 for 64 columns of 8 bits"],
        ),
        (
            "columns out of order",
            "int4",
            |work| argument(work, "actorder", json!("group")),
            &[SAYS, "its columns are out of order, and it has no `weight_g_idx`"],
        ),
        (
            "bits that are not read",
            "int4",
            |work| argument(work, "num_bits", json!(6)),
            &[SAYS, "`num_bits` is 6; 3, 4 and 8 are read"],
        ),
        (
            "no config of it",
            "int4",
            |work| {
                edit_json(&work.base.join("config.json"), |config| {
                    config.shift_remove("quantization_config");
                });
            },
            &[SAYS, "its quantized data is packed, but config.json has no `quantization_config`"],
        ),
        (
            "another method",
            "int4",
            |work| config(work, "quantization_config", json!({"quant_method": "auto-round"})),
            &[SAYS, "`quant_method` is `auto-round`, not `compressed-tensors`"],
        ),
        (
            "another format",
            "int4",
            |work| {
                edit_json(&work.base.join("config.json"), |config| {
                    config["quantization_config"]["format"] = json!("marlin-24");
                });
            },
            &[SAYS, "their `format` is `marlin-24`, not `pack-quantized`"],
        ),
        (
            "the weight twice",
            "int4",
            |work| add(work, UP, &[2, 2]),
            &[
                SAYS,
                "it is there twice, as `mlp.experts.0.gate_proj.weight_packed` and as `mlp.experts.0.gate_proj.weight`",
            ],
        ),
        (
            "a scale that is no number",
            "int4",
            |work| edit(&single(work), |tensors| named(tensors, &format!("{UP}_scale")).data[1] = 0x7f),
            &["a value that is not finite"],
        ),
        (
            "codes of another kind beside them",
            "int4",
            |work| add(work, "mlp.experts.9.gate_proj.weight_packed", &[2, 2]),
            &["`mlp.experts.9.gate_proj.weight_packed` is quantized", "its encoding is not supported"],
        ),
    ]);
}

#[test]
fn mxfp4() {
    const SAYS: &str = "`model.layers.0.mlp.experts.gate_up_proj` is quantized";
    all_are_refused(&[
        (
            "no scales",
            "mxfp4",
            |work| remove(work, &format!("{GATE_UP}_scales")),
            &[SAYS, "it has no `model.layers.0.mlp.experts.gate_up_proj_scales`"],
        ),
        (
            "no codes",
            "mxfp4",
            |work| remove(work, &format!("{GATE_UP}_blocks")),
            &[SAYS, "and no `model.layers.0.mlp.experts.gate_up_proj_blocks`"],
        ),
        (
            "scales of another shape",
            "mxfp4",
            |work| {
                edit(&single(work), |tensors| {
                    named(tensors, &format!("{GATE_UP}_scales")).shape = vec![2, 32, 2]
                })
            },
            &[SAYS, "has shape [2, 32, 2], expected [2, 64, 1]"],
        ),
        (
            "blocks of another size",
            "mxfp4",
            |work| {
                edit(&single(work), |tensors| {
                    named(tensors, &format!("{GATE_UP}_blocks")).shape = vec![2, 64, 2, 8]
                });
            },
            &[SAYS, "has blocks of 8 bytes, expected 16"],
        ),
        (
            "another method",
            "mxfp4",
            |work| config(work, "quantization_config", json!({"quant_method": "fp8"})),
            &[SAYS, "`quant_method` is `fp8`, not `mxfp4`"],
        ),
        ("the weight twice", "mxfp4", |work| add(work, GATE_UP, &[2, 2]), &[SAYS, "it is there twice"]),
        (
            "a scale that is no number",
            "mxfp4",
            |work| edit(&single(work), |tensors| named(tensors, &format!("{GATE_UP}_scales")).data[3] = 255),
            &[
                "the data or the scales of `model.layers.0.mlp.experts.gate_up_proj` hold a value that is not finite",
            ],
        ),
    ]);
}
