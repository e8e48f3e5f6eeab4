//! What stands where: a single file for its directory, shards with or without an index, an adapter where a base should be,
//! adapters of other formats, marks and doubled keys in texts.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use shardfold::testing::Dtype;

use super::refusals::refused;
use super::support::{Ran, copy_folder, f32s, run, write_safetensors};
use super::work::{MODULE, Work, edit_json};

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

fn tiny() -> Work {
    Work::tiny(Dtype::F32, 1.0)
}

fn merge(base: &Path, adapter: &Path, output: &Path) -> Ran {
    run(&["merge", "--base", text(base), "--adapter", text(adapter), "--output", text(output)])
}

fn weight() -> String {
    format!("{MODULE}.weight")
}

/// Splits the adapter into two shards and their index.
fn shard(work: &Work) -> Value {
    let key = |role: &str| format!("base_model.model.{MODULE}.lora_{role}.weight");
    let names = [1, 2].map(|n| format!("adapter_model-0000{n}-of-00002.safetensors"));
    let parts = [("A", [1u64, 4]), ("B", [4, 1])];
    for (name, (role, shape)) in names.iter().zip(parts) {
        write_safetensors(&work.adapter.join(name), &[(&key(role), Dtype::F32, &shape, f32s([1.0; 4]))]);
    }
    fs::remove_file(work.weights()).expect("it was there");
    let index = json!({"metadata": {}, "weight_map": {key("A"): names[0], key("B"): names[1]}});
    index_is(work, &index);
    index
}

fn index_is(work: &Work, index: &Value) {
    fs::write(work.adapter.join("adapter_model.safetensors.index.json"), index.to_string())
        .expect("a small file");
}

#[test]
fn adapters_in_shards_are_merged() {
    let work = tiny();
    shard(&work);
    work.succeeds(&[]);
    assert_eq!(work.merged(&weight()), [2.0; 16]);
    let ran = run(&["inspect", text(&work.adapter)]);
    assert!(ran.code == 0 && ran.out.contains("rank 1"), "{}{}", ran.out, ran.err);
    let record = fs::read_to_string(work.output.join("shardfold.json")).expect("a record");
    assert!(record.contains("adapter_model.safetensors.index.json"), "{record}");

    let golden = Work::golden("experts-rank-major");
    golden.succeeds(&[]);
    let right = fs::read(golden.output.join("model.safetensors")).expect("a result");
    fs::remove_dir_all(&golden.output).expect("it was there");
    let mut weight_map = serde_json::Map::new();
    let mut all = Vec::new();
    super::work::edit(&golden.weights(), |tensors| all = tensors.clone());
    fs::remove_file(golden.weights()).expect("it was there");
    for (i, tensor) in all.iter().enumerate() {
        let name = format!("adapter_model-{i}-of-{}.safetensors", all.len());
        let dtype = if tensor.dtype == "F32" { Dtype::F32 } else { Dtype::BF16 };
        let tensors = [(tensor.name.as_str(), dtype, &tensor.shape[..], tensor.data.clone())];
        write_safetensors(&golden.adapter.join(&name), &tensors);
        weight_map.insert(tensor.name.clone(), json!(name));
    }
    index_is(&golden, &json!({"weight_map": weight_map}));
    golden.succeeds(&[]);
    assert!(fs::read(golden.output.join("model.safetensors")).expect("a result") == right);
}

#[test]
fn of_two_copies_that_counts_which_the_index_names() {
    let work = tiny();
    shard(&work);
    let key = |role: &str| format!("base_model.model.{MODULE}.lora_{role}.weight");
    let second = work.adapter.join("adapter_model-00002-of-00002.safetensors");
    write_safetensors(
        &second,
        &[(&key("A"), Dtype::F32, &[1, 4], f32s([9.0; 4])), (&key("B"), Dtype::F32, &[4, 1], f32s([1.0; 4]))],
    );
    work.succeeds(&[]);
    assert_eq!(work.merged(&weight()), [2.0; 16]);
}

#[test]
fn an_index_and_its_shards_must_agree() {
    let work = tiny();
    let mut index = shard(&work);
    index["weight_map"]["base_model.model.model.layers.1.self_attn.q_proj.lora_A.weight"] =
        json!("adapter_model-00002-of-00002.safetensors");
    index_is(&work, &index);
    let says = [
        "the index puts `base_model.model.model.layers.1",
        "which does not hold it",
        "hint: the adapter was not saved whole",
    ];
    refused("more than there is", &work, &[], 65, &says);
    index["weight_map"]["gone"] = json!("adapter_model-00003-of-00002.safetensors");
    index_is(&work, &index);
    refused(
        "a shard is gone",
        &work,
        &[],
        66,
        &["adapter_model-00003-of-00002.safetensors", "the adapter is not whole"],
    );
    index["weight_map"]["gone"] = json!("../x.safetensors");
    index_is(&work, &index);
    refused("a shard elsewhere", &work, &[], 65, &["escapes"]);
    fs::remove_file(work.adapter.join("adapter_model.safetensors.index.json")).expect("it was there");
    refused("no index", &work, &[], 66, &["adapter_model.safetensors", "the adapter is not whole"]);
}

#[test]
fn one_shard_needs_no_index() {
    let work = tiny();
    fs::rename(work.weights(), work.adapter.join("adapter_model-00001-of-00001.safetensors"))
        .expect("renamed");
    let only = "model-00001-of-00001.safetensors";
    fs::rename(work.base.join("model.safetensors"), work.base.join(only)).expect("renamed");
    work.succeeds(&[]);
    fs::rename(work.output.join(only), work.output.join("model.safetensors")).expect("it has that name");
    assert_eq!(work.merged(&weight()), [2.0; 16]);
    fs::remove_dir_all(&work.output).expect("it was there");
    let first = "model-00001-of-00002.safetensors";
    fs::rename(work.base.join(only), work.base.join(first)).expect("renamed");
    refused("one of two", &work, &[], 65, &["holds 1 shards but no `model.safetensors.index.json`"]);
}

#[test]
fn a_file_of_a_directory_means_the_directory() {
    let work = Work::demo();
    let shards = ["model-00002-of-00003.safetensors", "model.safetensors.index.json", "config.json"];
    for (base, adapter) in shards.into_iter().zip([
        "adapter_model.safetensors",
        "adapter_config.json",
        "adapter_model.safetensors",
    ]) {
        let ran = merge(&work.base.join(base), &work.adapter.join(adapter), &work.output);
        assert_eq!(ran.code, 0, "{base}: {}", ran.err);
        fs::remove_dir_all(&work.output).expect("it was there");
        for file in [work.base.join(base), work.adapter.join(adapter)] {
            let ran = run(&["inspect", text(&file)]);
            assert_eq!(ran.code, 0, "{}", ran.err);
        }
    }
    let work = tiny();
    let ran = merge(&work.base.join("model.safetensors"), &work.weights(), &work.output);
    assert_eq!((ran.code, work.merged(&weight())), (0, vec![2.0; 16]));
    fs::remove_dir_all(&work.output).expect("it was there");
    // A file of a variant means that variant.
    fs::copy(work.base.join("model.safetensors"), work.base.join("model.fp16.safetensors")).expect("copied");
    let ran = merge(&work.base.join("model.fp16.safetensors"), &work.weights(), &work.output);
    assert!(ran.code == 0 && work.output.join("model.fp16.safetensors").exists(), "{}", ran.err);
    fs::remove_dir_all(&work.output).expect("it was there");
    // From the directory itself.
    let ran = super::support::ran(
        super::support::command(&[
            "merge",
            "--base",
            "../base",
            "--adapter",
            "adapter_model.safetensors",
            "-o",
            "../out",
        ])
        .current_dir(&work.adapter)
        .output()
        .expect("it runs"),
    );
    assert_eq!(ran.code, 0, "{}", ran.err);
    let ran = merge(&work.base.join("flux1-dev.safetensors"), &work.weights(), &work.output);
    assert_eq!(ran.code, 66, "{}", ran.err);
    fs::copy(work.base.join("model.safetensors"), work.base.join("flux1-dev.safetensors")).expect("copied");
    let ran = merge(&work.base.join("flux1-dev.safetensors"), &work.weights(), &work.output);
    assert!(ran.code == 65 && ran.err.contains("is a single file"), "{}", ran.err);
}

#[test]
fn an_adapter_as_a_base_is_said_to_be_one() {
    let work = tiny();
    work.configure("base_model_name_or_path", json!("org/llama"));
    let other = work.folder.path().join("other");
    copy_folder(&work.adapter, &other);
    let lora = work.folder.path().join("style.safetensors");
    let key = "lora_unet_down_blocks_0_conv.lora_down.weight";
    write_safetensors(&lora, &[(key, Dtype::F32, &[1, 2], f32s([1.0, 2.0]))]);
    for (base, says, named) in [
        (other.clone(), "other` is an adapter, not a checkpoint", "--base org/llama"),
        (
            other.join("adapter_model.safetensors"),
            "is an adapter in directory-less PEFT format, not a checkpoint",
            "--base BASE",
        ),
        (lora, "style.safetensors` is an adapter, not a checkpoint", "--base BASE"),
    ] {
        let ran = merge(&base, &work.adapter, &work.output);
        assert_eq!(ran.code, 65, "{}", ran.err);
        let both = format!("{named} --adapter {} --adapter {}`", base.display(), work.adapter.display());
        assert!(ran.err.contains(says) && ran.err.contains(&both), "{}", ran.err);
        assert!(!work.output.exists());
    }
}

#[test]
fn a_base_and_an_adapter_in_each_others_place_are_told_apart() {
    let work = tiny();
    let swapped = merge(&work.adapter, &work.base, &work.output);
    let cure = format!("`--base {} --adapter {}`", work.base.display(), work.adapter.display());
    assert!(swapped.code == 65 && swapped.err.contains(&cure), "{}", swapped.err);
    let twice = merge(&work.adapter, &work.adapter, &work.output);
    let once = format!(" --adapter {}`", work.adapter.display());
    assert!(twice.code == 65 && twice.err.contains(&once), "{}", twice.err);
    assert_eq!(twice.err.matches(" --adapter ").count(), 1, "{}", twice.err);
}

#[test]
fn formats_are_named_with_what_can_be_done() {
    let (diffusers, peft) = ("pipe.fuse_lora()", "beside an `adapter_config.json`");
    for (key, format, cure) in [
        ("bundle_emb.x.clip_l", "OneTrainer's", diffusers),
        ("down.attn1.to_q_lora.down.weight", "old diffusers (attention processors)", diffusers),
        ("text_encoders.qwen.model.layers.0.q_proj.lora_A.weight", "ComfyUI's", diffusers),
        ("model.layers.0.self_attn.q_proj.lora_a", "mlx-lm's", "beside their `adapter_config.json`"),
        ("pipe.vae.blocks.0.attn.to_q.lora_A.weight", "DiffSynth's", peft),
        ("base_model.model.blocks.0.attn.to_q.lora_A.weight", "directory-less PEFT", peft),
        ("blocks.0.attn.to_q.lora_A.weight", "directory- and prefix-less PEFT", peft),
        ("blocks.0.attn.to_q.lora_down.weight", "a diffusion trainer's", diffusers),
    ] {
        let mut work = tiny();
        work.adapter = work.folder.path().join("style.safetensors");
        write_safetensors(&work.adapter, &[(key, Dtype::F32, &[1, 2], f32s([1.0, 2.0]))]);
        let says = [&format!("is an adapter in {format}") as &str, &format!("as `{key}` shows"), cure];
        refused(key, &work, &[], 65, &says);
        let dir = work.folder.path().join("style");
        fs::create_dir(&dir).expect("a folder");
        fs::rename(&work.adapter, dir.join("style.safetensors")).expect("renamed");
        work.adapter = dir;
        refused(key, &work, &[], 65, &says);
    }
    for (name, format) in [
        ("lora.gguf", "GGUF"),
        ("adapters.npz", "NumPy"),
        ("lora.pt", "pickle"),
        ("pytorch_lora_weights.bin", "pickle"),
        ("__0_0.distcp", "a distributed checkpoint's"),
        ("style.nemo", "NeMo's"),
        ("style.tar", "an archive's"),
        ("style.tar.gz", "an archive's"),
        ("pytorch_adapter.bin", "the Adapters library's"),
    ] {
        let mut work = tiny();
        work.adapter = work.folder.path().join("style");
        fs::create_dir(&work.adapter).expect("a folder");
        fs::write(work.adapter.join(name), "any").expect("a small file");
        let says = [&format!("is an adapter in {format} format, as `{name}` shows") as &str];
        refused(name, &work, &[], 65, &says);
        // What another program's config lies beside it does not matter.
        fs::write(work.adapter.join("adapter_config.json"), r#"{"fine_tune_type": "lora"}"#)
            .expect("a small file");
        refused(name, &work, &[], 65, &says);
        work.adapter = work.adapter.join(name);
        refused(name, &work, &[], 65, &says);
    }
}

#[test]
fn a_file_of_pefts_tensors_is_merged_in_its_directory() {
    // What the hint says.
    for prefix in ["base_model.model.", ""] {
        for name in ["", ".default"] {
            let work = tiny();
            let keys = ["A", "B"].map(|role| format!("{prefix}{MODULE}.lora_{role}{name}.weight"));
            write_safetensors(
                &work.weights(),
                &[
                    (&keys[0], Dtype::F32, &[1, 4], f32s([1.0; 4])),
                    (&keys[1], Dtype::F32, &[4, 1], f32s([1.0; 4])),
                ],
            );
            work.succeeds(&[]);
            assert_eq!(work.merged(&weight()), [2.0; 16]);
        }
    }
}

#[test]
fn a_base_that_peft_wrapped_is_told() {
    let work = tiny();
    let module = format!("{MODULE}.base_layer.weight");
    work.rebase(&[(&module, &[4, 4], vec![1.0; 16]), ("model.norm.weight", &[4], vec![1.0; 4])]);
    let says = [
        "match no base tensor",
        "was saved with PEFT's wrappers in it",
        &format!("as `{module}` shows"),
        "merge_and_unload()",
    ];
    refused("wrapped", &work, &[], 65, &says.map(|text| text as &str));
}

#[test]
fn marks_and_doubled_keys_are_read_as_python_reads_them() {
    let work = Work::demo();
    work.succeeds(&[]);
    let right: Vec<Vec<u8>> =
        (1..=3).map(|n| fs::read(work.output.join(shard_name(n))).expect("a shard")).collect();
    let mark = |path: &Path| {
        let text = fs::read_to_string(path).expect("a text");
        fs::write(path, format!("\u{feff}{text}")).expect("written");
    };
    mark(&work.base.join("config.json"));
    mark(&work.base.join("model.safetensors.index.json"));
    mark(&work.adapter.join("adapter_config.json"));
    let config = work.base.join("config.json");
    let doubled =
        fs::read_to_string(&config).expect("a config").replacen('{', "{\"model_type\": \"gpt2\",", 1);
    fs::write(&config, doubled).expect("written");
    let ran = run(&[
        "merge",
        "--base",
        text(&work.base),
        "--adapter",
        text(&work.adapter),
        "--output",
        text(&work.folder.path().join("second")),
    ]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    for (n, right) in (1..=3).zip(right) {
        assert!(fs::read(work.folder.path().join("second").join(shard_name(n))).expect("a shard") == right);
    }
}

fn shard_name(n: usize) -> String {
    format!("model-0000{n}-of-00003.safetensors")
}

#[test]
fn the_last_of_two_keys_is_edited() {
    let work = Work::golden("tied-head");
    let config = work.base.join("config.json");
    edit_json(&config, |_| {});
    let doubled =
        fs::read_to_string(&config).expect("a config").replacen('{', "{\"tie_word_embeddings\": false,", 1);
    fs::write(&config, format!("\u{feff}{doubled}")).expect("written");
    work.succeeds(&[]);
    let edited = fs::read_to_string(work.output.join("config.json")).expect("a config");
    let edited: Value = serde_json::from_str(edited.trim_start_matches('\u{feff}')).expect("JSON");
    assert_eq!(edited["tie_word_embeddings"], json!(false));
}
