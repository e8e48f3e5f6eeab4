//! What is read, by what the tests merge: the table of the README counts the cases of each format of adapters on each kind of base.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use shardfold::{Cancel, Location, inspect};

use super::support::fixtures;
use super::{one_file, pipelines};

const README: &str = include_str!("../../README.md");
/// What the table begins with.
const HEAD: &str = "| adapter | safetensors | quantized | `.bin` | GGUF | component | pipeline | one file |";
const KINDS: [&str; 7] = ["safetensors", "quantized", ".bin", "GGUF", "component", "pipeline", "one file"];

/// What the README calls a format, in its order. Each that a case has must be there.
const FORMATS: &[(&str, &str)] = &[
    ("PEFT", "PEFT"),
    ("state", "PEFT models' states"),
    ("Tinker", "Tinker"),
    ("mlx-lm", "mlx-lm"),
    ("torchtune", "torchtune"),
    ("mistral-finetune", "mistral-finetune"),
    ("GGUF LoRA", "llama.cpp (`lora.gguf`)"),
    ("Kohya", "Kohya"),
    ("LyCORIS", "LyCORIS"),
    ("diffusers", "diffusers"),
    ("OneTrainer", "OneTrainer"),
    ("ai-toolkit", "ai-toolkit"),
    ("ComfyUI", "ComfyUI"),
    ("XLabs", "XLabs"),
    ("DiffSynth", "DiffSynth"),
];

/// How many cases there are of a format on a kind of base.
type Counts = BTreeMap<(String, &'static str), usize>;

fn json(path: &Path) -> Value {
    fs::read(path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

/// What an adapter is, by its own tensors.
fn format_of(adapter: &Path) -> String {
    let place = Location::of_path(adapter).into();
    let report = inspect(&place, None, &Cancel::default())
        .unwrap_or_else(|error| panic!("{}: {error:?}", adapter.display()));
    let report = serde_json::to_value(&report).expect("a report");
    report["format"].as_str().unwrap_or_else(|| panic!("{} is no adapter", adapter.display())).to_owned()
}

/// What a base is, by its files.
fn kind_of(base: &Path) -> &'static str {
    if base.extension().is_some_and(|ending| ending == "gguf") {
        return "GGUF";
    }
    let files = fs::read_dir(base).expect("a base").map(|entry| entry.expect("an entry").file_name());
    let names: Vec<String> = files.map(|name| name.to_string_lossy().into_owned()).collect();
    let config = json(&base.join("config.json"));
    let is_text_of_pipeline =
        base.file_name().is_some_and(|name| name.to_string_lossy().starts_with("base-te"));
    if names.iter().any(|name| name.ends_with(".gguf")) {
        "GGUF"
    } else if names.iter().any(|name| name.ends_with(".bin")) {
        ".bin"
    } else if config.get("_class_name").is_some() || is_text_of_pipeline {
        "component"
    } else if config.to_string().contains("quantization_config") || config.get("compression_config").is_some()
    {
        "quantized"
    } else {
        "safetensors"
    }
}

fn folders(under: &str) -> Vec<PathBuf> {
    let all = fs::read_dir(fixtures().join(under)).expect("a folder of fixtures");
    let mut found: Vec<PathBuf> =
        all.map(|entry| entry.expect("an entry").path()).filter(|path| path.is_dir()).collect();
    found.sort();
    found
}

/// Counts the cases below a folder, each of which has a base and adapters.
fn count(counts: &mut Counts, under: &str, format: Option<&str>) {
    for case in folders(under) {
        let said = json(&case.join("case.json"));
        let of = |what: &str| case.join(said[what].as_str().unwrap_or(what));
        let base = ["base", "base.gguf"].map(of).into_iter().find(|path| path.exists());
        let Some(base) = base.filter(|_| under != "trainers" || case.join("case.json").exists()) else {
            continue;
        };
        let adapters = ["adapter", "adapter-1"].map(of).into_iter().find(|path| path.exists());
        let own =
            adapters.into_iter().chain([case.join("lora.gguf")].into_iter().filter(|path| path.exists()));
        let is_raw = case.file_name().is_some_and(|name| name.to_string_lossy().starts_with("raw-"));
        for adapter in own {
            let format = match format {
                Some(format) => format.to_owned(),
                None if is_raw => "state".to_owned(),
                None => format_of(&adapter),
            };
            *counts.entry((format, kind_of(&base))).or_default() += 1;
        }
    }
}

fn counts() -> Counts {
    let mut counts = Counts::new();
    for (under, format) in [
        ("golden", None),
        ("models", None),
        ("trainers", None),
        ("gguf", None),
        ("saved", None),
        ("tinker", Some("Tinker")),
    ] {
        count(&mut counts, under, format);
    }
    for base in folders("pytorch").iter().filter(|path| kind_of(path) == ".bin") {
        assert!(
            base.ends_with("base-all-linear") || base.ends_with("base-bert-bf16-sharded"),
            "{}",
            base.display()
        );
        *counts.entry(("PEFT".to_owned(), ".bin")).or_default() += 1;
    }
    for (kind, adapters) in [("one file", one_file::adapters()), ("pipeline", pipelines::adapters())] {
        for adapter in adapters {
            *counts.entry((format_of(&adapter), kind)).or_default() += 1;
        }
    }
    counts
}

/// The table as it must be.
fn table(counts: &Counts) -> String {
    let mut text = format!("{HEAD}\n| --- |{}\n", " ---: |".repeat(KINDS.len()));
    for (format, name) in FORMATS {
        let cell = |kind: &&'static str| match counts.get(&((*format).to_owned(), *kind)) {
            Some(count) => count.to_string(),
            None => "–".to_owned(),
        };
        text.push_str(&format!("| {name} | {} |\n", KINDS.iter().map(cell).collect::<Vec<_>>().join(" | ")));
    }
    text
}

#[test]
fn the_readme_counts_the_cases_of_each_format_and_base() {
    let counts = counts();
    let known: BTreeSet<&str> = FORMATS.iter().map(|(format, _)| *format).collect();
    let found: BTreeSet<&str> = counts.keys().map(|(format, _)| format.as_str()).collect();
    assert_eq!(found, known, "every format has a row, and every row cases");
    let wanted = table(&counts);
    assert!(README.contains(&wanted), "the table of the README is to be\n{wanted}");
}
