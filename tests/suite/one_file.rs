//! Image models in one file, by their original names: every case of an adapter for one of their components, merged into the file. What
//! the file calls tensors is what diffusers' own conversion reads (`fixtures/one_file`, written by `make_one_file.py`).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use shardfold::testing::Dtype;
use shardfold::{Cancel, Location, Request, Style, Terminal, choose, prepare};

use super::oracle::{Tensor, Tensors, read};
use super::refusals::refused;
use super::support::{f32s, fixtures, run, write_safetensors};
use super::work::{Work, in_small_tiles};

fn trainers(name: &str) -> PathBuf {
    fixtures().join("trainers").join(name)
}

fn json(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).expect("a file")).expect("JSON")
}

/// A tensor of a file: its original name, the base that has it, its names there, and whether its two halves are exchanged.
struct Row {
    original: String,
    base: String,
    parts: Vec<String>,
    is_swapped: bool,
}

fn rows(model: &str) -> Vec<Row> {
    let rows = json(&fixtures().join("one_file").join(format!("{model}.json")));
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let row = |row: &Value| Row {
        original: text(&row[0]),
        base: text(&row[1]),
        parts: row[2].as_array().expect("names").iter().map(text).collect(),
        is_swapped: row[3] == true,
    };
    rows.as_array().expect("rows").iter().map(row).collect()
}

/// What else a file has, that no adapter is for.
const VAE: &str = "first_stage_model.decoder.conv_in.weight";

/// The bytes of a file, by its names, of tensors by base and name.
fn tensors(model: &str, of: impl Fn(&str, &str) -> Tensor) -> BTreeMap<String, (Vec<u64>, Vec<u8>)> {
    let mut all = BTreeMap::new();
    for Row { original, base, parts, is_swapped } in rows(model) {
        let parts: Vec<Tensor> = parts.iter().map(|part| of(&base, part)).collect();
        let mut shape: Vec<u64> = parts[0].shape.iter().map(|&axis| axis as u64).collect();
        shape[0] = parts.iter().map(|part| part.shape[0] as u64).sum();
        let mut bytes: Vec<u8> = parts.into_iter().flat_map(|part| part.raw).collect();
        if is_swapped {
            let half = bytes.len() / 2;
            bytes.rotate_left(half);
        }
        all.insert(original, (shape, bytes));
    }
    all.insert(VAE.to_owned(), (vec![3], f32s([0.5, -2.0, 1.0])));
    all
}

fn stem(base: &str) -> &'static str {
    if base.starts_with("base-te") { "model" } else { "diffusion_pytorch_model" }
}

fn bases(model: &str) -> BTreeMap<String, Tensors> {
    let all = rows(model).into_iter().map(|row| row.base);
    all.map(|base| (base.clone(), read(&trainers(&base), stem(&base)))).collect()
}

/// A directory with the file among others, which are none of the base.
fn file(model: &str) -> Work {
    let mut work = Work::quick(Some("tiny"));
    let bases = bases(model);
    let tensors = tensors(model, |base, name| bases[base][name].clone());
    let listed: Vec<_> = tensors
        .iter()
        .map(|(name, (shape, bytes))| (name.as_str(), Dtype::F32, shape.as_slice(), bytes.clone()))
        .collect();
    let folder = work.folder.path().join("checkpoints");
    fs::create_dir(&folder).expect("a folder");
    for (name, text) in [("config.json", "not JSON"), ("other.safetensors", "not one"), ("notes.txt", "mine")]
    {
        fs::write(folder.join(name), text).expect("written");
    }
    work.base = folder.join("style_v2.safetensors");
    write_safetensors(&work.base, &listed);
    work
}

/// Whether the keys of a file begin so.
fn starts_with(file: &Path, start: &str) -> bool {
    let bytes = fs::read(file).expect("a fixture");
    let length = u64::from_le_bytes(bytes[..8].try_into().expect("eight")) as usize;
    String::from_utf8_lossy(&bytes[8..8 + length]).contains(&format!("\"{start}"))
}

/// The files that are read, each by the bases of its components.
const MODELS: [&str; 5] = ["sd", "sdxl", "flux", "sd3", "wan"];

/// The adapters of all cases.
pub(super) fn adapters() -> Vec<PathBuf> {
    MODELS.iter().flat_map(|model| cases(model)).map(|(_, _, adapter)| adapter).collect()
}

/// The cases of adapters for a component of a file, but for those of DoRA, whose bits may differ: name, base and adapter.
pub(super) fn cases(model: &str) -> Vec<(String, String, PathBuf)> {
    let bases = bases(model);
    let mut all = Vec::new();
    for folder in fs::read_dir(trainers("")).expect("the cases").map(|entry| entry.expect("an entry").path())
    {
        let name = folder.file_name().expect("a name").to_string_lossy().into_owned();
        if !name.starts_with("image-") {
            continue;
        }
        let case = json(&folder.join("case.json"));
        let base = case["base"].as_str().expect("a text").trim_start_matches("../").to_owned();
        let adapter = folder.join(case["adapter"].as_str().expect("a text"));
        // The first text encoder is that of two models, of which a file for several components is for one. And where keys begin with
        // `lycoris_` they are no text encoder's.
        let is_of_other = base == "base-te1" && name.contains("sdxl") != (model == "sdxl");
        let is_text = base.starts_with("base-te") && starts_with(&adapter, "lycoris_");
        if bases.contains_key(&base) && case["share"] == 0 && !is_of_other && !is_text {
            all.push((name, base, adapter));
        }
    }
    all
}

fn merge(request: &Request, output: &Location) {
    let mut quiet = choose(Style::Quiet, Terminal::default(), &Cancel::default());
    let prepared = prepare(request).unwrap_or_else(|error| panic!("{:?}: {error:?}", request.adapters));
    prepared.merge(output, quiet.as_mut()).expect("merged");
}

/// Holds the tensors of one component, in the merged file, against those of its case, and all that no case changes.
fn check(model: &str, work: &Work, (case, base): (&str, &str), output: &Path) {
    let changed = read(&trainers(case).join("merged"), stem(base));
    let before = bases(model);
    let right = tensors(model, |of, name| {
        let own = (of == base).then(|| changed.get(name)).flatten();
        own.unwrap_or_else(|| &before[of][name]).clone()
    });
    let files: Vec<_> =
        fs::read_dir(output).expect("a folder").map(|entry| entry.expect("one").file_name()).collect();
    assert_eq!(files.len(), 3, "{case}: {files:?}");
    let ours = read(output, "style_v2");
    assert!(ours.keys().eq(right.keys()), "{case}: names");
    let of_base: Vec<String> =
        rows(model).into_iter().filter(|row| row.base == base).map(|row| row.original).collect();
    for name in of_base.iter().map(String::as_str).chain([VAE]) {
        let (shape, bytes) = &right[name];
        let shape: Vec<usize> = shape.iter().map(|&axis| axis as usize).collect();
        assert!(ours[name].shape == shape && ours[name].raw == *bytes, "{case}: {name}");
    }
    let header = |path: &Path| {
        let bytes = fs::read(path).expect("a file");
        let length = u64::from_le_bytes(bytes[..8].try_into().expect("eight")) as usize;
        bytes[..8 + length].to_vec()
    };
    assert!(header(&output.join("style_v2.safetensors")) == header(&work.base), "{case}: the header's bytes");
}

#[test]
fn every_case_of_a_component_is_the_same_in_one_file() {
    let mut counts = Vec::new();
    for model in MODELS {
        let cases = cases(model);
        counts.push(cases.len());
        for (case, base, adapter) in cases {
            let work = file(model);
            let request = Request {
                base: Some(work.base.clone().into()),
                adapters: vec![(adapter.into(), 1f64.into())],
                ..Request::default()
            };
            prepare(&request).unwrap_or_else(|error| panic!("{case}: {error:?}"));
            for request in [request.clone(), in_small_tiles(&request)] {
                merge(&request, &Location::of_path(&work.output));
                check(model, &work, (&case, &base), &work.output);
                fs::remove_dir_all(&work.output).expect("it was there");
            }
        }
    }
    let least = [18, 3, 5, 2, 3];
    assert!(counts.iter().zip(least).all(|(count, least)| *count >= least), "{counts:?}");
}

#[test]
fn the_file_is_merged_by_its_name_and_nothing_beside_it() {
    let mut work = file("sdxl");
    work.adapter = trainers("image-kohya-sdxl-te1").join("adapter.safetensors");
    let ran = work.succeeds(&["--dtype", "f16"]);
    assert!(!ran.err.contains("ignored"), "{}", ran.err);
    let card = fs::read_to_string(work.output.join("README.md")).expect("a card");
    assert!(
        card.contains("library_name: diffusers") && card.contains("# style\\_v2 with")
            || card.contains("# style_v2 with"),
        "{card}"
    );
    let ours = read(&work.output, "style_v2");
    assert!(ours.values().all(|tensor| tensor.dtype == safetensors::Dtype::F16));
    let [base, adapter, output] =
        [&work.base, &work.adapter, &work.output].map(|path| path.to_string_lossy());
    let flags = ["verify", &output, "--base", &base, "--adapter", &adapter, "--dtype", "f16"];
    assert_eq!(run(&flags).code, 0);
    let plan = run(&["plan", "--base", &base, "--adapter", &adapter]);
    assert!(
        plan.out.contains("text_encoder_2.text_model.encoder.layers.{0, 1}.self_attn.k_proj"),
        "{}",
        plan.out
    );
    // Whatever the file is called.
    let renamed = work.base.with_file_name("model.fp16.safetensors");
    fs::copy(&work.base, &renamed).expect("copied");
    let renamed = Work { base: renamed, ..file("sdxl") };
    let named = Work { adapter: work.adapter.clone(), ..renamed };
    named.succeeds(&[]);
    assert!(named.output.join("model.fp16.safetensors").exists());
    // Beside the file, where others lie, an output may lie too.
    let beside = work.base.parent().expect("a folder").join("merged");
    assert_eq!(work.merge_into(&beside, &[]).code, 0);
    fs::remove_dir_all(&work.output).expect("it was there");
    refused("one file in shards", &work, &["--max-shard-size", "1k"], 2, &["the result is one file"]);
    work.adapter = trainers("image-diffusers-flux").join("adapter.safetensors");
    refused("a component that it has not", &work, &[], 65, &["transformer."]);
    work.base = work.base.with_file_name("other.safetensors");
    refused(
        "what is no file of tensors",
        &work,
        &[],
        65,
        &["other.safetensors` is not a readable safetensors"],
    );
    let shard = fixtures().join("demo/base/model-00001-of-00003.safetensors");
    fs::copy(shard, &work.base).expect("copied");
    refused("what is no such file", &work, &[], 65, &["is a single file", "by their original names"]);
}

#[test]
fn a_module_that_the_file_has_not_is_refused() {
    let mut work = file("sd");
    work.adapter = trainers("image-kohya-sdxl-te1").join("adapter.safetensors");
    // The second text encoder is for another file, and so are the modules of another UNet.
    refused("modules of another UNet", &work, &[], 65, &["lora_unet_"]);
}
