//! The adapter folder: a LoRA, or an adapter of another method, as PEFT 0.21 saves it.

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

/// Writes `OUT/adapter-rR-TARGETS` or `OUT/adapter-METHOD-rR-TARGETS`, replacing an older one.
pub(super) fn write(model: &Model, request: &Request) -> Result<Adapter> {
    let linear = |tensor: &&Tensor| tensor.linear.is_some();
    let weights: Vec<&Tensor> =
        model.tensors.iter().filter(linear).filter(|weight| is_target(weight, request.targets())).collect();
    if weights.is_empty() {
        return Err(format!("`--targets {}` names no linear module of this shape", request.targets()).into());
    }
    let targets: BTreeSet<&str> = weights.iter().map(|tensor| last_name(tensor)).collect();
    let mut factors: Vec<Tensor> = weights.iter().flat_map(|weight| factors(weight, request)).collect();
    factors.extend(shared(&weights, request));
    let label = request.targets().replace(',', "-");
    let kind = match request.method {
        Method::Lora => String::new(),
        method => format!("{}-", method.name().to_lowercase()),
    };
    let folder = request.out.join(format!("adapter-{kind}r{}-{label}", request.rank));
    fs::create_dir_all(&folder)?;
    let all: Vec<&Tensor> = factors.iter().collect();
    file::write(&folder.join("adapter_model.safetensors"), &all, Some(&mut Source::new(request.seed)))?;
    let mut config = config(model, request, &targets);
    if weights.iter().any(|weight| weight.linear == Some(Linear::InOut)) {
        config["fan_in_fan_out"] = true.into();
    }
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

/// The tensors of a module's factors: `lora_A [rank, in]` with PEFT's spread of `1/√in`, and `lora_B [out, rank]` small but not zero, as after
/// training; a magnitude near the norms of the weight's rows, `√in` times its spread; rotations of small angles; and so on.
fn factors(weight: &Tensor, request: &Request) -> Vec<Tensor> {
    let (out, inner) = sizes(weight);
    let rank = request.rank;
    let root = (inner as f32).sqrt();
    let factor = |name: &str, shape: &[usize], mean, std| {
        drawn(&format!("base_model.model.{}.{name}", module(weight)), shape, Normal { mean, std }, request)
    };
    let pair = |a: &str, b: &str| {
        vec![factor(a, &[rank, inner], 0.0, 1.0 / root), factor(b, &[out, rank], 0.0, 0.01)]
    };
    match request.method {
        Method::Lora => pair("lora_A.weight", "lora_B.weight"),
        Method::Dora => {
            let norm = root * WEIGHT_STD;
            let magnitude = factor("lora_magnitude_vector", &[out], norm, norm / 50.0);
            pair("lora_A.weight", "lora_B.weight").into_iter().chain([magnitude]).collect()
        }
        Method::Loha => {
            pair("hada_w1_b", "hada_w1_a").into_iter().chain(pair("hada_w2_b", "hada_w2_a")).collect()
        }
        Method::Oft => {
            let angles = OFT_BLOCK * (OFT_BLOCK - 1) / 2;
            vec![factor("oft_R.weight", &[inner / OFT_BLOCK, angles], 0.0, 0.01)]
        }
        Method::Boft => vec![
            factor("boft_R", &[1, inner / BOFT_BLOCK, BOFT_BLOCK, BOFT_BLOCK], 0.0, 0.01),
            factor("boft_s", &[out, 1], 1.0, 0.01),
        ],
        Method::Vera => {
            vec![factor("vera_lambda_b", &[out], 0.0, 0.01), factor("vera_lambda_d", &[VERA_RANK], 0.1, 0.01)]
        }
        Method::FourierFt => vec![factor("fourierft_spectrum", &[FREQUENCIES], 0.0, 1.0)],
    }
}

const OFT_BLOCK: usize = 32;
const BOFT_BLOCK: usize = 4;
const VERA_RANK: usize = 256;
const FREQUENCIES: usize = 1000;

/// Outputs and inputs.
fn sizes(weight: &Tensor) -> (usize, usize) {
    match weight.linear {
        Some(Linear::InOut) => (weight.shape[1], weight.shape[0]),
        _ => (weight.shape[0], weight.shape[1]),
    }
}

fn drawn(key: &str, shape: &[usize], values: Normal, request: &Request) -> Tensor {
    Tensor { values, ..Tensor::plain(key, request.adapter_dtype.dtype(), shape) }
}

/// The tensors that all modules share: VeRA's projections, as wide and as high as the largest needs them.
fn shared(weights: &[&Tensor], request: &Request) -> Vec<Tensor> {
    if request.method != Method::Vera {
        return Vec::new();
    }
    let most =
        |of: fn((usize, usize)) -> usize| weights.iter().map(|weight| of(sizes(weight))).max().unwrap_or(0);
    let (out, inner) = (most(|(out, _)| out), most(|(_, inner)| inner));
    let projection = |name: &str, shape: &[usize]| {
        let std = (2.0 / shape[1] as f32).sqrt();
        drawn(&format!("base_model.{name}"), shape, Normal { mean: 0.0, std }, request)
    };
    vec![projection("vera_A", &[VERA_RANK, inner]), projection("vera_B", &[out, VERA_RANK])]
}

/// `adapter_config.json` of a method.
fn config(model: &Model, request: &Request, targets: &BTreeSet<&str>) -> Value {
    let rank = request.rank;
    let of_method = match request.method {
        Method::Lora | Method::Dora => {
            let mut config = lora_config(model, rank, targets);
            config["use_dora"] = (request.method == Method::Dora).into();
            return config;
        }
        Method::Loha => json!({"peft_type": "LOHA", "r": rank, "alpha": rank}),
        Method::Oft => {
            json!({"peft_type": "OFT", "r": 0, "oft_block_size": OFT_BLOCK, "use_cayley_neumann": true})
        }
        Method::Boft => {
            json!({"peft_type": "BOFT", "boft_block_size": BOFT_BLOCK, "boft_n_butterfly_factor": 1})
        }
        Method::Vera => json!({"peft_type": "VERA", "r": VERA_RANK}),
        Method::FourierFt => json!({"peft_type": "FOURIERFT", "n_frequency": FREQUENCIES, "scaling": 300.0}),
    };
    let mut config =
        json!({"peft_version": "0.21.2", "target_modules": targets, "task_type": model.task_type});
    let fields = of_method.as_object().into_iter().flatten();
    fields.for_each(|(field, value)| config[field] = value.clone());
    config
}

/// `adapter_config.json` of a LoRA with the keys of PEFT 0.21, sorted as it sorts them.
fn lora_config(model: &Model, rank: usize, targets: &BTreeSet<&str>) -> Value {
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
