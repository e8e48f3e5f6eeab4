//! Pipelines of diffusers as bases: every component is what a merge into it alone gives, by its own name, and the rest is as it was.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;
use shardfold::testing::{Failure, Faulty, Operation, TestHooks};
use shardfold::{Cancel, Code, Folder, Location, MergedReader, Request, Style, Terminal, choose, prepare};

use super::one_file;
use super::oracle::read;
use super::refusals::refused;
use super::support::{Ran, contents, copy_folder, fixtures, run};
use super::work::{Work, edit, in_small_tiles};

fn trainers(name: &str) -> PathBuf {
    fixtures().join("trainers").join(name)
}

/// A component: its directory, its library and class, the base it is, and the case that says what becomes of it.
type Part = (&'static str, [&'static str; 2], &'static str, &'static str);

const OLD: &[Part] = &[
    ("text_encoder", ["transformers", "CLIPTextModel"], "base-te1", "image-kohya-te1"),
    ("unet", ["diffusers", "UNet2DConditionModel"], "base-unet", "image-kohya-unet"),
];
const XL: &[Part] = &[
    ("text_encoder", ["transformers", "CLIPTextModel"], "base-te1", "image-kohya-sdxl-te1"),
    ("text_encoder_2", ["transformers", "CLIPTextModel"], "base-te2", "image-kohya-sdxl-te2"),
    ("unet", ["diffusers", "UNet2DConditionModel"], "base-sdxl", "image-kohya-sdxl-sdxl"),
];

/// A pipeline of these components, with a scheduler, its weights in one file, and the file that their cases adapt it by.
fn pipeline(parts: &[Part]) -> Work {
    let mut work = Work::quick(Some("tiny"));
    fs::remove_dir_all(&work.base).expect("it was there");
    let mut index =
        json!({"_class_name": "SomePipeline", "scheduler": ["diffusers", "EulerDiscreteScheduler"]});
    for (directory, class, base, _) in parts {
        copy_folder(&trainers(base), &work.base.join(directory));
        index[*directory] = json!(class);
    }
    fs::create_dir(work.base.join("scheduler")).expect("a folder");
    fs::write(work.base.join("scheduler/scheduler_config.json"), "{}").expect("written");
    fs::write(work.base.join("model_index.json"), index.to_string()).expect("written");
    fs::write(work.base.join("whole-pruned.safetensors"), "not looked into").expect("written");
    work.adapter = trainers(parts[0].3).join("adapter.safetensors");
    work
}

/// All files below a folder.
fn tree(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry")) {
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.path().is_dir() {
            let below = tree(&entry.path()).into_iter();
            all.extend(below.map(|(inner, bytes)| (format!("{name}/{inner}"), bytes)));
        } else {
            all.insert(name, fs::read(entry.path()).expect("a file"));
        }
    }
    all
}

fn is_ours(name: &str) -> bool {
    name.ends_with("README.md") || name.ends_with("shardfold.json")
}

/// Holds a merged pipeline against its cases: each component's tensors, and every other file.
fn check(parts: &[Part], work: &Work, output: &Path) {
    let (before, after) = (tree(&work.base), tree(output));
    let left: Vec<&String> = before.keys().filter(|name| !after.contains_key(*name)).collect();
    assert_eq!(left, ["whole-pruned.safetensors"]);
    let new: Vec<&String> = after.keys().filter(|name| !before.contains_key(*name)).collect();
    assert_eq!(new, ["README.md", "shardfold.json"], "the record is the pipeline's");
    for (name, bytes) in after.iter().filter(|(name, _)| !name.ends_with(".safetensors") && !is_ours(name)) {
        assert!(before[name] == *bytes, "{name}");
    }
    for (directory, _, base, case) in parts {
        let stem = if directory.starts_with("text") { "model" } else { "diffusion_pytorch_model" };
        let mut right = read(&trainers(base), stem);
        right.extend(read(&trainers(case).join("merged"), stem));
        let ours = read(&output.join(directory), stem);
        assert!(ours.keys().eq(right.keys()), "{case}");
        for (name, right) in right {
            assert!(ours[&name].raw == right.raw, "{case}: {name}");
        }
    }
}

fn request(work: &Work) -> Request {
    Request {
        base: Some(work.base.clone().into()),
        adapters: vec![(work.adapter.clone().into(), 1f64.into())],
        ..Request::default()
    }
}

fn merge(request: &Request, output: &Location) -> shardfold::Result<shardfold::Summary> {
    let mut quiet = choose(Style::Quiet, Terminal::default(), &Cancel::default());
    prepare(request)?.merge(output, quiet.as_mut())
}

fn verify(work: &Work, output: &Path, flags: &[&str]) -> Ran {
    let [base, adapter, output] = [&work.base, &work.adapter, output].map(|path| path.to_string_lossy());
    run(&[&["verify", &output, "--base", &base, "--adapter", &adapter][..], flags].concat())
}

#[test]
fn each_component_is_what_its_case_says() {
    for parts in [OLD, XL] {
        let work = pipeline(parts);
        merge(&in_small_tiles(&request(&work)), &Location::of_path(&work.output)).expect("merged");
        check(parts, &work, &work.output);
        fs::remove_dir_all(&work.output).expect("it was there");
        let ran = work.succeeds(&[]);
        check(parts, &work, &work.output);
        let says = "`whole-pruned.safetensors` is not copied: weights of a pipeline in one file";
        assert!(ran.err.contains(says) && !ran.err.contains("ignored"), "{}", ran.err);
        assert_eq!(verify(&work, &work.output, &[]).code, 0);
        assert_eq!(run(&["verify", &work.output.to_string_lossy(), "--hashes-only"]).code, 0);
        assert!(work.merge(&[]).out.starts_with("already done"));
        let card = fs::read_to_string(work.output.join("README.md")).expect("a card");
        assert!(card.contains("library_name: diffusers"), "{card}");
        // One wrong byte in one component is found in it.
        let shard = work.output.join("text_encoder/model.safetensors");
        let mut bytes = fs::read(&shard).expect("a shard");
        *bytes.last_mut().expect("a byte") ^= 1;
        fs::write(&shard, bytes).expect("written");
        let found = verify(&work, &work.output, &[]);
        assert!(found.code == 65 && found.out.contains("text_encoder"), "{}{}", found.out, found.err);
    }
}

/// The cases of adapters for a component of these pipelines: its directory, and the case with its adapter.
fn cases() -> Vec<(&'static [Part], &'static str, String, PathBuf)> {
    let of = |(model, parts): (&str, &'static [Part])| {
        let cases = one_file::cases(model).into_iter();
        let case = move |(name, base, adapter): (String, String, PathBuf)| {
            let directory = parts.iter().find(|(_, _, own, _)| *own == base).expect("a component").0;
            (parts, directory, name, adapter)
        };
        cases.map(case).collect::<Vec<_>>()
    };
    [("sd", OLD), ("sdxl", XL)].into_iter().flat_map(of).collect()
}

/// The adapters of all cases.
pub(super) fn adapters() -> Vec<PathBuf> {
    cases().into_iter().map(|(.., adapter)| adapter).collect()
}

#[test]
fn every_case_of_a_component_is_the_same_in_a_pipeline() {
    for (parts, directory, case, adapter) in cases() {
        let work = Work { adapter, ..pipeline(parts) };
        merge(&in_small_tiles(&request(&work)), &Location::of_path(&work.output)).expect("merged");
        let stem = if directory.starts_with("text") { "model" } else { "diffusion_pytorch_model" };
        let mut right = read(&work.base.join(directory), stem);
        right.extend(read(&trainers(&case).join("merged"), stem));
        let ours = read(&work.output.join(directory), stem);
        assert!(ours.keys().eq(right.keys()), "{case}");
        assert!(right.iter().all(|(name, right)| ours[name].raw == right.raw), "{case}");
    }
}

#[test]
fn a_pipeline_in_parts_or_cut_off_is_the_same() {
    let work = pipeline(XL);
    let parts = work.folder.path().join("parts");
    for part in ["0/3", "1/3", "2/3"] {
        let made = work.command_into(&parts, &["--part", part]).output().expect("it starts");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    }
    assert_eq!(run(&["finish", &parts.to_string_lossy()]).code, 0);
    check(XL, &work, &parts);
    let output = work.folder.path().join("cut");
    for nth in (3..).step_by(4) {
        let store =
            Faulty::new(Folder::new(work.folder.path())).failing(Operation::Sync, nth, Failure::Errno(5));
        let hooks = TestHooks { stride: Some(1), forced: Some((16_384, 2)), ..TestHooks::default() };
        let cut = Request { hooks, threads: Some(2), ..request(&work) };
        let is_cut = merge(&cut, &Location::new(store).join("cut"));
        if let Err(error) = &is_cut {
            assert_eq!(error.exit_code(), Code::Io, "{error:?}");
            merge(&in_small_tiles(&request(&work)), &Location::of_path(&output)).expect("it goes on");
        }
        check(XL, &work, &output);
        fs::remove_dir_all(&output).expect("it was there");
        if is_cut.is_ok() {
            assert!(nth > 9, "only {nth} syncs");
            return;
        }
    }
}

#[test]
fn forms_are_those_of_each_component() {
    let work = pipeline(OLD);
    let flags = ["--dtype", "f16", "--max-shard-size", "5k"];
    work.succeeds(&flags);
    let whole = tree(&work.output);
    let shards = whole.keys().filter(|name| name.starts_with("text_encoder/model-0000")).count();
    assert!(shards > 1 && whole.contains_key("unet/diffusion_pytorch_model.safetensors.index.json"));
    for (directory, ..) in OLD {
        let (alone, base) = (work.folder.path().join(directory), work.base.join(directory));
        let mut one = super::support::command(&["merge", "--base", &base.to_string_lossy()]);
        one.arg("--adapter").arg(&work.adapter).arg("--output").arg(&alone).args(flags);
        assert!(one.output().expect("it starts").status.success());
        let alone = contents(&alone);
        for (name, bytes) in alone.iter().filter(|(name, _)| !is_ours(name)) {
            assert!(whole[&format!("{directory}/{name}")] == *bytes, "{directory}/{name}");
        }
    }
    // Without an adapter.
    let converted = work.folder.path().join("converted");
    let [base, output] = [&work.base, &converted].map(|path| path.to_string_lossy());
    assert_eq!(run(&["convert", &base, "--output", &output, "--dtype", "bf16"]).code, 0);
    for (directory, ..) in OLD {
        let stem = if directory.starts_with("text") { "model" } else { "diffusion_pytorch_model" };
        let found = read(&converted.join(directory), stem);
        assert!(found.values().all(|tensor| tensor.dtype == safetensors::Dtype::BF16), "{directory}");
    }
    let ran = run(&["convert", &base, "--output", &output, "--max-ram", "1G"]);
    assert!(ran.code == 2 && ran.err.contains("it is safetensors already"), "{}", ran.err);
    let patch = work.folder.path().join("patch");
    assert_eq!(work.merge_into(&patch, &["--changed-only"]).code, 0);
    assert!(tree(&patch).contains_key("unet/diffusion_pytorch_model.safetensors.index.json"));
}

#[test]
fn what_is_for_no_component_is_ignored_or_refused() {
    // The second text encoder is none of this pipeline.
    let mut work = pipeline(OLD);
    work.adapter = trainers("image-kohya-sdxl-te1").join("adapter.safetensors");
    refused("modules of another UNet", &work, &[], 65, &["lora_unet_"]);
    fs::remove_dir_all(work.base.join("unet")).expect("it was there");
    let ran = work.succeeds(&[]);
    assert!(ran.err.contains("for another component of the pipeline"), "{}", ran.err);
    fs::remove_dir_all(&work.output).expect("it was there");
    work.adapter = trainers("image-diffusers-flux").join("adapter.safetensors");
    refused("a file for none", &work, &[], 65, &["transformer."]);
    work.adapter = trainers("image-kohya-te1").join("adapter.safetensors");
    let says = "`--base16`: the base is a pipeline of several checkpoints";
    refused("another base beside it", &work, &["--base16", &work.base.to_string_lossy()], 2, &[says]);
    let error = MergedReader::open(&request(&work)).err().expect("it is refused");
    assert!(error.to_string().contains("is a pipeline"), "{error}");
}

#[test]
fn an_adapter_that_moves_no_weight_of_any_component_is_an_error() {
    let mut work = pipeline(OLD);
    let zeroed = work.folder.path().join("zeroed.safetensors");
    let zero = |start: &str| {
        fs::copy(trainers("image-kohya-te1").join("adapter.safetensors"), &zeroed).expect("a fixture");
        edit(&zeroed, |tensors| {
            let ups = tensors.iter_mut().filter(|tensor| tensor.name.ends_with("lora_up.weight"));
            ups.filter(|tensor| tensor.name.starts_with(start)).for_each(|tensor| tensor.data.fill(0));
        });
    };
    zero("lora_te");
    work.adapter = zeroed.clone();
    work.succeeds(&[]);
    fs::remove_dir_all(&work.output).expect("it was there");
    zero("lora_");
    let ran = work.merge(&[]);
    assert!(ran.code == 65 && ran.err.contains("has no effect"), "{}: {}", ran.code, ran.err);
    assert!(!work.output.exists());
}

#[test]
fn a_pattern_of_weights_may_be_for_one_component() {
    let work = pipeline(OLD);
    let ran = work.merge_scaled("encoder=0,*=1");
    assert_eq!(ran.code, 0, "{}", ran.err);
    let same = |directory: &str, stem: &str| {
        let [base, ours] = [&work.base, &work.output].map(|at| read(&at.join(directory), stem));
        base.iter().all(|(name, base)| base.raw == ours[name].raw)
    };
    assert!(same("text_encoder", "model") && !same("unet", "diffusion_pytorch_model"));
    fs::remove_dir_all(&work.output).expect("it was there");
    let ran = work.merge_scaled("encoder=0,nowhere=2");
    let says = "weight of `nowhere`: no module of adapter";
    assert!(ran.code == 2 && ran.err.contains(says), "{} {}", ran.code, ran.err);
}
