//! `shardfold extract`: the adapter of a difference, merged again.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use shardfold::testing::Dtype;

use super::support::{Ran, command, f32s, fixtures, folder, ran, write_safetensors};
use super::work::{MODULE, Work, edit, edit_json};

fn extract(base: &Path, tuned: &Path, to: &Path, flags: &[&str]) -> Ran {
    ran(command(&["extract"]).arg(base).arg(tuned).arg("-o").arg(to).args(flags).output().unwrap())
}

fn succeeds(base: &Path, tuned: &Path, to: &Path, flags: &[&str]) -> Value {
    let ran = extract(base, tuned, to, &[&["--json"], flags].concat());
    assert_eq!(ran.code, 0, "{}", ran.err);
    serde_json::from_str(&ran.out).unwrap()
}

/// Merges an adapter into a base.
fn merge(base: &Path, adapter: &Path, to: &Path) {
    let mut command = command(&["merge", "-q", "--base"]);
    let ran = ran(command.arg(base).arg("--adapter").arg(adapter).arg("-o").arg(to).output().unwrap());
    assert_eq!(ran.code, 0, "{}", ran.err);
}

/// What two checkpoints come to.
fn diff(a: &Path, b: &Path) -> Value {
    let ran = ran(command(&["diff", "--json"]).arg(a).arg(b).output().unwrap());
    assert_eq!(ran.code, 0, "{}", ran.err);
    serde_json::from_str(&ran.out).unwrap()
}

/// ‖B - A‖ / ‖A‖ of all tensors.
fn distance(a: &Path, b: &Path) -> f64 {
    diff(a, b)["relative"].as_f64().unwrap()
}

/// The demo in F32, and merged.
fn demo(work: &Work) -> (PathBuf, PathBuf) {
    let [base, tuned] = ["f32", "tuned"].map(|name| work.folder.path().join(name));
    let mut convert = command(&["convert", "--dtype", "f32", "-q"]);
    assert_eq!(ran(convert.arg(&work.base).arg("-o").arg(&base).output().unwrap()).code, 0);
    merge(&base, &work.adapter, &tuned);
    (base, tuned)
}

#[test]
fn a_merged_adapter_of_the_rank_is_given_back() {
    let work = Work::demo();
    let (base, tuned) = demo(&work);
    let [adapter, again] = ["extracted", "again"].map(|name| work.folder.path().join(name));
    let found = succeeds(&base, &tuned, &adapter, &["--rank", "8"]);
    assert!((found["kept"].as_f64().unwrap() - 1.0).abs() < 1e-12, "{found}");
    let modules = found["modules"].as_array().unwrap();
    assert_eq!(modules[0]["rank"], 8);
    assert_eq!((modules.len(), &found["equal"], &found["saved"]), (28, &json!(11), &json!([])));
    assert_eq!(modules[0]["module"], "model.layers.0.mlp.down_proj");
    merge(&base, &adapter, &again);
    let (rest, moved) = (distance(&tuned, &again), distance(&base, &tuned));
    // One rounding of each merged weight to F32.
    assert!(moved > 0.5 && rest < 1e-7, "{moved} {rest}");
    let config: Value =
        serde_json::from_str(&fs::read_to_string(adapter.join("adapter_config.json")).unwrap()).unwrap();
    assert_eq!(
        (&config["r"], &config["lora_alpha"], &config["task_type"]),
        (&json!(8), &json!(8), &json!("CAUSAL_LM"))
    );
    assert_eq!(
        config["target_modules"],
        json!(["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"])
    );
}

#[test]
fn the_bytes_depend_on_no_budget_and_no_thread() {
    let work = Work::demo();
    let (base, tuned) = demo(&work);
    let bytes = |name: &str, flags: &[&str]| {
        let to = work.folder.path().join(name);
        succeeds(&base, &tuned, &to, &[&["--rank", "5"], flags].concat());
        fs::read(to.join("adapter_model.safetensors")).unwrap()
    };
    let first = bytes("first", &[]);
    for (name, flags) in
        [("one", &["--threads", "1"][..]), ("small", &["--max-ram", "64M"]), ("io", &["--io", "direct"])]
    {
        assert!(bytes(name, flags) == first, "{name}");
    }
}

#[test]
fn what_the_rank_does_not_hold_is_what_is_said_to_be_lost() {
    let work = Work::demo();
    let (base, tuned) = demo(&work);
    let [adapter, again] = ["extracted", "again"].map(|name| work.folder.path().join(name));
    let found = succeeds(&base, &tuned, &adapter, &["--rank", "3"]);
    merge(&base, &adapter, &again);
    let kept = found["kept"].as_f64().unwrap();
    let norm = |a: &Path, b: &Path| diff(a, b)["norm"].as_f64().unwrap();
    let lost = (norm(&tuned, &again) / norm(&base, &tuned)).powi(2);
    assert!(kept > 0.3 && kept < 0.9 && (1.0 - kept - lost).abs() < 1e-5, "{kept} {lost}");
    let of_modules: Vec<f64> =
        found["modules"].as_array().unwrap().iter().map(|module| module["kept"].as_f64().unwrap()).collect();
    assert!(of_modules.iter().any(|share| *share < kept) && of_modules.iter().any(|share| *share > kept));
}

#[test]
fn models_of_other_names_and_orders_merge_again() {
    let folder = folder();
    let golden = |case: &str| fixtures().join("golden").join(case);
    let cases = [
        (golden("all-linear-gpt2"), true),
        (golden("bert-bf16-single"), false),
        (fixtures().join("models/Gemma3ForConditionalGeneration"), false),
    ];
    for (i, (from, is_turned)) in cases.iter().enumerate() {
        let [tuned, adapter, again] =
            ["tuned", "adapter", "again"].map(|name| folder.path().join(format!("{name}-{i}")));
        merge(&from.join("base"), &from.join("adapter"), &tuned);
        succeeds(&from.join("base"), &tuned, &adapter, &["--rank", "16"]);
        let config = fs::read_to_string(adapter.join("adapter_config.json")).unwrap();
        assert_eq!(config.contains("\"fan_in_fan_out\": true"), *is_turned, "{config}");
        merge(&from.join("base"), &adapter, &again);
        assert!(distance(&tuned, &again) < 1e-6, "{from:?}");
    }
}

#[test]
fn a_module_whose_name_is_another_s_too_is_named_by_its_path() {
    let work = Work::demo();
    let tuned = work.folder.path().join("tuned");
    fs::remove_dir_all(&work.adapter).unwrap();
    work.adapt(1, 64, 64, 0.5, 0.25);
    let shape = diff(&work.base, &work.base)["tensors"].as_array().unwrap().clone();
    let query = shape.iter().find(|tensor| tensor["name"] == format!("{MODULE}.weight")).unwrap();
    let [out, input] = [0, 1].map(|axis| query["shapes"][0][axis].as_u64().unwrap());
    work.adapt(1, out, input, 0.5, 0.25);
    work.configure("target_modules", json!(MODULE));
    merge(&work.base, &work.adapter, &tuned);
    let adapter = work.folder.path().join("extracted");
    succeeds(&work.base, &tuned, &adapter, &["--rank", "2"]);
    let config = fs::read_to_string(adapter.join("adapter_config.json")).unwrap();
    assert!(config.contains(&format!("\"{MODULE}\"")), "{config}");
    let again = work.folder.path().join("again");
    merge(&work.base, &adapter, &again);
    assert!(distance(&tuned, &again) < 1e-3);
}

#[test]
fn what_is_no_linear_weight_is_refused_saved_or_skipped_by_name() {
    let work = Work::demo();
    let (base, tuned) = demo(&work);
    let shard = tuned.join("model-00001-of-00003.safetensors");
    edit(&shard, |tensors| {
        for tensor in tensors
            .iter_mut()
            .filter(|tensor| tensor.name.contains("layers.0") && tensor.name.contains("norm"))
        {
            tensor.data[..4].copy_from_slice(&2.5f32.to_le_bytes());
        }
    });
    let at = |name: &str| work.folder.path().join(name);
    let refused = extract(&base, &tuned, &at("refused"), &["--rank", "8"]);
    assert_eq!(refused.code, 65, "{}", refused.err);
    assert!(
        refused.err.contains(
            "differs in tensors that are no weights of linear layers: `model.layers.0.input_layernorm.weight`, \
             `model.layers.0.post_attention_layernorm.weight`"
        ),
        "{}",
        refused.err
    );
    assert!(
        !at("refused").exists() && fs::read_dir(work.folder.path()).unwrap().count() == 4,
        "nothing is left"
    );
    let skipped = succeeds(&base, &tuned, &at("skipped"), &["--rank", "8", "--skip", "layernorm"]);
    assert_eq!(
        skipped["skipped"],
        json!(["model.layers.0.input_layernorm.weight", "model.layers.0.post_attention_layernorm.weight"])
    );
    let saved = succeeds(&base, &tuned, &at("saved"), &["--rank", "8", "--save-others"]);
    assert_eq!(saved["saved"], skipped["skipped"]);
    merge(&base, &at("saved"), &at("again"));
    let all = diff(&tuned, &at("again"));
    let norms = all["tensors"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|tensor| tensor["name"].as_str().unwrap().contains("norm"));
    assert!(
        norms.clone().count() == 9 && norms.into_iter().all(|tensor| tensor["state"] == "equal"),
        "{all}"
    );
    assert!(all["relative"].as_f64().unwrap() < 1e-7);
}

#[test]
fn what_cannot_be_extracted_says_why() {
    let work = Work::tiny(Dtype::F32, 1.0);
    let at = |name: &str| work.folder.path().join(name);
    work.succeeds(&[]);
    let same = extract(&work.base, &work.base, &at("to"), &["--rank", "1"]);
    assert_eq!(same.code, 65, "{}", same.err);
    assert!(same.err.contains("there is no difference to extract"), "{}", same.err);
    for rank in ["0", "x", "1025"] {
        assert_eq!(extract(&work.base, &work.output, &at("to"), &["--rank", rank]).code, 2);
    }
    let inside = extract(&work.base, &work.output, &work.base.join("to"), &["--rank", "1"]);
    assert_eq!(inside.code, 73, "{}", inside.err);
    let there = extract(&work.base, &work.output, &work.adapter, &["--rank", "1"]);
    assert_eq!(there.code, 73, "{}", there.err);
    let name = format!("{MODULE}.weight");
    for (values, message) in [
        (vec![f32::NAN; 16], "holds a value that is not finite"),
        (vec![1.0; 12], "differs in tensors that have another shape than in the base"),
    ] {
        let shape = [values.len() as u64 / 4, 4];
        write_safetensors(
            &work.output.join("model.safetensors"),
            &[(&name, Dtype::F32, &shape, f32s(values)), ("new.weight", Dtype::F32, &[1], f32s([1.0]))],
        );
        let flags: &[&str] =
            if message.starts_with("holds") { &["--rank", "1", "--skip", "new"] } else { &["--rank", "1"] };
        let refused = extract(&work.base, &work.output, &at("to"), flags);
        assert_eq!(refused.code, 65, "{}", refused.err);
        assert!(refused.err.contains(message), "{}", refused.err);
        assert_eq!(
            refused.err.contains("differs in tensors that are not in the base: `new.weight`"),
            flags.len() == 2
        );
    }
    assert!(!at("to").exists());
}

#[test]
fn experts_that_the_model_has_fused_are_refused_by_name() {
    let folder = folder();
    let from = fixtures().join("models/Qwen3MoeForCausalLM");
    let [tuned, adapter] = ["tuned", "adapter"].map(|name| folder.path().join(name));
    merge(&from.join("base"), &from.join("adapter"), &tuned);
    let refused = extract(&from.join("base"), &tuned, &adapter, &["--rank", "4"]);
    assert_eq!(refused.code, 65, "{}", refused.err);
    assert!(
        refused
            .err
            .contains("are parts of a parameter that the model has fused: `model.layers.0.mlp.experts.0."),
        "{}",
        refused.err
    );
    succeeds(&from.join("base"), &tuned, &adapter, &["--rank", "4", "--skip", "experts"]);
    edit_json(&adapter.join("adapter_config.json"), |config| assert_eq!(config["peft_type"], "LORA"));
}
