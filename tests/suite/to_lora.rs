//! `shardfold convert ADAPTER`: another adapter as a plain LoRA, merged beside the one that it was made from.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::support::{Ran, command, contents, fixtures, folder, ran};

fn convert(adapter: &Path, base: &Path, to: &Path, flags: &[&str]) -> Ran {
    let mut command = command(&["convert"]);
    ran(command.arg(adapter).arg("--base").arg(base).arg("-o").arg(to).args(flags).output().unwrap())
}

fn merge(base: &Path, adapter: &Path, to: &Path) {
    let mut command = command(&["merge", "-q", "--base"]);
    let ran = ran(command.arg(base).arg("--adapter").arg(adapter).arg("-o").arg(to).output().unwrap());
    assert_eq!(ran.code, 0, "{}", ran.err);
}

fn shards(dir: &Path) -> Vec<(String, Vec<u8>)> {
    contents(dir).into_iter().filter(|(name, _)| name.ends_with(".safetensors")).collect()
}

/// Base and adapter of a golden case.
fn golden(case: &str) -> (PathBuf, PathBuf) {
    let from = fixtures().join("golden").join(case);
    (from.join("base"), from.join("adapter"))
}

/// Base and adapter of another trainer.
fn trainer(base: &str, case: &str) -> (PathBuf, PathBuf) {
    let from = fixtures().join("trainers");
    (from.join(base), from.join(case).join("adapter.safetensors"))
}

#[test]
fn what_is_a_product_already_merges_to_the_same_bytes() {
    let folder = folder();
    let cases = [
        golden("rslora"),
        golden("alpha-pattern"),
        golden("both-patterns-rslora"),
        golden("bdlora-f32"),
        golden("bdlora-four"),
        golden("all-linear-gpt2"),
        golden("conv-f32"),
        golden("adapter-f16-base-bf16"),
        trainer("base-unet", "image-kohya-unet"),
        trainer("base-flux", "image-kohya-flux"),
    ];
    for (i, (base, adapter)) in cases.iter().enumerate() {
        let [plain, expected, found] =
            ["plain", "expected", "found"].map(|name| folder.path().join(format!("{name}-{i}")));
        let ran = convert(adapter, base, &plain, &["--json"]);
        assert_eq!(ran.code, 0, "{adapter:?}: {}", ran.err);
        let document: Value = serde_json::from_str(&ran.out).unwrap();
        assert_eq!(document["kept"], 1.0);
        merge(base, adapter, &expected);
        merge(base, &plain, &found);
        assert!(shards(&expected) == shards(&found), "{adapter:?}");
        let config = fs::read_to_string(plain.join("adapter_config.json")).unwrap();
        let config: Value = serde_json::from_str(&config).unwrap();
        assert_eq!((&config["peft_type"], &config["use_rslora"]), (&json!("LORA"), &json!(false)));
    }
}

#[test]
fn what_is_none_becomes_the_best_of_a_rank_if_one_is_given() {
    let folder = folder();
    let cases = [
        golden("loha-f32"),
        golden("lokr-f32"),
        golden("loha-conv1"),
        trainer("base-unet", "image-lycoris-loha"),
    ];
    for (i, (base, adapter)) in cases.iter().enumerate() {
        let [plain, expected, found, small] =
            ["plain", "expected", "found", "small"].map(|name| folder.path().join(format!("{name}-{i}")));
        let refused = convert(adapter, base, &plain, &[]);
        assert_eq!(refused.code, 65, "{}", refused.err);
        assert!(refused.err.contains("more than a product of two factors (`--rank R`"), "{}", refused.err);
        assert!(!plain.exists());
        let ran = convert(adapter, base, &plain, &["--rank", "64", "--json"]);
        assert_eq!(ran.code, 0, "{}", ran.err);
        let document: Value = serde_json::from_str(&ran.out).unwrap();
        assert!((document["kept"].as_f64().unwrap() - 1.0).abs() < 1e-9, "{document}");
        merge(base, adapter, &expected);
        merge(base, &plain, &found);
        let mut command = command(&["diff", "--json"]);
        let all = super::support::ran(command.arg(&expected).arg(&found).output().unwrap());
        let all: Value = serde_json::from_str(&all.out).unwrap();
        assert!(all["relative"].as_f64().unwrap() < 1e-6, "{adapter:?}: {}", all["relative"]);
        let ran = convert(adapter, base, &small, &["--rank", "1", "--json"]);
        let document: Value = serde_json::from_str(&ran.out).unwrap();
        let kept = document["kept"].as_f64().unwrap();
        assert!(kept > 0.05 && kept < 0.999, "{kept}");
    }
}

#[test]
fn what_depends_on_the_base_is_refused_or_skipped_by_name() {
    let folder = folder();
    let to = folder.path().join("plain");
    for (case, why) in [
        ("dora-f32", "are not added to, but changed in a way that depends on what they hold"),
        ("hira-f32", "are not added to, but changed in a way that depends on what they hold"),
        ("ia3-f32", "are not added to, but changed in a way that depends on what they hold"),
        ("oft-f32", "are not added to, but changed in a way that depends on what they hold"),
        ("embedding-f32", "are replaced whole"),
        ("experts-f32", "are no weights of linear layers or convolutions"),
    ] {
        let (base, adapter) = golden(case);
        let refused = convert(&adapter, &base, &to, &["--rank", "4"]);
        assert_eq!(refused.code, 65, "{case}: {}", refused.err);
        assert!(refused.err.contains(why), "{case}: {}", refused.err);
        assert!(refused.err.contains("`shardfold extract`"), "{}", refused.err);
        assert!(!to.exists());
    }
    let (base, adapter) = golden("embedding-f32");
    let ran = convert(&adapter, &base, &to, &["--skip", "embed_tokens", "--json"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let document: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(document["skipped"], json!(["model.embed_tokens.weight"]));
}

#[test]
fn flags_of_the_other_are_refused_and_so_is_what_is_neither() {
    let folder = folder();
    let to = folder.path().join("to");
    let (base, adapter) = golden("rslora");
    let refused = convert(&adapter, &base, &to, &["--dtype", "f16"]);
    assert_eq!(refused.code, 2, "{}", refused.err);
    assert!(
        refused.err.contains("`--dtype`: it is for checkpoints, and this is an adapter"),
        "{}",
        refused.err
    );
    let refused = convert(&base, &base, &to, &["--dtype", "f16"]);
    assert_eq!(refused.code, 2, "{}", refused.err);
    assert!(
        refused.err.contains("`--base`: it is for adapters, and this is a checkpoint"),
        "{}",
        refused.err
    );
    let empty = folder.path().join("empty");
    fs::create_dir(&empty).unwrap();
    fs::write(empty.join("notes.txt"), "none").unwrap();
    let refused = ran(command(&["convert"]).arg(&empty).arg("-o").arg(&to).output().unwrap());
    assert_eq!(refused.code, 66, "{}", refused.err);
    assert!(refused.err.contains("no checkpoint or adapter at `"), "{}", refused.err);
}
