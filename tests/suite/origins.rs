//! Adapters for another base than the one they are merged into, and adapters that do not hold all that was trained.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use shardfold::testing::Dtype;

use super::refusals::refused;
use super::support::{copy_folder, run};
use super::work::{MODULE, Work, edit_json};

fn tiny() -> Work {
    Work::tiny(Dtype::F32, 1.0)
}

fn beside(work: &Work, name: &str) {
    let at = work.adapter.join(name);
    fs::create_dir_all(at.parent().expect("a folder")).expect("a folder");
    fs::write(at, "any").expect("a small file");
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

#[test]
fn weights_beside_an_adapter_are_named_or_refused() {
    for name in [
        "non_lora_state_dict.bin",
        "non_lora_trainables.bin",
        "vit.safetensors",
        "new_embeddings.safetensors",
        "point_proj.pt",
        "mm_projector.bin",
        "pytorch_model.bin",
        "model.safetensors",
        "merged.gguf",
        "weights.npz",
        "head.ckpt",
        "embeddings.pth",
    ] {
        let work = tiny();
        beside(&work, name);
        let says = [
            &format!("adapter `adapter` has weights beside it that are not merged: `{name}`"),
            &format!("`--allow-unmerged-file {name}`") as &str,
        ];
        refused(name, &work, &[], 65, &says.map(|text| text as &str));
        refused(name, &work, &["--allow-unmerged-file", "another.bin"], 65, &[]);
        let ran = work.succeeds(&["--allow-unmerged-file", name]);
        assert!(ran.err.contains("is left out (--allow-unmerged-file)"), "{}", ran.err);
        let card = fs::read_to_string(work.output.join("README.md")).expect("a card");
        assert!(card.contains("is left out"), "{card}");
    }
}

#[test]
fn inspect_names_weights_beside_an_adapter() {
    let work = tiny();
    let before = run(&["inspect", text(&work.adapter)]);
    assert!(before.code == 0 && !before.err.contains("beside the adapter"), "{}", before.err);
    beside(&work, "non_lora_state_dict.bin");
    let ran = run(&["inspect", text(&work.adapter)]);
    let says = "`non_lora_state_dict.bin` beside the adapter holds weights";
    assert!(ran.code == 0 && ran.err.contains(says), "{}", ran.err);
}

#[test]
fn modules_behind_the_model_are_the_bases_or_named() {
    let work = tiny();
    beside(&work, "2_Dense/model.safetensors");
    beside(&work, "1_Pooling/config.json");
    refused("trained", &work, &[], 65, &["not merged: `2_Dense/model.safetensors`"]);
    work.succeeds(&["--allow-unmerged-file", "2_Dense/model.safetensors"]);
    fs::remove_dir_all(&work.output).expect("it was there");
    fs::create_dir(work.base.join("2_Dense")).expect("a folder");
    fs::write(work.base.join("2_Dense/model.safetensors"), "any").expect("a small file");
    work.succeeds(&[]);
    fs::remove_dir_all(&work.output).expect("it was there");
    fs::write(work.base.join("2_Dense/model.safetensors"), "Any").expect("a small file");
    refused("trained further", &work, &[], 65, &["not merged: `2_Dense/model.safetensors`"]);
}

#[test]
fn several_files_are_refused_together_and_shards_by_their_index() {
    let work = tiny();
    let files = [
        "b.bin",
        "a.pt",
        "model.safetensors.index.json",
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
    ];
    files.iter().for_each(|name| beside(&work, name));
    refused("three", &work, &[], 65, &["not merged: `a.pt`, `b.bin`, `model.safetensors.index.json`\n"]);
    let flags = ["a.pt", "b.bin", "model.safetensors.index.json"].map(|name| ["--allow-unmerged-file", name]);
    work.succeeds(&flags.concat());
}

#[test]
fn what_belongs_beside_an_adapter_is_no_trained_weight() {
    let work = tiny();
    for name in [
        "optimizer.pt",
        "optimizer.bin",
        "optimizer_0.bin",
        "scheduler.pt",
        "rng_state_0.pth",
        "random_states_0.pkl",
        "scaler.pt",
        "training_args.bin",
        "bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt",
        "recipe_state.pt",
        "adapter_model.bin",
        "adapter_model.pt",
        "ggml-adapter-model.bin",
        "style-F16-LoRA.gguf",
        "value_head.safetensors",
        "tokenizer.model",
        "trainer_state.json",
        "global_step10/mp_rank_00_model_states.pt",
        "checkpoint-10/pytorch_model.bin",
    ] {
        beside(&work, name);
    }
    work.succeeds(&[]);
    // Base and adapter in one directory.
    let work = tiny();
    fs::read_dir(&work.adapter).expect("a folder").flatten().for_each(|file| {
        fs::copy(file.path(), work.base.join(file.file_name())).expect("copied");
    });
    let (both, output) = (text(&work.base), text(&work.output));
    let ran = run(&["merge", "--base", both, "--adapter", both, "--output", output]);
    assert_eq!(ran.code, 0, "{}", ran.err);
}

/// A LLaMA-Factory run in `folder`: those saves, and the adapter itself if `whole`.
fn pissa(work: &Work, folder: &Path, saves: &[&str]) {
    saves.iter().for_each(|name| copy_folder(&work.adapter, &folder.join(name)));
}

#[test]
fn saves_for_the_residual_base_are_refused() {
    let work = tiny();
    let run_dir = work.folder.path().join("run");
    pissa(&work, &run_dir, &["pissa_init", "pissa_backup", "pissa_converted", "checkpoint-10", "PiSSA-init"]);
    pissa(&work, &work.folder.path().join("olora"), &["olora_init", "olora_converted"]);
    pissa(&work, &work.folder.path().join("alone"), &["my_pissa_backup"]);
    copy_folder(&work.adapter, &work.folder.path().join("whole"));
    pissa(&work, &work.folder.path().join("whole"), &["pissa_init", "pissa_converted"]);
    let merge = |adapter: &str| {
        let (base, adapter) = (text(&work.base), work.folder.path().join(adapter));
        run(&["merge", "--base", base, "--adapter", text(&adapter), "--output", text(&work.output)])
    };
    for (adapter, cure) in [
        ("run/pissa_init", "run/pissa_converted` is the same adapter"),
        ("run/pissa_backup/", "run/pissa_converted` is the same adapter"),
        ("run/PiSSA-init", "run/pissa_converted` is the same adapter"),
        ("run/checkpoint-10", "run/pissa_converted` is the same adapter"),
        ("whole", "whole/pissa_converted` is the same adapter"),
        ("olora/olora_init", "olora/olora_converted` is the same adapter"),
        ("alone/my_pissa_backup", "path_initial_model_for_weight_conversion"),
    ] {
        let ran = merge(adapter);
        assert_eq!(ran.code, 65, "{adapter}: {}", ran.err);
        assert!(ran.err.contains("left of the base") && ran.err.contains(cure), "{adapter}: {}", ran.err);
        assert!(!work.output.exists());
    }
    // Another adapter that lies beside them is no save of that run.
    copy_folder(&work.adapter, &run_dir.join("style"));
    edit_json(&run_dir.join("style/adapter_config.json"), |fields| {
        fields.insert("lora_alpha".into(), json!(3));
    });
    for adapter in ["run/style", "run/pissa_converted", "whole/pissa_converted", "olora/olora_converted"] {
        let ran = merge(adapter);
        assert_eq!(ran.code, 0, "{adapter}: {}", ran.err);
        fs::remove_dir_all(&work.output).expect("it was there");
    }
}

#[cfg(unix)]
#[test]
fn a_link_to_a_save_for_the_residual_base_is_one() {
    let work = tiny();
    pissa(&work, &work.folder.path().join("elsewhere"), &["pissa_backup"]);
    fs::remove_dir_all(&work.adapter).expect("it was there");
    std::os::unix::fs::symlink(work.folder.path().join("elsewhere/pissa_backup"), &work.adapter)
        .expect("a link");
    refused("a link", &work, &[], 65, &["left of the base"]);
}

fn base_is(work: &Work, fields: &Value) {
    fs::write(work.base.join("config.json"), fields.to_string()).expect("a small file");
}

const LLAMA: &str = "LlamaForCausalLM";

#[test]
fn a_base_of_another_class_is_refused() {
    let qwen = json!({"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3"});
    let mapping =
        json!({"base_model_class": LLAMA, "parent_library": "transformers.models.llama.modeling_llama"});
    for (what, field, value, shown) in [
        ("PEFT's", "auto_mapping", mapping, LLAMA),
        (
            "a library",
            "auto_mapping",
            json!({"base_model_class": "Own", "parent_library": "transformers.models.llama.modeling_llama"}),
            "Own",
        ),
        ("a list", "architectures", json!([LLAMA]), LLAMA),
    ] {
        let work = tiny();
        base_is(&work, &qwen);
        work.configure(field, value);
        work.configure("base_model_name_or_path", json!("meta-llama/Llama-3.2-1B"));
        let says = [
            &format!("adapter `adapter` was trained on a `{shown}`, and the base is a `Qwen3ForCausalLM`"),
            "(`meta-llama/Llama-3.2-1B`) with `--base`; `--allow-other-base` merges" as &str,
        ];
        refused(what, &work, &[], 65, &says.map(|text| text as &str));
        let ran = work.succeeds(&["--allow-other-base"]);
        assert!(ran.err.contains("is merged into a `Qwen3ForCausalLM` (--allow-other-base)"), "{}", ran.err);
        let card = fs::read_to_string(work.output.join("README.md")).expect("a card");
        assert!(card.contains("--allow-other-base") && !card.contains("meta-llama"), "{card}");
    }
    let work = tiny();
    base_is(&work, &qwen);
    fs::write(
        work.adapter.join("config.json"),
        json!({"architectures": [LLAMA], "model_type": "llama"}).to_string(),
    )
    .expect("a small file");
    refused("a config beside it", &work, &[], 65, &["was trained on a `LlamaForCausalLM`"]);
}

#[test]
fn one_family_under_other_names_is_merged() {
    for (class, library, base) in [
        (
            "LlamaModel",
            "transformers.models.llama.modeling_llama",
            json!({"architectures": [LLAMA], "model_type": "llama"}),
        ),
        ("LlamaForSequenceClassification", "", json!({"architectures": [LLAMA], "model_type": "llama"})),
        ("FastLlamaModel", "unsloth.models.llama", json!({"architectures": [LLAMA], "model_type": "llama"})),
        ("AutoModelForCausalLM", "", json!({"architectures": [LLAMA], "model_type": "llama"})),
        ("PeftModelForCausalLM", "peft.peft_model", json!({"architectures": [LLAMA], "model_type": "llama"})),
        ("LlavaLlamaForCausalLM", "llava.model", json!({"architectures": [LLAMA], "model_type": "llama"})),
        (
            "RWForCausalLM",
            "transformers_modules.x",
            json!({"architectures": ["FalconForCausalLM"], "model_type": "falcon"}),
        ),
        (
            "Gemma3ForConditionalGeneration",
            "",
            json!({"architectures": ["Gemma3ForCausalLM"], "model_type": "gemma3_text"}),
        ),
        (
            "QWenLMHeadModel",
            "transformers_modules.x",
            json!({"architectures": ["QWenLMHeadModel"], "model_type": "qwen"}),
        ),
    ] {
        let work = tiny();
        base_is(&work, &base);
        work.configure(
            "auto_mapping",
            json!({"base_model_class": class, "parent_library": library, "unsloth_fixed": true}),
        );
        let ran = work.succeeds(&[]);
        assert!(!ran.err.contains("was trained on"), "{class}: {}", ran.err);
    }
}

#[test]
fn a_name_alone_is_a_note() {
    for (trained_on, model_type, called, is_told) in [
        ("meta-llama/Llama-3.2-1B", "qwen3", None, true),
        ("meta-llama/Llama-3.2-1B", "llama", None, false),
        ("deepseek-ai/DeepSeek-R1-Distill-Qwen-7B", "qwen2", None, false),
        ("/data/my-model", "qwen3", None, false),
        ("meta-llama/Llama-3.2-1B", "llama", Some("meta-llama/Llama-3.2-1B-Instruct"), true),
        ("meta-llama/Llama-3.2-1B", "llama", Some("/models/Llama-3.2-1B"), false),
    ] {
        let work = tiny();
        let config = json!({"architectures": [LLAMA], "model_type": model_type, "_name_or_path": called});
        base_is(&work, &config);
        work.configure("base_model_name_or_path", json!(trained_on));
        let ran = work.succeeds(&[]);
        assert_eq!(ran.err.contains("make sure it is the same model"), is_told, "{trained_on}: {}", ran.err);
        let card = fs::read_to_string(work.output.join("README.md")).expect("a card");
        let named = card.contains(&format!("base_model:\n- \"{trained_on}\""));
        assert!(!named, "{card}");
        assert_eq!(
            card.contains("Llama-3.2-1B-Instruct\""),
            called.is_some_and(|name| name.ends_with("Instruct")),
            "{card}"
        );
    }
}

#[test]
fn exports_of_torchtune_are_right_where_it_reorders_too() {
    for (model_type, class, is_right) in [
        ("qwen2", "Qwen2ForCausalLM", false),
        ("qwen3", "Qwen3ForCausalLM", false),
        ("phi3", "Phi3ForCausalLM", false),
        ("llama", LLAMA, true),
        ("mistral", "MistralForCausalLM", true),
        ("gemma", "GemmaForCausalLM", true),
    ] {
        let work = tiny();
        base_is(&work, &json!({"architectures": [class], "model_type": model_type}));
        beside(&work, "adapter_model.pt");
        if is_right {
            work.succeeds(&[]);
            continue;
        }
        let says = [
            "torchtune exported adapter `adapter` with the rows of",
            "lora_B",
            model_type,
            "save_adapter_weights_only",
        ];
        refused(model_type, &work, &[], 65, &says);
        fs::remove_file(work.adapter.join("adapter_model.pt")).expect("it was there");
        fs::write(work.adapter.join("README.md"), "Trained with TorchTune.").expect("a card");
        refused(model_type, &work, &[], 65, &says);
        work.configure("peft_version", json!("0.21.2"));
        work.succeeds(&[]);
        work.configure("peft_version", Value::Null);
        fs::remove_dir_all(&work.output).expect("it was there");
        fs::remove_file(work.adapter.join("README.md")).expect("it was there");
        work.succeeds(&[]);
    }
    // Only queries and keys are reordered.
    let work = tiny();
    base_is(&work, &json!({"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2"}));
    let module = MODULE.replace("q_proj", "o_proj");
    let weight = format!("{module}.weight");
    work.rebase(&[(&weight, &[4, 4], vec![1.0; 16])]);
    work.adapt_by(
        &json!({"peft_type": "LORA", "r": 1, "lora_alpha": 1, "target_modules": ["o_proj"]}),
        &[
            (&format!("{module}.lora_A.weight"), &[1, 4], vec![1.0; 4]),
            (&format!("{module}.lora_B.weight"), &[4, 1], vec![1.0; 4]),
        ],
    );
    beside(&work, "adapter_model.pt");
    work.succeeds(&[]);
}

#[test]
fn experts_of_megatron_bridge() {
    let whole = |flags: &[&str], work: &Work| {
        work.succeeds(flags);
        let bytes = fs::read(work.output.join("model.safetensors")).expect("a result");
        fs::remove_dir_all(&work.output).expect("it was there");
        bytes
    };
    let work = Work::golden("experts-grouped");
    let layer = "model.layers.0";
    super::work::edit(&work.base.join("model.safetensors"), |tensors| {
        tensors
            .iter_mut()
            .for_each(|tensor| tensor.name = tensor.name.replace("mlp.", &format!("{layer}.mlp.")));
    });
    super::work::edit(&work.weights(), |tensors| {
        tensors
            .iter_mut()
            .for_each(|tensor| tensor.name = tensor.name.replace("mlp.", &format!("{layer}.mlp.")));
    });
    let right = whole(&[], &work);
    let owner = format!("{layer}.mlp.experts");
    let full = json!([format!("{owner}.down_proj"), format!("{owner}.gate_up_proj")]);
    let by_hand = |work: &Work, modules: Value| {
        edit_json(&work.adapter.join("adapter_config.json"), |fields| {
            let kept =
                ["peft_type", "r", "lora_alpha", "rank_pattern", "alpha_pattern", "use_rslora", "task_type"];
            fields.retain(|name, _| kept.contains(&name.as_str()));
            fields.insert("target_parameters".into(), full.clone());
            fields.insert("target_modules".into(), modules);
        });
    };
    for modules in [json!([]), json!(["q_proj"])] {
        by_hand(&work, modules);
        let says = [
            "order of experts in `lora_B` is ambiguous",
            "Megatron-Bridge",
            "`--expert-packing expert-major`",
        ];
        refused("experts", &work, &[], 65, &says);
    }
    by_hand(&work, json!([]));
    for order in ["expert-major", "grouped_by_expert", "grouped-by-expert"] {
        assert!(whole(&["--expert-packing", order], &work) == right, "{order}");
    }
    // A version, or the names that PEFT's users write, are PEFT's.
    work.configure("peft_version", json!("0.21.2"));
    assert!(whole(&[], &work) != right);
    work.configure("peft_version", Value::Null);
    let short: Vec<String> =
        ["down_proj", "gate_up_proj"].iter().map(|leaf| format!("0.mlp.experts.{leaf}")).collect();
    work.configure("target_parameters", json!(short));
    work.configure("target_modules", json!(["q_proj"]));
    assert!(whole(&[], &work) != right);
}

#[test]
fn constants_of_ms_swift() {
    let work = tiny();
    for (field, value) in [
        ("swift_type", json!("LORA")),
        ("model_key_mapping", Value::Null),
        ("enable_lora", Value::Null),
        ("use_merged_linear", json!(false)),
        ("use_qa_lora", json!(false)),
    ] {
        work.configure(field, value);
    }
    work.succeeds(&[]);
    for (field, value) in [
        ("swift_type", json!("LONGLORA")),
        ("model_key_mapping", json!({"attn": "q"})),
        ("enable_lora", json!([true, false, true])),
        ("use_merged_linear", json!(true)),
        ("use_qa_lora", json!(true)),
    ] {
        let work = tiny();
        work.configure(field, value);
        refused(field, &work, &[], 65, &[&format!("sets `{field}` to")]);
        refused(field, &work, &["--ignore-field", field], 65, &[&format!("sets `{field}` to")]);
    }
}
