//! The files of a checkpoint beside its weights: which of them belong to the result.
//!
//! Everything is carried over (configs, tokenizer, chat template, processor, model code, modules of other libraries)
//! except what is, or duplicates, the weights, what a training run left behind, adapters that lie in directories beside it, and
//! the model card, which is written anew.

use crate::error::Result;
use crate::storage::location::Location;
use crate::storage::store::Entry;

use crate::checkpoint::weights_name::is_index;

const WEIGHT_ENDINGS: &[&str] = &[
    ".safetensors",
    ".bin",
    ".pt",
    ".pth",
    ".ckpt",
    ".gguf",
    ".ggml",
    ".h5",
    ".msgpack",
    ".onnx",
    ".onnx_data",
    ".ot",
    ".tflite",
    ".mlmodel",
    ".npz",
    ".pdparams",
    ".flashpack",
];
/// What a download or a save that did not end leaves behind.
const SCRAP_ENDINGS: &[&str] = &[".tmp", ".lock", ".incomplete"];
const NAMES: &[&str] = &[
    "README.md",
    "shardfold.json",
    "trainer_state.json",
    "training_args.bin",
    "params.json",
    ".gitattributes",
];
const FOLDERS: &[&str] =
    &["original", "onnx", "openvino", "coreml", "metal", "mlx", "gguf", "__pycache__", "runs"];

/// Names with one of these start are adapters' own files, or a trainer's.
const STARTS: &[&str] =
    &["adapter_", "consolidated.", "optimizer.", "scheduler.", "rng_state", "events.out."];

/// What a trainer's own state begins with, whatever format it is in: nothing of it belongs to any model.
const TRAINING_STATE: &[&str] = &[
    "optim",
    "scheduler",
    "lr_scheduler",
    "rng_state",
    "random_states",
    "scaler",
    "grad_scaler",
    "sampler",
    "dataloader",
    "training_args",
    "training_state",
    "trainer_state",
    "recipe_state",
];
/// What stands inside the names of the state that DeepSpeed shards.
const SHARDED_STATE: &str = "optim_states";

/// Weights that are no part of the model, and that whoever reads them looks for beside it: LLaMA-Factory's value head.
const BESIDE: &[&str] = &["value_head.safetensors", "value_head.bin"];
/// What tells that a directory holds an adapter.
const ADAPTER: &str = "adapter_config.json";

/// The files to carry over from `dir`, in the order of their names.
///
/// # Errors
/// As [`Location::files`].
pub(crate) fn carried(dir: &Location) -> Result<Vec<Entry>> {
    let skip =
        |name: &str| name.starts_with('.') || name.starts_with("checkpoint-") || FOLDERS.contains(&name);
    let mut found = dir.files(&skip)?;
    let adapters: Vec<String> =
        found.iter().filter_map(|file| Some(file.name.strip_suffix(ADAPTER)?.to_owned())).collect();
    let is_inside = |name: &str| adapters.iter().any(|at| at.ends_with('/') && name.starts_with(at.as_str()));
    found.retain(|file| is_carried(&file.name) && !is_inside(&file.name));
    Ok(found)
}

/// Whether a file holds weights that are no part of the model and belong beside it, also where it lies beside an adapter.
pub(crate) fn is_beside(name: &str) -> bool {
    BESIDE.contains(&name)
}

/// Whether a file holds weights, or is the index of some, by its name.
pub(crate) fn is_weights(name: &str) -> bool {
    is_index(name) || WEIGHT_ENDINGS.iter().any(|ending| name.ends_with(ending))
}

/// Whether a file holds what a trainer needs to go on, by its name.
pub(crate) fn is_training_state(name: &str) -> bool {
    TRAINING_STATE.iter().any(|start| name.starts_with(start)) || name.contains(SHARDED_STATE)
}

fn is_carried(name: &str) -> bool {
    let leaf = name.rsplit('/').next().unwrap_or(name);
    if is_beside(name) {
        return true;
    }
    let is_scrap = SCRAP_ENDINGS.iter().any(|ending| leaf.ends_with(ending));
    !(is_weights(leaf)
        || is_scrap
        || NAMES.contains(&name)
        || leaf.starts_with('.')
        || STARTS.iter().any(|start| leaf.starts_with(start)))
}

#[cfg(test)]
mod tests {
    use crate::checkpoint::side_files::is_carried;

    #[test]
    fn weights_and_leavings_stay_behind() {
        for name in [
            "config.json",
            "generation_config.json",
            "tokenizer.json",
            "tokenizer.model",
            "chat_template.jinja",
            "modeling_custom.py",
            "1_Pooling/config.json",
            "preprocessor_config.json",
            "model_index.json",
            "vocab.txt",
            "LICENSE",
            "1_Pooling/README.md",
            "value_head.safetensors",
        ] {
            assert!(is_carried(name), "{name} belongs to the result");
        }
        for name in [
            "model.safetensors",
            "model.safetensors.index.json",
            "pytorch_model.bin",
            "pytorch_model.bin.index.json",
            "tf_model.h5",
            "README.md",
            "shardfold.json",
            "optimizer.pt",
            "rng_state_0.pth",
            "adapter_config.json",
            "consolidated.00.pth",
            "training_args.bin",
            "model.fp16.safetensors",
            "diffusion_pytorch_model.safetensors.index.fp16.json",
            "pytorch_model.bin.index.fp16.json",
            ".gitattributes",
            "lora/value_head.safetensors",
        ] {
            assert!(!is_carried(name), "{name} stays behind");
        }
    }
}
