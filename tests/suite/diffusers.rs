//! Models of diffusers as bases: what their files are called, variants, pipelines, names that layers had once, and what is no
//! PEFT adapter. That the merges are PEFT's is in `models.rs`.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use shardfold::testing::Dtype;

use super::refusals::refused;
use super::support::{Ran, command, contents, copy_folder, f32s, folder, ran, run, write_safetensors};
use super::work::{Work, edit, edit_json};

const UNET: &str = "UNet2DConditionModel";
const FLUX: &str = "FluxTransformer2DModel";
const SINGLE: &str = "diffusion_pytorch_model.safetensors";
const INDEX: &str = "diffusion_pytorch_model.safetensors.index.json";

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

fn says(ran: &Ran, code: i32, parts: &[&str]) {
    assert_eq!(ran.code, code, "{}{}", ran.out, ran.err);
    for part in parts {
        assert!(ran.err.contains(part), "no `{part}` in\n{}", ran.err);
    }
}

/// Names of the files of weights in a folder.
fn weights(folder: &Path) -> Vec<String> {
    let names = contents(folder).into_keys();
    names.filter(|name| name.contains("diffusion_pytorch_model")).collect()
}

#[test]
fn the_result_has_the_files_of_the_base() {
    for class in [UNET, FLUX] {
        let work = Work::model(class);
        let ran = work.succeeds(&[]);
        assert_eq!(ran.err.matches("note:").count(), 0, "{}", ran.err);
        assert_eq!(weights(&work.output), weights(&work.base));
        let (base, output) = (contents(&work.base), contents(&work.output));
        assert_eq!(output["config.json"], base["config.json"]);
        assert_eq!(output.get(INDEX), base.get(INDEX));
        let card = String::from_utf8_lossy(&output["README.md"]).into_owned();
        assert!(card.contains("library_name: diffusers\n"), "{card}");
    }
    assert!(weights(&Work::model(UNET).base).len() > 2, "one of the samples is in shards");
}

#[test]
fn a_variant_is_taken_where_it_is_the_only_one_or_asked_for() {
    let work = Work::model(FLUX);
    let named = |variant: &str| work.base.join(format!("diffusion_pytorch_model.{variant}.safetensors"));
    fs::rename(work.base.join(SINGLE), named("fp16")).expect("renamed");
    let ran = work.succeeds(&[]);
    assert!(ran.err.contains("load the result with `variant=\"fp16\"`"), "{}", ran.err);
    assert_eq!(weights(&work.output), ["diffusion_pytorch_model.fp16.safetensors"]);

    let work = Work::model(FLUX);
    let named = |variant: &str| work.base.join(format!("diffusion_pytorch_model.{variant}.safetensors"));
    fs::copy(work.base.join(SINGLE), named("fp16")).expect("copied");
    fs::copy(work.base.join(SINGLE), named("bf16")).expect("copied");
    let other = work.folder.path().join("other");
    says(&work.merge_into(&other, &["--variant", "bf16"]), 0, &["variant `bf16`"]);
    assert_eq!(weights(&other), ["diffusion_pytorch_model.bf16.safetensors"]);
    let ran = work.merge(&["--variant", "ema"]);
    says(
        &ran,
        65,
        &["base` holds no weights of the variant `ema`, but `", SINGLE, "hint: `--variant bf16` takes"],
    );
    let ran = run(&["inspect", text(&work.base), "--variant", "fp16"]);
    assert!(ran.out.contains("diffusion_pytorch_model.fp16.safetensors"), "{}", ran.out);
    says(&work.merge(&[]), 0, &["other safetensors files are skipped"]);
    assert_eq!(weights(&work.output), [SINGLE]);
    fs::remove_file(work.base.join(SINGLE)).expect("it was there");
    let names = "`diffusion_pytorch_model.bf16.safetensors`, `diffusion_pytorch_model.fp16.safetensors`";
    let last = work.folder.path().join("last");
    says(&work.merge_into(&last, &[]), 65, &["holds no weights without a variant, but ", names]);
}

#[test]
fn shards_of_a_variant_keep_the_name_of_their_index() {
    let work = Work::model(UNET);
    let index = work.base.join("diffusion_pytorch_model.safetensors.index.fp16.json");
    fs::rename(work.base.join(INDEX), &index).expect("renamed");
    edit_json(&index, |index| {
        for shard in index["weight_map"].as_object_mut().expect("an object").values_mut() {
            let name = shard.as_str().expect("a name").to_owned();
            let of_variant = name.replacen("model-", "model.fp16-", 1);
            let _ = fs::rename(work.base.join(&name), work.base.join(&of_variant));
            *shard = of_variant.into();
        }
    });
    assert!(work.succeeds(&[]).err.contains("variant `fp16`"));
    assert_eq!(weights(&work.output), weights(&work.base));
    fs::remove_file(&index).expect("it was there");
    fs::remove_dir_all(&work.output).expect("it was there");
    refused("no index", &work, &[], 65, &["shards but no `diffusion_pytorch_model.safetensors.index.json`"]);
}

/// A pipeline of the two samples at `path`.
fn pipeline(path: &Path) {
    for (component, class) in [("unet", UNET), ("transformer", FLUX)] {
        copy_folder(&Work::model(class).base, &path.join(component));
    }
    fs::create_dir_all(path.join("scheduler")).expect("a folder");
    fs::write(path.join("scheduler/scheduler_config.json"), "{}").expect("a small file");
    let index = json!({
        "_class_name": "SomePipeline", "scheduler": ["diffusers", "EulerDiscreteScheduler"],
        "transformer": ["diffusers", FLUX], "unet": ["diffusers", UNET],
    });
    fs::write(path.join("model_index.json"), index.to_string()).expect("a small file");
}

#[test]
fn a_pipeline_is_refused_with_the_names_of_its_components() {
    let mut work = Work::model(UNET);
    work.base = work.folder.path().join("pipeline");
    pipeline(&work.base);
    let components = "is a pipeline, whose weights are in `transformer` (FluxTransformer2DModel), `unet` (UNet2DConditionModel)";
    let hint = format!(
        "hint: name the one that the adapter is for, such as `{}`",
        work.base.join("transformer").display()
    );
    refused("a pipeline", &work, &[], 65, &[components, &hint]);
    says(&run(&["inspect", text(&work.base)]), 65, &[components]);
    fs::remove_dir_all(work.base.join("transformer")).expect("it was there");
    refused("without a transformer", &work, &[], 65, &["/pipeline/unet`"]);
    work.base = work.base.join("unet");
    work.succeeds(&[]);
    work.base = work.folder.path().join("pipeline/scheduler");
    let other = work.folder.path().join("other");
    says(&work.merge_into(&other, &[]), 66, &["no safetensors checkpoint at"]);
}

#[test]
fn a_component_in_the_cache_is_named_behind_its_repository() {
    let (home, work) = (folder(), Work::model(UNET));
    let commit = "1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d";
    pipeline(&home.path().join("models--org--sd/snapshots").join(commit));
    let merge = |base: &str| {
        let mut command = command(&["merge", "--base", base, "--output"]);
        command.arg(&work.output).arg("--adapter").arg(&work.adapter).env("HF_HUB_CACHE", home.path());
        ran(command.output().expect("the binary starts"))
    };
    says(&merge("org/sd"), 65, &["is a pipeline", "such as `org/sd/transformer`"]);
    says(&merge("org/sd@1a2b"), 65, &[&format!("such as `org/sd/transformer@{commit}`")]);
    says(&merge("org/sd/vae"), 66, &["has no directory", "/vae` either"]);
    says(&merge("org/sd/unet@1a2b"), 0, &[]);
    let card = fs::read_to_string(work.output.join("README.md")).expect("a card");
    assert!(card.contains("base_model:\n- \"org/sd\"\n"), "{card}");
}

#[test]
fn an_adapter_of_another_model() {
    let (mut work, other) = (Work::model(UNET), Work::model(FLUX));
    work.base = other.base.clone();
    refused("a UNet's on Flux", &work, &[], 65, &["tensors match no base tensor: `base_model.model.conv_in"]);
}

/// Layers under the names that they had before diffusers 0.17, in a class that has them and in one that is not known.
#[test]
fn attention_under_the_names_that_it_had_once() {
    const OLD: [&str; 4] = ["query", "key", "value", "proj_attn"];
    const NEW: [&str; 4] = ["to_q", "to_k", "to_v", "to_out.0"];
    for class in ["AutoencoderKL", "NobodysModel"] {
        let work = Work::tiny(Dtype::F32, 1.0);
        let config = json!({"_class_name": class, "_diffusers_version": "0.10.0"});
        fs::write(work.base.join("config.json"), config.to_string()).expect("a small file");
        fs::remove_file(work.base.join("model.safetensors")).expect("it was there");
        let name = |leaf| format!("encoder.mid_block.attentions.0.{leaf}.weight");
        let ones = || f32s([1.0; 4]);
        let names = OLD.map(name);
        let tensors = names.each_ref().map(|name| (name.as_str(), Dtype::F32, &[2, 2][..], ones()));
        write_safetensors(&work.base.join(SINGLE), &tensors);
        let keys: Vec<(String, [u64; 2])> = NEW
            .iter()
            .flat_map(|leaf| {
                let key = |role| format!("encoder.mid_block.attentions.0.{leaf}.{role}.weight");
                [(key("lora_A"), [1, 2]), (key("lora_B"), [2, 1])]
            })
            .collect();
        let factors: Vec<_> =
            keys.iter().map(|(key, shape)| (key.as_str(), &shape[..], vec![1.0, 2.0])).collect();
        let config = json!({"peft_type": "LORA", "r": 1, "lora_alpha": 1, "target_modules": NEW});
        work.adapt_by(&config, &factors);
        let ran = work.succeeds(&[]);
        assert!(ran.err.contains("adapter keys resolved against the diffusers names for"), "{}", ran.err);
        edit(&work.output.join(SINGLE), |tensors| {
            assert_eq!(tensors.len(), 4);
            for tensor in tensors {
                assert_eq!(tensor.data, f32s([2.0, 3.0, 3.0, 5.0]), "{class}: {}", tensor.name);
            }
        });
    }
}

#[test]
fn adapters_in_other_formats_are_refused_by_name() {
    let key = "down_blocks.0.attentions.0.proj_in";
    for (file, key, format) in [
        ("pytorch_lora_weights.safetensors", format!("{key}.lora_A.weight"), "diffusers'"),
        ("style.safetensors", "up.to_q_lora.down.weight".to_owned(), "old diffusers (attention processors)"),
    ] {
        let mut work = Work::model(UNET);
        work.adapter = work.folder.path().join("style");
        fs::create_dir(&work.adapter).expect("a folder");
        let at = work.adapter.join(file);
        write_safetensors(&at, &[(&key, Dtype::F32, &[1, 2], f32s([1.0, 2.0]))]);
        let message =
            format!("{file}` is an adapter in {format} format, as `{key}` shows, which is not read");
        let says_it = [&*message, "hint: shardfold reads directories of PEFT"];
        refused(&key, &work, &[], 65, &says_it);
        says(&run(&["inspect", text(&work.adapter)]), 65, &says_it);
        says(&run(&["inspect", text(&at)]), 65, &says_it);
        work.adapter = at;
        refused(&key, &work, &[], 65, &says_it);
    }
    let mut work = Work::model(UNET);
    work.adapter = work.base.clone();
    refused(
        "a checkpoint",
        &work,
        &[],
        66,
        &["no adapter_config.json at", "hint: `--adapter` takes the directory"],
    );
}

#[test]
fn inspect_tells_class_and_layers() {
    let work = Work::model(UNET);
    let ran = run(&["inspect", text(&work.base)]);
    for part in [
        "model      diffusers (UNet2DConditionModel); names by the rules of its class in diffusers\n",
        "and an index\n",
        "  conv_in.weight ",
        "BF16 [4, 4, 3, 3]",
    ] {
        assert!(ran.out.contains(part), "no `{part}` in\n{}", ran.out);
    }
    assert!(!ran.out.contains("embeddings"), "{}", ran.out);
    let flux = run(&["inspect", text(&Work::model(FLUX).base)]);
    assert!(flux.out.contains("diffusers (FluxTransformer2DModel)\n"), "{}", flux.out);
    let ran = run(&["inspect", "--json", text(&work.base)]);
    let report: Value = serde_json::from_str(&ran.out).expect("one JSON document");
    assert_eq!(report["library"], "diffusers");
    assert_eq!((&report["architectures"], &report["embeddings"]), (&json!([UNET]), &Value::Null));
    let ran = run(&["inspect", text(&work.adapter)]);
    assert!(ran.out.contains("conv_in") && ran.out.contains("rank 2"), "{}", ran.out);
}
