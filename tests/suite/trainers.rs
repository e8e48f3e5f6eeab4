//! Adapters of other trainers than PEFT, merged as their own code merges them: `fixtures/trainers/`, written by `make_mlx.py` and
//! `make_image.py`, where each says why the bits must be the same, or how far its own roundings go.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use shardfold::testing::TestHooks;
use shardfold::{Cancel, Location, Request, Style, Terminal, choose, prepare};

use super::oracle::{Tensor, read};
use super::support::{copy_folder, fixtures, quick_folder};
use super::work::{Work, edit, edit_json};

/// Cases that must be there, by what their names begin with.
const CASES: &[(&str, usize)] = &[("mlx-", 17), ("image-", 28)];

fn case_of(name: &str) -> PathBuf {
    fixtures().join("trainers").join(name)
}

fn said(folder: &Path) -> Value {
    let case = fs::read_to_string(folder.join("case.json")).expect("a case");
    serde_json::from_str(&case).expect("JSON")
}

/// Where the base and the adapter of a case are.
fn places(folder: &Path) -> (PathBuf, PathBuf) {
    let said = said(folder);
    let of = |what: &str| folder.join(said[what].as_str().unwrap_or(what));
    (of("base"), of("adapter"))
}

fn request(folder: &Path) -> Request {
    let (base, adapter) = places(folder);
    Request { base: Some(base.into()), adapters: vec![(adapter.into(), 1.0)], ..Request::default() }
}

fn merge(request: &Request, stem: &str) -> BTreeMap<String, Tensor> {
    let work = quick_folder();
    let output = work.path().join("merged");
    let prepared = prepare(request).unwrap_or_else(|error| panic!("{:?}: {error:?}", request.adapters));
    let mut reporter = choose(Style::Quiet, Terminal::default(), &Cancel::default());
    let done = prepared.merge(&Location::of_path(&output), reporter.as_mut());
    done.unwrap_or_else(|error| panic!("{:?}: {error:?}", request.adapters));
    read(&output, stem)
}

/// Holds a merge against the base with the tensors of `merged/` in place of its own.
fn check(folder: &Path, request: &Request) {
    let said = said(folder);
    let stem = said["stem"].as_str().unwrap_or("model");
    let share = said["share"].as_f64().expect("a number");
    let mut right = read(&places(folder).0, stem);
    let changed = read(&folder.join("merged"), stem);
    assert!(!changed.is_empty(), "{}", folder.display());
    for (name, tensor) in changed {
        let was = right.insert(name, tensor.clone()).expect("a tensor of the base");
        assert!(was.raw != tensor.raw && was.shape == tensor.shape);
    }
    let ours = merge(request, stem);
    assert!(right.keys().eq(ours.keys()), "{}: names", folder.display());
    for (name, right) in &right {
        let ours = &ours[name];
        assert_eq!((right.dtype, &right.shape), (ours.dtype, &ours.shape), "{}: {name}", folder.display());
        let far = |(right, ours): &(f64, f64)| (right - ours).abs() > share * right.abs().max(1.0);
        let pairs: Vec<(f64, f64)> =
            right.values().iter().zip(ours.values()).map(|(right, ours)| (*right, ours)).collect();
        let (count, worst) =
            (pairs.iter().filter(|pair| far(pair)).count(), pairs.iter().find(|pair| far(pair)));
        assert!(count == 0, "{}: {name}: {count} of {}, {worst:?}", folder.display(), pairs.len());
    }
}

#[test]
fn every_case_is_as_its_trainer_has_it() {
    let cases = fs::read_dir(case_of("")).expect("the cases");
    let all = cases.map(|case| case.expect("an entry").path());
    let cases: Vec<_> = all.filter(|case| case.join("case.json").exists()).collect();
    for (start, count) in CASES {
        let is_one =
            |case: &&PathBuf| case.file_name().is_some_and(|name| name.to_string_lossy().starts_with(start));
        assert_eq!(cases.iter().filter(is_one).count(), *count, "{start}");
    }
    for folder in cases {
        let whole = request(&folder);
        check(&folder, &whole);
        let small = TestHooks { forced: Some((4096, 1)), ..TestHooks::default() };
        check(&folder, &Request { hooks: small, threads: Some(1), ..whole });
    }
}

/// A case as a merge whose parts can be changed.
fn work(case: &str) -> Work {
    let work = Work::quick(Some("tiny"));
    for (part, at) in [("base", &work.base), ("adapter", &work.adapter)] {
        fs::remove_dir_all(at).expect("it was there");
        copy_folder(&case_of(case).join(part), at);
    }
    work
}

fn refused(work: &Work, says: &str) {
    let ran = work.merge(&[]);
    assert!(ran.code == 65 || ran.code == 66, "{}: {}", ran.code, ran.err);
    assert!(ran.err.contains(says), "no `{says}` in {}", ran.err);
    assert!(!work.output.exists() && !work.partial().exists());
}

#[test]
fn what_mlx_does_not_say_or_is_not_merged_is_refused() {
    let with = |field: &str, value: Value| {
        let work = work("mlx-lora");
        work.configure(field, value);
        work
    };
    refused(
        &with("lora_parameters", json!({"rank": 2, "alpha": 16})),
        "sets `lora_parameters.scale` to `null`",
    );
    refused(&with("lora_parameters", json!({"rank": 0, "scale": 1})), "sets `lora_parameters.rank` to `0`");
    refused(&with("lora_parameters", json!({"rank": 3, "scale": 1})), "rank");
    let unknown = json!({"rank": 2, "scale": 1, "dora_scale": 2});
    refused(&with("lora_parameters", unknown), "which holds `dora_scale`, a field shardfold does not know");
    refused(&with("lora_parameters", json!(2)), "is no object with `rank` and `scale`");
    refused(&with("fine_tune_type", json!("prefix")), "is none of `lora`, `dora`, `full`");
    let bare = work("mlx-lora");
    fs::remove_file(bare.adapter.join("adapter_config.json")).expect("it was there");
    refused(&bare, "adapter_config.json");
    refused(&bare, "what its deltas are multiplied by");
    let scaled = work("mlx-dora");
    edit(&scaled.adapter.join("adapters.safetensors"), |tensors| {
        tensors.iter_mut().for_each(|tensor| {
            tensor.name = tensor.name.replace("model.layers.0.self_attn.q_proj.m", "model.embed_tokens.m");
        });
    });
    refused(&scaled, "adapts an embedding by DoRA");
    let half = work("mlx-moe");
    edit(&half.adapter.join("adapters.safetensors"), |tensors| {
        tensors.retain(|tensor| tensor.name != "model.layers.1.mlp.switch_mlp.up_proj.lora_b");
    });
    refused(&half, "model.layers.1.mlp.switch_mlp.up_proj.lora_a");
}

#[test]
fn what_lies_beside_an_adapter_of_mlx() {
    let work = work("mlx-lora");
    let tensors = work.adapter.join("adapters.safetensors");
    // States of the training on the way, and the file given instead of its directory.
    fs::copy(&tensors, work.adapter.join("0000100_adapters.safetensors")).expect("a copy");
    work.succeeds(&[]);
    let first = fs::read(work.output.join("model.safetensors")).expect("a result");
    fs::remove_dir_all(&work.output).expect("a result");
    let by_file = Work { adapter: tensors, ..work };
    by_file.succeeds(&[]);
    assert!(fs::read(by_file.output.join("model.safetensors")).expect("a result") == first);
    fs::copy(&by_file.adapter, by_file.adapter.with_file_name("projector.safetensors")).expect("a copy");
    fs::remove_dir_all(&by_file.output).expect("a result");
    refused(&by_file, "has weights beside it that are not merged: `projector.safetensors`");
}

#[test]
fn mlx_merges_into_what_mlx_quantized() {
    let work = work("mlx-lora");
    edit_json(&work.base.join("config.json"), |config| {
        config.insert("quantization".into(), json!({"group_size": 32, "bits": 8}));
    });
    // What no tensor bears out is dropped, and what is there is merged into.
    work.succeeds(&[]);
}
