//! Which files of a repository are fetched before a merge, by their names alone.
//!
//! Whatever may be read or copied is. Of a base that leaves out its weights in other formats and what a training run left, which
//! may be several times as much as the rest; beside an adapter nothing is, as whatever lies there may be asked about.

use crate::checkpoint::diffusers::PIPELINE;
use crate::checkpoint::side_files::{is_needless, is_weights};

/// The format of weights that is looked for first.
const WEIGHTS: &str = ".safetensors";
/// What holds a base, or an adapter, of before there was that: all of its directory is fetched.
const OLDER: &[&str] = &[
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "diffusion_pytorch_model.bin",
    "diffusion_pytorch_model.bin.index.json",
    "adapter_model.bin",
];
/// What tells that a repository, or a directory of it, holds a base.
const BASES: &[&str] = &[
    "model.safetensors",
    "model.safetensors.index.json",
    "diffusion_pytorch_model.safetensors",
    "diffusion_pytorch_model.safetensors.index.json",
];
/// The same weights under other names, beside one of these.
const CONSOLIDATED: &str = "consolidated";
/// What tells that there are adapters, and where.
const ADAPTER: &str = "adapter_config.json";

/// For each of these files, which are all of a directory, whether it is fetched; none where a merge would refuse the directory.
pub(crate) fn are_fetched(names: &[&str]) -> Vec<bool> {
    if names.contains(&PIPELINE) {
        return of_pipeline(names);
    }
    if !names.iter().any(|name| name.ends_with(WEIGHTS)) {
        return vec![names.iter().any(|name| OLDER.contains(name)); names.len()];
    }
    let is_base = names.iter().any(|name| BASES.contains(name));
    let has_adapter = names.iter().any(|name| name.rsplit('/').next() == Some(ADAPTER));
    if !is_base || has_adapter {
        return vec![true; names.len()];
    }
    names.iter().map(|name| is_of_base(name)).collect()
}

/// Of a pipeline each component is a base; beside them weights are those of all in one file.
fn of_pipeline(names: &[&str]) -> Vec<bool> {
    let mut components: Vec<&str> = names.iter().filter_map(|name| Some(name.split_once('/')?.0)).collect();
    components.sort_unstable();
    components.dedup();
    let mut fetched: Vec<String> = Vec::new();
    for component in components {
        let inside = names.iter().filter_map(|name| name.strip_prefix(component)?.strip_prefix('/'));
        let own: Vec<&str> = inside.collect();
        let all = are_fetched(&own);
        let is_any = own.iter().any(|name| name.ends_with(WEIGHTS) || OLDER.contains(name));
        let kept = own.iter().zip(all).filter(|(_, is_fetched)| *is_fetched || !is_any);
        fetched.extend(kept.map(|(name, _)| format!("{component}/{name}")));
    }
    let is_one = |name: &&str| {
        let is_inside = name.contains('/');
        is_inside && fetched.iter().any(|one| one == name) || !is_inside && !is_weights(name)
    };
    names.iter().map(is_one).collect()
}

fn is_of_base(name: &str) -> bool {
    // Which of several variants is merged is not known yet.
    if name.ends_with(WEIGHTS) { !name.starts_with(CONSOLIDATED) } else { !is_needless(name) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left_out<'n>(names: &[&'n str]) -> Vec<&'n str> {
        let fetched = are_fetched(names);
        names.iter().zip(fetched).filter(|(_, is_fetched)| !is_fetched).map(|(name, _)| *name).collect()
    }

    #[test]
    fn of_a_base_other_formats_are_left_out() {
        let base = ["config.json", "model-00001-of-00002.safetensors", "model.safetensors.index.json"];
        let read = [
            "README.md",
            "tokenizer.json",
            "model.fp16.safetensors",
            "mmproj.gguf",
            "vision/pytorch_model.bin",
        ];
        let needless = [
            "pytorch_model-00001-of-00002.bin",
            "pytorch_model.bin.index.json",
            "model.gguf",
            "tf_model.h5",
            "original/consolidated.00.pth",
            "onnx/model.onnx",
            "consolidated.safetensors",
            "optimizer.pt",
            "checkpoint-10/optimizer.pt",
        ];
        // The index of a format that is not read is small, and no harm.
        let expected: Vec<&str> = needless.into_iter().filter(|name| !name.ends_with(".json")).collect();
        assert_eq!(left_out(&[&base[..], &read, &needless].concat()), expected);
    }

    #[test]
    fn beside_an_adapter_and_where_it_is_not_known_everything_is_fetched() {
        for names in [
            &["adapter_config.json", "adapter_model.safetensors", "non_lora_trainables.bin", "optimizer.pt"]
                [..],
            &["model.safetensors", "checkpoint-10/adapter_config.json", "model.gguf"],
            &["style.safetensors", "style.ckpt"],
            &["pytorch_model.bin", "config.json"],
            &["adapter_model.bin", "adapter_config.json"],
        ] {
            assert!(left_out(names).is_empty(), "{names:?}");
        }
    }

    #[test]
    fn of_a_pipeline_each_component_is_a_base() {
        let needed = [
            "model_index.json",
            "scheduler/scheduler_config.json",
            "tokenizer/vocab.json",
            "unet/config.json",
            "unet/diffusion_pytorch_model.safetensors",
            "vae/diffusion_pytorch_model.bin",
        ];
        let needless = ["sd_xl_base_1.0.safetensors", "unet/flax_model.msgpack", "unet/model.onnx"];
        assert_eq!(left_out(&[&needed[..], &needless].concat()), needless);
    }

    #[test]
    fn nothing_is_fetched_of_what_would_be_refused() {
        for names in [&["consolidated.00.pth", "config.json"][..], &[]] {
            assert_eq!(left_out(names), names);
        }
    }
}
