//! The adapter folder: a LoRA or DoRA as PEFT 0.21 saves it.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::base::write_json;
use super::request::{Method, Request};
use super::values::Source;
use super::{Linear, Model, Normal, Result, Tensor, WEIGHT_STD, file};

/// What was written.
pub(super) struct Adapter {
    pub(super) folder: PathBuf,
    pub(super) modules: usize,
    /// Bytes of tensor data.
    pub(super) bytes: u64,
}

/// Writes `OUT/adapter-rR-TARGETS` or `OUT/adapter-dora-rR-TARGETS`, replacing an older one.
pub(super) fn write(model: &Model, request: &Request) -> Result<Adapter> {
    let linear = |tensor: &&Tensor| tensor.linear.is_some();
    let weights: Vec<&Tensor> =
        model.tensors.iter().filter(linear).filter(|weight| is_target(weight, request.targets())).collect();
    if weights.is_empty() {
        return Err(format!("`--targets {}` names no linear module of this shape", request.targets()).into());
    }
    let targets: BTreeSet<&str> = weights.iter().map(|tensor| last_name(tensor)).collect();
    let factors: Vec<Tensor> = weights.iter().flat_map(|weight| factors(weight, request)).collect();
    let label = request.targets().replace(',', "-");
    let kind = if request.method == Method::Dora { "dora-" } else { "" };
    let folder = request.out.join(format!("adapter-{kind}r{}-{label}", request.rank));
    fs::create_dir_all(&folder)?;
    let all: Vec<&Tensor> = factors.iter().collect();
    file::write(&folder.join("adapter_model.safetensors"), &all, Some(&mut Source::new(request.seed)))?;
    let mut config = config(model, request.rank, &targets);
    config["fan_in_fan_out"] = weights.iter().any(|weight| weight.linear == Some(Linear::InOut)).into();
    config["use_dora"] = (request.method == Method::Dora).into();
    write_json(&folder.join("adapter_config.json"), &config)?;
    let bytes = factors.iter().map(Tensor::bytes).sum();
    Ok(Adapter { folder, modules: weights.len(), bytes })
}

/// The module a weight belongs to, without `.weight`.
fn module(weight: &Tensor) -> &str {
    weight.name.strip_suffix(".weight").unwrap_or(&weight.name)
}

/// The last part of a module's name, which is what `target_modules` holds.
fn last_name(weight: &Tensor) -> &str {
    let module = module(weight);
    module.rsplit('.').next().unwrap_or(module)
}

/// Whether `--targets` means this weight.
fn is_target(weight: &Tensor, targets: &str) -> bool {
    match targets {
        "all-linear" => last_name(weight) != "lm_head",
        "attention" => weight.name.contains(".self_attn."),
        list => list.split(',').any(|name| name == last_name(weight)),
    }
}

/// `lora_A [rank, in]` with PEFT's spread of `1/√in`, and `lora_B [out, rank]` small but not zero, as after training.
/// A DoRA also has `lora_magnitude_vector [out]`, near the norms of the weight's rows: `√in` times its spread.
fn factors(weight: &Tensor, request: &Request) -> Vec<Tensor> {
    let (out, inner) = match weight.linear {
        Some(Linear::InOut) => (weight.shape[1], weight.shape[0]),
        _ => (weight.shape[0], weight.shape[1]),
    };
    let (rank, dtype) = (request.rank, request.adapter_dtype.dtype());
    let root = (inner as f32).sqrt();
    let factor = |name: &str, shape: &[usize], mean, std| {
        let tensor = Tensor::plain(&format!("base_model.model.{}.{name}", module(weight)), dtype, shape);
        Tensor { values: Normal { mean, std }, ..tensor }
    };
    let mut factors = vec![
        factor("lora_A.weight", &[rank, inner], 0.0, 1.0 / root),
        factor("lora_B.weight", &[out, rank], 0.0, 0.01),
    ];
    if request.method == Method::Dora {
        let norm = root * WEIGHT_STD;
        factors.push(factor("lora_magnitude_vector", &[out], norm, norm / 50.0));
    }
    factors
}

/// `adapter_config.json` of a LoRA with the keys of PEFT 0.21, sorted as it sorts them.
fn config(model: &Model, rank: usize, targets: &BTreeSet<&str>) -> Value {
    json!({
        "alora_invocation_tokens": null,
        "alpha_pattern": {},
        "arrow_config": null,
        "auto_mapping": null,
        "base_model_name_or_path": null,
        "bias": "none",
        "corda_config": null,
        "ensure_weight_tying": false,
        "eva_config": null,
        "exclude_modules": null,
        "fan_in_fan_out": false,
        "inference_mode": true,
        "init_lora_weights": true,
        "kasa_config": null,
        "layer_replication": null,
        "layers_pattern": null,
        "layers_to_transform": null,
        "loftq_config": {},
        "lora_alpha": 2 * rank,
        "lora_bias": false,
        "lora_dropout": 0.0,
        "lora_ga_config": null,
        "megatron_config": null,
        "megatron_core": "megatron.core",
        "modules_to_save": null,
        "monteclora_config": null,
        "peft_type": "LORA",
        "peft_version": "0.21.2",
        "qalora_group_size": 16,
        "r": rank,
        "rank_pattern": {},
        "revision": null,
        "target_modules": targets,
        "target_parameters": null,
        "task_type": model.task_type,
        "trainable_token_indices": null,
        "use_bdlora": null,
        "use_dora": false,
        "use_qalora": false,
        "use_rslora": false,
        "velora_config": null,
    })
}
