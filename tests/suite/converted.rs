//! Checkpoints in another form without an adapter (`convert`), held against what transformers saves and against merges that write that
//! form at once; and results of changed tensors alone (`--changed-only`), laid over their base.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;
use shardfold::testing::Dtype;

use super::oracle::{Tensor, read};
use super::refusals::refused;
use super::saved::{CASES, DTYPES, check_layout, layouts, saved, work};
use super::support::{contents, copy_folder, fixtures, quick_folder, run};
use super::work::Work;

/// Converts a directory into another.
fn convert(base: &Path, output: &Path, flags: &[&str]) -> super::support::Ran {
    let [base, output] = [base, output].map(|path| path.to_string_lossy());
    run(&[&["convert", &base, "--output", &output][..], flags].concat())
}

fn converts(base: &Path, output: &Path, flags: &[&str]) {
    let ran = convert(base, output, flags);
    assert!(ran.code == 0 && ran.out.starts_with("written to"), "{}{}", ran.out, ran.err);
}

#[test]
fn a_type_and_shards_are_those_that_transformers_saves() {
    for case in CASES {
        for dtype in DTYPES {
            let work = work(case, "base");
            work.succeeds(&[]);
            let output = work.folder.path().join("converted");
            converts(&work.output, &output, &["--dtype", dtype]);
            let right = fs::read(saved(case).join(format!("{dtype}.safetensors"))).expect("a fixture");
            let found = contents(&output);
            assert!(found["model.safetensors"] == right, "{case} {dtype}");
            let right = fs::read(saved(case).join(format!("config-{dtype}.json"))).expect("a fixture");
            assert!(found["config.json"] == right, "{case} {dtype}");
            let [base, output] = [&work.output, &output].map(|path| path.to_string_lossy());
            let verified = run(&["verify", &output, "--base", &base, "--dtype", dtype]);
            assert_eq!(verified.code, 0, "{}", verified.err);
            let other = if *dtype == "f16" { "bf16" } else { "f16" };
            assert_eq!(run(&["verify", &output, "--base", &base, "--dtype", other]).code, 65);
        }
        for layout in layouts(case) {
            let text = |key: &str| layout[key].as_str().expect("a text").to_owned();
            let work = work(case, &text("base"));
            work.succeeds(&[]);
            let (dtype, limit) = (text("dtype"), layout["limit"].to_string());
            let output = work.folder.path().join("converted");
            converts(&work.output, &output, &["--dtype", &dtype, "--max-shard-size", &limit]);
            check_layout(case, &layout, &output);
        }
    }
}

#[test]
fn a_pickle_is_written_as_safetensors() {
    let folder = quick_folder();
    let output = folder.path().join("converted");
    converts(&fixtures().join("pytorch/base-all-linear"), &output, &[]);
    let golden = fixtures().join("golden/all-linear/base");
    let (found, right) = (read(&output, "model"), read(&golden, "model"));
    assert!(found.keys().eq(right.keys()));
    assert!(found.values().zip(right.values()).all(|(found, right)| found.raw == right.raw));
    assert!(!output.join("pytorch_model.bin").exists());
    let card = fs::read_to_string(output.join("README.md")).expect("a card");
    assert!(!card.contains("adapter") && !card.contains("merged |"), "{card}");
}

#[test]
fn what_is_quantized_stays_so_unless_a_type_is_asked_for() {
    let base = fixtures().join("golden/fp8/base");
    let folder = quick_folder();
    let (kept, decoded) = (folder.path().join("kept"), folder.path().join("decoded"));
    converts(&base, &kept, &["--max-shard-size", "4k"]);
    let (found, before) = (read_all(&kept), read_all(&base));
    assert!(found.keys().eq(before.keys()) && found.len() > 3);
    assert!(found.values().zip(before.values()).all(|(found, before)| found.raw == before.raw));
    converts(&base, &decoded, &["--dtype", "bf16"]);
    let found = read_all(&decoded);
    assert!(found.values().all(|tensor| tensor.dtype == safetensors::Dtype::BF16), "{:?}", found.keys());
    let config = fs::read_to_string(decoded.join("config.json")).expect("a config");
    assert!(!config.contains("quantization_config"), "{config}");
}

/// The tensors of all shards of a directory.
fn read_all(folder: &Path) -> BTreeMap<String, Tensor> {
    let mut all = BTreeMap::new();
    let files = contents(folder);
    let names = files.keys().filter_map(|name| name.strip_suffix(".safetensors"));
    for name in names.filter(|name| name.starts_with("model")) {
        all.extend(read(folder, name));
    }
    all
}

#[test]
fn a_conversion_of_nothing_is_refused() {
    let work = Work::quick(Some("tiny"));
    let ran = convert(&work.base, &work.output, &[]);
    assert_eq!(ran.code, 2, "{}", ran.err);
    for says in ["is to be converted: it is safetensors already", "hint: `--dtype` sets another type"] {
        assert!(ran.err.contains(says), "{}", ran.err);
    }
    assert!(!work.output.exists() && !work.partial().exists());
    let base = work.base.to_string_lossy();
    let ran = run(&["merge", "--base", &base, "--output", &work.output.to_string_lossy()]);
    assert!(ran.code == 2 && ran.err.contains("`shardfold convert` changes types"), "{}", ran.err);
    // With nothing to merge, another directory is not what a conversion was made of.
    work.succeeds(&[]);
    let ran = run(&["verify", &work.output.to_string_lossy(), "--base", &base]);
    assert!(ran.code == 2 && ran.err.contains("--adapter"), "{}", ran.err);
}

/// Merges with the flags, once whole and once changed tensors alone, and lays these over the base: nothing is missing, and nothing is
/// there that the base has.
fn laid_over(work: &Work, flags: &[&str]) -> BTreeMap<String, Vec<u8>> {
    work.succeeds(flags);
    let patch = work.folder.path().join("patch");
    let only = [flags, &["--changed-only"]].concat();
    let ran = work.merge_into(&patch, &only);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let (whole, base, changed) = (read_all(&work.output), read_all(&work.base), read_all(&patch));
    assert!(!changed.is_empty());
    assert!(ran.err.contains(&format!("only the {} tensor", changed.len())), "{}", ran.err);
    assert!(changed.iter().all(|(name, tensor)| base.get(name).is_none_or(|base| base.raw != tensor.raw)));
    let mut laid = base;
    laid.extend(changed.clone());
    let [laid_names, names] = [&laid, &whole].map(|tensors| tensors.keys().collect::<Vec<_>>());
    assert_eq!(laid_names, names);
    assert!(
        laid.iter().all(|(name, tensor)| tensor.raw == whole[name].raw && tensor.dtype == whole[name].dtype)
    );
    let files = contents(&patch);
    let index = files.iter().find(|(name, _)| name.ends_with(".index.json")).expect("an index").1;
    let index: Value = serde_json::from_slice(index).expect("JSON");
    let map = index["weight_map"].as_object().expect("a map");
    assert!(map.keys().eq(changed.keys()));
    assert!(map.values().all(|file| files.contains_key(file.as_str().expect("a name"))));
    let total: usize = changed.values().map(|tensor| tensor.raw.len()).sum();
    assert_eq!(index["metadata"]["total_size"], total);
    let [output, base, adapter] = [&patch, &work.base, &work.adapter].map(|path| path.to_string_lossy());
    let inputs = ["verify", &output, "--base", &base, "--adapter", &adapter];
    assert_eq!(run(&[&inputs[..], &only].concat()).code, 0);
    assert_eq!(run(&["verify", &output, "--hashes-only"]).code, 0);
    files
}

#[test]
fn changed_tensors_alone_are_laid_over_the_base() {
    let names = |files: &BTreeMap<String, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
    let own = ["README.md", "model.safetensors", "model.safetensors.index.json", "shardfold.json"];
    assert_eq!(names(&laid_over(&Work::demo(), &[])), own);
    let files = laid_over(&Work::demo(), &["--max-shard-size", "100k"]);
    assert!(files.contains_key("model-00001-of-00003.safetensors"), "{:?}", names(&files));
    assert_eq!(names(&laid_over(&Work::golden("all-linear"), &[])), own);
    let tiny = Work::tiny(Dtype::F32, 0.25);
    fs::write(tiny.base.join("tokenizer.json"), "{}").expect("written");
    fs::write(tiny.base.join("other.bin"), "x").expect("written");
    assert_eq!(names(&laid_over(&tiny, &[])), own);
    // A head that is untied is a tensor that the base has not, and its config says so.
    let files = laid_over(&Work::golden("tied-embedding"), &[]);
    assert!(files.contains_key("config.json"), "{:?}", names(&files));
    laid_over(&Work::golden("fp8"), &["--keep-quantized", "--accept-loss"]);
}

#[test]
fn where_all_changes_no_part_of_it_is_written() {
    let work = Work::golden("fp8");
    refused(
        "a base that is decoded",
        &work,
        &["--changed-only"],
        2,
        &[
            "`--changed-only`: a quantized base is decoded, so that all of it changes: with `--keep-quantized`",
        ],
    );
    refused("another type", &work, &["--changed-only", "--dtype", "bf16"], 2, &["cannot be used with"]);
    let gguf = Work::quick(Some("tiny"));
    fs::remove_dir_all(&gguf.base).expect("it was there");
    fs::create_dir(&gguf.base).expect("a folder");
    fs::copy(fixtures().join("gguf/llama/base.gguf"), gguf.base.join("base.gguf")).expect("a fixture");
    fs::remove_dir_all(&gguf.adapter).expect("it was there");
    copy_folder(&fixtures().join("gguf/llama/adapter"), &gguf.adapter);
    refused("a file of llama.cpp", &gguf, &["--changed-only"], 2, &["the result is one file"]);
}
