//! Folders as trainers leave them, one by one (key-mapping.md 10.7): what lies in and beside an adapter, and how it says so.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use shardfold::testing::Dtype;

use super::refusals::refused;
use super::support::{contents, copy_folder, run};
use super::work::{MODULE, Work, edit, edit_json};

const WEIGHT: &str = "model.layers.0.self_attn.q_proj.weight";

/// What a golden case merges into with these flags, file by file, but for what tells of the adapter.
fn merged(work: &Work, flags: &[&str]) -> Vec<u8> {
    work.succeeds(flags);
    fs::read(work.output.join("model.safetensors")).expect("a result")
}

#[test]
fn experts_of_unsloth() {
    let fixed = json!({"base_model_class": "X", "parent_library": "x", "unsloth_fixed": true});
    for (case, packing, flag) in [
        ("experts-rank-major", "rank_major", "rank-major"),
        ("experts-grouped", "grouped_by_expert", "expert-major"),
    ] {
        let work = Work::golden(case);
        let whole = merged(&work, &[]);
        // Marked, and with the order said: as before.
        work.configure("auto_mapping", fixed.clone());
        let says = fs::read_to_string(work.adapter.join("adapter_config.json")).expect("a config");
        assert!(says.contains(&format!("\"lora_B_layout\":\"{packing}\"")), "{case}: {says}");
        fs::remove_dir_all(&work.output).expect("it was there");
        assert!(merged(&work, &[]) == whole, "{case}");
        // Older files do not say it, and look alike.
        work.configure("lora_B_layout", Value::Null);
        fs::remove_dir_all(&work.output).expect("it was there");
        let says = ["order of experts in `lora_B` is ambiguous"];
        refused(case, &work, &[], 65, &says);
        assert!(merged(&work, &["--expert-packing", flag]) == whole, "{case}");
    }
}

#[test]
fn embeddings_among_the_targets_of_unsloth() {
    let work = Work::tiny(Dtype::F32, 1.0);
    let base = [
        ("model.embed_tokens.weight", &[3u64, 2][..], vec![1.0; 6]),
        ("lm_head.weight", &[3, 2], vec![1.0; 6]),
    ];
    let attention = [(WEIGHT, &[2u64, 2][..], vec![1.0; 4])];
    work.rebase(&[&base[..], &attention[..]].concat());
    let factors = [("lora_A.weight", &[1u64, 2][..], vec![1.0; 2]), ("lora_B.weight", &[2, 1], vec![3.0; 2])];
    let factors = factors.map(|(role, shape, values)| (format!("{MODULE}.{role}"), shape, values));
    for tail in ["", ".modules_to_save", ".modules_to_save.default"] {
        let (embedding, head) = (format!("model.embed_tokens{tail}.weight"), format!("lm_head{tail}.weight"));
        let mut tensors: Vec<_> =
            factors.iter().map(|(key, shape, values)| (key.as_str(), *shape, values.clone())).collect();
        tensors.push((&embedding, &[3, 2], vec![5.0; 6]));
        tensors.push((&head, &[3, 2], vec![6.0; 6]));
        work.adapt_by(
            &json!({
                "peft_type": "LORA", "r": 1, "lora_alpha": 1, "bias": "none",
                "target_modules": ["q_proj", "embed_tokens", "lm_head"],
                "modules_to_save": ["embed_tokens", "lm_head"], "auto_mapping": {"unsloth_fixed": true},
            }),
            &tensors,
        );
        work.succeeds(&[]);
        let found = [&base[0].0, &base[1].0, &WEIGHT].map(|name| work.merged(name));
        assert_eq!(found, [vec![5.0; 6], vec![6.0; 6], vec![4.0; 4]], "{tail}");
        fs::remove_dir_all(&work.output).expect("it was there");
    }
}

#[test]
fn experts_of_nemo() {
    // It lays factors as PEFT 0.18 did and names the PEFT that is installed.
    let work = Work::golden("experts-old");
    let whole = merged(&work, &[]);
    fs::write(work.adapter.join("automodel_peft_config.json"), "{}").expect("a small file");
    work.configure("peft_version", json!("0.21.2"));
    fs::remove_dir_all(&work.output).expect("it was there");
    assert!(merged(&work, &[]) == whole, "shapes tell");

    let work = Work::golden("experts-square-alone");
    fs::write(work.adapter.join("automodel_peft_config.json"), "{}").expect("a small file");
    let says = [
        "orientation of `lora_A` is ambiguous for `mlp.experts.gate_up_proj`: NeMo AutoModel made it",
        "hint: pass `--expert",
    ];
    refused("a square parameter alone", &work, &[], 65, &says);
    work.succeeds(&["--expert-lora-a-axis", "d1"]);
}

#[test]
fn an_aligner_that_ms_swift_trained() {
    let work = Work::tiny(Dtype::F32, 1.0);
    let aligner = ["visual.merger.mlp.0.weight", "visual.merger.mlp.0.bias"];
    work.rebase(&[
        (WEIGHT, &[4, 4], vec![1.0; 16]),
        (aligner[0], &[2, 2], vec![1.0; 4]),
        (aligner[1], &[2], vec![1.0; 2]),
    ]);
    edit_json(&work.base.join("config.json"), |config| {
        config["architectures"] = json!(["Qwen2_5_VLForConditionalGeneration"]);
        config["model_type"] = json!("qwen2_5_vl");
    });
    let modules = ["model.language_model.layers.0.self_attn.q_proj", "model.visual.merger.mlp.0"];
    work.adapt_by(
        &json!({
            "peft_type": "LORA", "r": 1, "lora_alpha": 1, "lora_dtype": "bfloat16", "lorap_emb_lr": 1e-6,
            "target_modules": r"^(model\.language_model(?=\.).*\.(q_proj))$",
            "modules_to_save": ["model.visual.merger"],
        }),
        &[
            (&format!("{}.lora_A.weight", modules[0]), &[1, 4], vec![1.0; 4]),
            (&format!("{}.lora_B.weight", modules[0]), &[4, 1], vec![2.0; 4]),
            (&format!("{}.weight", modules[1]), &[2, 2], vec![7.0; 4]),
            (&format!("{}.bias", modules[1]), &[2], vec![8.0; 2]),
        ],
    );
    work.succeeds(&[]);
    assert_eq!(work.merged(WEIGHT), [3.0; 16]);
    assert_eq!((work.merged(aligner[0]), work.merged(aligner[1])), (vec![7.0; 4], vec![8.0; 2]));
}

#[test]
fn a_value_head_beside_the_model() {
    let head = |folder: &Path| fs::read(folder.join("value_head.safetensors")).ok();
    let write =
        |folder: &Path, name: &str, text: &str| fs::write(folder.join(name), text).expect("a small file");
    let work = Work::tiny(Dtype::F32, 1.0);
    write(&work.base, "value_head.safetensors", "the base's");
    let ran = work.succeeds(&[]);
    assert_eq!(head(&work.output).as_deref(), Some(&b"the base's"[..]), "the model's own goes on");
    assert!(!ran.err.contains("value_head"), "{}", ran.err);

    write(&work.adapter, "value_head.safetensors", "the adapter's");
    fs::remove_dir_all(&work.output).expect("it was there");
    let ran = work.succeeds(&[]);
    assert_eq!(head(&work.output).as_deref(), Some(&b"the adapter's"[..]));
    assert!(ran.err.contains("`value_head.safetensors` of `adapter` is copied as it is"), "{}", ran.err);
    assert_eq!(work.merged(WEIGHT), [2.0; 16]);

    // The last of several has it, in whichever form: whoever reads them takes the other form first.
    let second = work.folder.path().join("second");
    copy_folder(&work.adapter, &second);
    fs::rename(second.join("value_head.safetensors"), second.join("value_head.bin")).expect("it was there");
    fs::remove_dir_all(&work.output).expect("it was there");
    work.succeeds(&["--adapter", second.to_str().expect("UTF-8")]);
    assert_eq!(head(&work.output), None);
    let found = fs::read(work.output.join("value_head.bin")).expect("it was copied");
    assert_eq!(found, b"the adapter's");
}

#[test]
fn folders_that_hold_a_model_and_an_adapter() {
    // verl and Megatron bridges: a model that is the base still, and the adapter in a folder of it, its config dumped whole.
    let work = Work::tiny(Dtype::F32, 1.0);
    let both = work.folder.path().join("both");
    copy_folder(&work.base, &both);
    copy_folder(&work.adapter, &both.join("lora_adapter"));
    fs::write(both.join("lora_adapter/README.md"), "a card").expect("a small file");
    fs::write(both.join("lora_adapter/tokenizer.json"), "{}").expect("a small file");
    edit_json(&both.join("lora_adapter/adapter_config.json"), |fields| {
        let defaults = json!({
            "task_type": "CAUSAL_LM", "peft_version": "0.21.2", "inference_mode": false, "lora_bias": false,
            "loftq_config": {}, "qalora_group_size": 16, "runtime_config": {"ephemeral_gpu_offload": false},
            "megatron_core": "megatron.core", "ensure_weight_tying": false, "rank_pattern": {},
        });
        fields.extend(defaults.as_object().expect("an object").clone());
    });
    edit(&both.join("lora_adapter/adapter_model.safetensors"), |tensors| {
        tensors.iter_mut().for_each(|tensor| tensor.name = tensor.name.replace(".weight", ".default.weight"));
    });
    let text = |path: &Path| path.to_str().expect("UTF-8").to_owned();
    let (folder, output) = (text(&both), text(&work.output));
    for base in [text(&work.base), folder.clone()] {
        let ran = run(&["merge", "--base", &base, "--adapter", &folder, "--output", &output]);
        assert_eq!(ran.code, 0, "{}", ran.err);
        assert_eq!(work.merged(WEIGHT), [2.0; 16]);
        let files = contents(&work.output);
        let is_adapters = |name: &&String| name.starts_with("lora_adapter");
        assert_eq!(files.keys().filter(is_adapters).count(), 0, "{:?}", files.keys());
        fs::remove_dir_all(&work.output).expect("it was there");
    }
}
