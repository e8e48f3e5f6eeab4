//! Weights by module: what a list of them does is what its parts do, and no merge is taken for that of another list.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::support::{Ran, command, contents, copy_folder, ran};
use super::work::{Work, edit};

/// A command of several adapters, each with a weight.
fn with(work: &Work, name: &str, adapters: &[(&Path, &str)], flags: &[&str]) -> Ran {
    let mut command = command(&[name]);
    command.arg("--base").arg(&work.base);
    for (adapter, weight) in adapters {
        command.arg("--scaled-adapter").arg(adapter).arg(weight);
    }
    ran(command.args(flags).output().expect("the binary starts"))
}

/// Merges adapters into a folder of that name, and gives what it holds of weights.
fn merged(work: &Work, output: &str, adapters: &[(&Path, &str)]) -> Vec<(String, Vec<u8>)> {
    let output = work.folder.path().join(output);
    let ran = with(
        work,
        "merge",
        adapters,
        &["--output", output.to_str().expect("a path"), "--allow-missing", "proj"],
    );
    assert_eq!(ran.code, 0, "{}", ran.err);
    contents(&output).into_iter().filter(|(name, _)| name.ends_with(".safetensors")).collect()
}

/// A copy of the demo's adapter with some of its tensors, by what their keys have.
fn part(work: &Work, name: &str, is_of: impl Fn(&str) -> bool) -> PathBuf {
    let part = work.folder.path().join(name);
    copy_folder(&work.adapter, &part);
    edit(&part.join("adapter_model.safetensors"), |tensors| tensors.retain(|tensor| is_of(&tensor.name)));
    part
}

#[test]
fn a_list_does_what_its_parts_do() {
    let work = Work::quick(None);
    let first = part(&work, "first", |key| key.contains("layers.0.") && !key.contains("k_proj"));
    let middle = part(&work, "middle", |key| {
        ["layers.1.", "layers.2."].iter().any(|layer| key.contains(layer)) && !key.contains("k_proj")
    });
    let last = part(&work, "last", |key| key.contains("layers.3.") && !key.contains("k_proj"));
    let apart = merged(&work, "apart", &[(&first, "0.5"), (&middle, "-2"), (&last, "0.75")]);
    let list = "k_proj=0,layers.0=0.5,layers.1-2=-2,*=0.75";
    assert!(apart == merged(&work, "list", &[(&work.adapter, list)]), "the weights differ");
    // Without `*` others have 1.
    assert!(
        merged(&work, "all", &[(&work.adapter, "layers.2-=1")])
            == merged(&work, "plain", &[(&work.adapter, "1")])
    );
}

#[test]
fn a_module_of_weight_0_is_copied_and_its_tensors_are_used() {
    let work = Work::quick(None);
    let list = "self_attn=0,layers.0-1=0.5";
    let output = work.folder.path().join("output");
    let output = output.to_str().expect("a path");
    let ran = with(&work, "plan", &[(&work.adapter, list)], &["--json"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let plan: Value = serde_json::from_str(&ran.out).expect("JSON");
    assert_eq!(plan["plan"]["adapters"][0]["weight"], json!("self_attn=0,layers.0-1=0.5,*=1"));
    assert_eq!(plan["plan"]["tensors"]["merged"], 12, "the mlp of four layers");
    let scale = |module: &str| {
        let claims = plan["plan"]["claims"].as_array().expect("a list");
        let claim = claims.iter().find(|claim| claim["module"] == module).expect("every module is claimed");
        claim["scale"].as_f64()
    };
    // 8 by the root of 8, which is rounded to f32.
    let own = f64::from(8f64.sqrt() as f32);
    assert_eq!(scale("model.layers.1.mlp.up_proj"), Some(own / 2.0));
    assert_eq!(scale("model.layers.2.mlp.up_proj"), Some(own));
    assert_eq!(scale("model.layers.2.self_attn.q_proj"), None);
    let ran = with(&work, "plan", &[(&work.adapter, list)], &[]);
    assert!(ran.out.contains("× self_attn=0,layers.0-1=0.5,*=1"), "{}", ran.out);
    let ran = with(&work, "merge", &[(&work.adapter, list)], &["--output", output]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let card = fs::read_to_string(work.output.join("README.md")).expect("a card");
    assert!(card.contains("| self_attn=0,layers.0-1=0.5,*=1 |"), "{card}");
    let none = with(&work, "plan", &[(&work.adapter, "layers=0")], &[]);
    assert!(none.code == 65 && none.err.contains("has no effect: its weight is 0"), "{}", none.err);
}

#[test]
fn another_list_is_another_merge() {
    let work = Work::quick(None);
    let merge = |list: &str| {
        let output = work.output.to_str().expect("a path");
        with(&work, "merge", &[(&work.adapter, list)], &["--output", output])
    };
    assert_eq!(merge("q_proj=0.5").code, 0);
    let again = merge("q_proj=0.5,*=1");
    assert!(again.code == 0 && again.out.contains("already done"), "{}", again.out);
    let other = merge("q_proj=0.25");
    assert_eq!(other.code, 73, "{}", other.err);
    let says = "its adapter `adapter` has weight q_proj=0.5,*=1, here q_proj=0.25,*=1";
    assert!(other.err.contains(says), "{}", other.err);
    let args =
        [work.output.as_os_str(), "--base".as_ref(), work.base.as_os_str(), "--scaled-adapter".as_ref()];
    let verify = |list: &str| {
        let mut command = command(&["verify"]);
        ran(command.args(args).arg(&work.adapter).arg(list).output().expect("the binary starts"))
    };
    assert_eq!(verify("q_proj=0.5").code, 0);
    assert_ne!(verify("q_proj=0.25").code, 0);
}

#[test]
fn lists_that_mean_nothing_are_refused() {
    let work = Work::quick(None);
    for (list, says) in [
        ("layers.7=0.5", "weight of `layers.7`: no module of adapter `adapter` has that in its path"),
        ("qproj=0.5", "hint: the nearest of its modules are `model.layers.0.self_attn.q_proj`"),
        ("layers=2,layers.0=1", "earlier patterns decide all modules of adapter `adapter` that have it"),
        ("*=1,q_proj=2", "at the end only"),
        ("layers.3-1=1", "a range begins with its smaller number"),
        ("q_proj", "a finite number is accepted, such as 0.5 or -1, or numbers by module"),
    ] {
        let ran = with(&work, "plan", &[(&work.adapter, list)], &[]);
        assert!(ran.code == 2 && ran.err.contains(says), "{list}: {} {}", ran.code, ran.err);
    }
}
