//! Whole interpretations: models as transformers saves and holds them, and the vectors of key-mapping.md 13.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::checkpoint::config::Config;
use crate::error::conversion::ConversionProblem;
use crate::model::names::class_rules::class_rules;
use crate::model::names::disk::Disk;
use crate::model::names::geometry::Geometry;
use crate::model::names::lookup::{Names, PathFacts};
use crate::model::names::name_table::NameTable;
use crate::model::names::name_tables::NameTables;
use crate::model::names::param_slice::StoredSlice;
use crate::model::names::parameter::Parameter;
use crate::tensor::shape::Shape;

/// Weights that are names and shapes only.
pub(crate) struct Weights(pub(crate) Vec<(String, Shape)>);

impl Disk for Weights {
    fn count(&self) -> usize {
        self.0.len()
    }

    fn weight(&self, place: usize) -> Option<(Cow<'_, str>, &Shape)> {
        let (name, shape) = &self.0[place];
        Some((Cow::Borrowed(name), shape))
    }
}

impl Weights {
    fn of<'n>(names: impl IntoIterator<Item = (&'n str, &'n [u64])>) -> Weights {
        let weight = |(name, shape): (&str, &[u64])| (name.to_owned(), Shape::new(shape).expect("small"));
        Weights(names.into_iter().map(weight).collect())
    }

    fn matrices<'n>(names: impl IntoIterator<Item = &'n str>) -> Weights {
        Weights::of(names.into_iter().map(|name| (name, &[4, 6][..])))
    }

    /// The names of the tensors that a parameter is made of.
    fn named(&self, parameter: Option<Parameter>) -> Vec<&str> {
        let slices = parameter.expect("found").slices;
        slices.into_iter().map(|placed| self.0[placed.tensor].0.as_str()).collect()
    }
}

/// For every element of the stored tensor that is in the slice: its place there, and its place in the parameter.
fn elements(placed: &StoredSlice, disk: &Shape, runtime: &[u64]) -> Vec<(u64, u64)> {
    let (start, strides) = placed.slice.strides(disk);
    let mut found = vec![(start, 0)];
    for (axis, size) in runtime.iter().enumerate() {
        let stride = strides.iter().find(|stride| stride.runtime == axis).expect("every axis runs somewhere");
        let next = |(at, index): &(u64, u64)| {
            let (at, index) = (*at, *index);
            (0..stride.count).map(move |i| (at + i * stride.stride, index * size + stride.at + i))
        };
        found = found.iter().flat_map(next).collect();
    }
    found
}

/// One class of `fixtures/names/cases.json`.
struct Case {
    class: String,
    config: Config,
    disk: Weights,
    /// Which elements of the state the first, second and last ones of a tensor are, where it is not the same on both sides.
    stated: BTreeMap<String, [u64; 3]>,
    /// Runtime parameters in the order in which their elements are numbered.
    runtime: Vec<(String, Vec<u64>)>,
}

fn cases() -> Vec<Case> {
    let text = include_str!("../../../fixtures/names/cases.json");
    let cases: Vec<Value> = serde_json::from_str(text).expect("the fixture parses");
    cases.iter().map(case).collect()
}

fn case(value: &Value) -> Case {
    let shape = |value: &Value| -> Vec<u64> { serde_json::from_value(value.clone()).expect("a shape") };
    let entries = |key: &str| value[key].as_object().expect("an object").iter();
    let mut config = value["config"].clone();
    config["architectures"] = json!([value["class"]]);
    let named = |(name, value): (&String, &Value)| (name.clone(), shape(value));
    let same: Vec<(String, Vec<u64>)> = entries("same").map(named).collect();
    let stated = entries("disk").map(|(name, stated)| {
        (name.clone(), serde_json::from_value(stated[1].clone()).expect("three elements"))
    });
    let mut disk: BTreeMap<String, Vec<u64>> = same.iter().cloned().collect();
    disk.extend(entries("disk").map(|(name, stated)| (name.clone(), shape(&stated[0]))));
    Case {
        class: value["class"].as_str().expect("a name").to_owned(),
        config: Config::from(config),
        disk: Weights::of(disk.iter().map(|(name, shape)| (name.as_str(), shape.as_slice()))),
        stated: stated.collect(),
        runtime: same.into_iter().chain(entries("runtime").map(named)).collect(),
    }
}

/// Demands that the parameters cover every element of every tensor once, and themselves once.
fn covered(case: &Case, mut parameter: impl FnMut(&str) -> Option<Parameter>, check: bool) {
    let class = &case.class;
    // For every tensor the elements of the state that its own are.
    let mut stored: Vec<Vec<Option<u64>>> =
        case.disk.0.iter().map(|(_, shape)| vec![None; shape.elements() as usize]).collect();
    let mut count = 0;
    for (name, shape) in &case.runtime {
        let found = parameter(name).unwrap_or_else(|| panic!("{class}: `{name}` is not found"));
        assert_eq!(found.refused, None, "{class}: {name}");
        let mut sorted = [shape.clone(), found.shape.clone()];
        if !check {
            sorted.iter_mut().for_each(|shape| shape.sort_unstable());
        }
        assert_eq!(sorted[0], sorted[1], "{class}: {name}");
        let size: u64 = shape.iter().product();
        let mut seen = vec![false; size as usize];
        for placed in &found.slices {
            let shape = &case.disk.0[placed.tensor].1;
            for (at, index) in elements(placed, shape, &found.shape) {
                let cell = &mut stored[placed.tensor][at as usize];
                assert_eq!(*cell, None, "{class}: {name} has an element that another has");
                *cell = Some(count + index);
                assert!(!std::mem::replace(&mut seen[index as usize], true), "{class}: {name} twice");
            }
        }
        assert!(seen.iter().all(|&seen| seen), "{class}: {name} is not covered");
        count += size;
    }
    for ((name, _), elements) in case.disk.0.iter().zip(&stored) {
        assert!(elements.iter().all(Option::is_some), "{class}: `{name}` on disk is not covered");
        let ends = [0, 1.min(elements.len() - 1), elements.len() - 1].map(|i| elements[i].expect("covered"));
        if let Some(stated) = case.stated.get(name)
            && check
        {
            assert_eq!(ends, *stated, "{class}: `{name}` holds other elements");
        }
    }
}

/// Whether a path is a parameter, or a module that has a weight.
fn has(names: &Names<'_>, path: &str) -> bool {
    names.parameter(path).is_some() || names.parameter(&format!("{path}.weight")).is_some()
}

#[test]
fn every_parameter_of_a_saved_model_is_found_where_transformers_put_it() {
    for case in cases() {
        let rules = class_rules(&case.config)[0].all.clone();
        let name_table = NameTable::new(&case.disk, rules, Arc::new(Geometry::of(&case.config)));
        covered(&case, |name| name_table.parameter(name), true);
    }
}

#[test]
fn the_paths_of_a_whole_model_are_read_as_its_names() {
    for case in cases() {
        let paths: Vec<&str> = case.runtime.iter().map(|(name, _)| name.as_str()).collect();
        let names =
            of_any_shape(&NameTables::new(&case.disk, &case.config), &paths).expect("one interpretation");
        covered(&case, |name| names.parameter(name), false);
        for (name, _) in &case.runtime {
            assert!(has(&names, name), "{}: {name}", case.class);
        }
    }
}

fn config(class: &str) -> Config {
    Config::from(json!({"architectures": [class]}))
}

/// Vector 6.
#[test]
fn models_with_towers_in_older_and_newer_names() {
    let disk = Weights::matrices([
        "model.layers.0.self_attn.q_proj.weight",
        "visual.blocks.0.attn.qkv.weight",
        "model.norm.weight",
        "lm_head.weight",
    ]);
    let qwen = config("Qwen2VLForConditionalGeneration");
    let read = |paths: &[&str], name: &str| {
        let names = of_any_shape(&NameTables::new(&disk, &qwen), paths).expect("one interpretation");
        disk.named(names.parameter(name)).join(" ")
    };
    let new = ["model.language_model.layers.0.self_attn.q_proj", "model.visual.blocks.0.attn.qkv", "lm_head"];
    assert_eq!(read(&new, "model.language_model.layers.0.self_attn.q_proj.weight"), disk.0[0].0);
    assert_eq!(read(&new, "model.visual.blocks.0.attn.qkv.weight"), disk.0[1].0);
    assert_eq!(read(&new, "lm_head.weight"), "lm_head.weight");
    let old = ["model.layers.0.self_attn.q_proj", "visual.blocks.0.attn.qkv"];
    assert_eq!(read(&old, "visual.blocks.0.attn.qkv.weight"), disk.0[1].0);

    let disk = Weights::matrices([
        "language_model.model.layers.0.self_attn.q_proj.weight",
        "language_model.lm_head.weight",
        "vision_tower.vision_model.encoder.layers.0.self_attn.q_proj.weight",
    ]);
    let llava = config("LlavaForConditionalGeneration");
    let (language, vision) = (disk.0[0].0.as_str(), disk.0[2].0.as_str());
    for (path, expected) in [
        ("language_model.model.layers.0.self_attn.q_proj", language),
        ("model.language_model.layers.0.self_attn.q_proj", language),
        ("model.layers.0.self_attn.q_proj", language),
        ("model.vision_tower.vision_model.encoder.layers.0.self_attn.q_proj", vision),
        ("model.vision_tower.encoder.layers.0.self_attn.q_proj", vision),
    ] {
        let names = of_any_shape(&NameTables::new(&disk, &llava), &[path]).expect("one interpretation");
        assert_eq!(disk.named(names.parameter(&format!("{path}.weight"))), [expected], "{path}");
        assert_eq!(names.readings().is_empty(), path.starts_with("language"), "{path}");
    }
    let names = of_any_shape(&NameTables::new(&disk, &llava), &["lm_head"]).expect("one interpretation");
    assert_eq!(disk.named(names.parameter("lm_head.weight")), ["language_model.lm_head.weight"]);
    assert_eq!(names.head_on_disk("lm_head.weight", language), "language_model.lm_head.weight");
    assert_eq!(names.ties()[0].1, "model.language_model.embed_tokens.weight");
}

/// Vector 7.
#[test]
fn with_and_without_the_base_models_prefix() {
    let llama = config("LlamaForCausalLM");
    let disk = Weights::matrices(["model.layers.0.mlp.up_proj.weight", "lm_head.weight"]);
    let bare =
        of_any_shape(&NameTables::new(&disk, &llama), &["layers.0.mlp.up_proj"]).expect("one interpretation");
    assert_eq!(
        disk.named(bare.parameter("layers.0.mlp.up_proj.weight")),
        ["model.layers.0.mlp.up_proj.weight"]
    );

    let disk = Weights::matrices(["h.0.attn.c_attn.weight", "wte.weight"]);
    let gpt2 = config("GPT2LMHeadModel");
    let paths = ["transformer.h.0.attn.c_attn", "lm_head"];
    let names = of_any_shape(&NameTables::new(&disk, &gpt2), &paths).expect("one interpretation");
    assert_eq!(disk.named(names.parameter("transformer.h.0.attn.c_attn.weight")), ["h.0.attn.c_attn.weight"]);
    assert_eq!(names.parameter("lm_head.weight"), None);
}

#[test]
fn names_that_end_alike() {
    let disk =
        Weights::matrices(["net.inner.blocks.0.up.weight", "net.inner.blocks.1.up.weight", "net.out.weight"]);
    let paths = ["blocks.0.up", "blocks.1.up", "out"];
    let nothing = Config::default();
    let names = of_any_shape(&NameTables::new(&disk, &nothing), &paths).expect("one interpretation");
    assert_eq!(disk.named(names.parameter("blocks.1.up.weight")), ["net.inner.blocks.1.up.weight"]);
    assert_eq!(disk.named(names.parameter("out.weight")), ["net.out.weight"]);
    assert!(
        names.readings()[0].to_string().contains("`net.inner.` before `blocks`"),
        "{:?}",
        names.readings()
    );

    let twice = Weights::matrices(["a.blocks.0.up.weight", "b.blocks.0.up.weight"]);
    let names =
        of_any_shape(&NameTables::new(&twice, &nothing), &["blocks.0.up"]).expect("no interpretation");
    assert!(!has(&names, "blocks.0.up"));
}

#[test]
fn two_readings_that_disagree_are_an_error() {
    let disk = Weights::matrices(["model.up.weight", "model.model.up.weight"]);
    let llama = config("LlamaForCausalLM");
    let names = of_any_shape(&NameTables::new(&disk, &llama), &["model.up"]);
    let message = names.err().expect("refused").to_string();
    assert!(
        message.contains("`model.up.weight`") && message.contains("`model.model.up.weight`"),
        "{message}"
    );
}

#[test]
fn one_misspelt_path_moves_no_other() {
    let disk = Weights::matrices(["model.layers.0.up.weight", "model.model.layers.1.up.weight"]);
    let paths = ["model.layers.0.up", "model.layers.1.up"];
    let llama = config("LlamaForCausalLM");
    let names = of_any_shape(&NameTables::new(&disk, &llama), &paths).expect("one interpretation");
    assert!(has(&names, "model.layers.0.up") && !has(&names, "model.layers.1.up"));
}

#[test]
fn single_experts_of_joined_ones() {
    let at = "model.layers.0.mlp.experts";
    let names_of = |shape_up: [u64; 3], shape_down: [u64; 3], model_type: &str| {
        let names = [format!("{at}.gate_up_proj"), format!("{at}.down_proj")];
        let disk = Weights::of([(names[0].as_str(), &shape_up[..]), (names[1].as_str(), &shape_down[..])]);
        (disk, Config::from(json!({"model_type": model_type, "hidden_size": 8})))
    };
    let place = |(disk, config): &(Weights, Config), role: &str| {
        let path = format!("{at}.2.{role}");
        let names = of_any_shape(&NameTables::new(disk, config), &[&path]).expect("one interpretation");
        let found = names.parameter(&format!("{path}.weight")).expect("found");
        let slice = &found.slices[0];
        let (start, strides) = slice.slice.strides(&disk.0[slice.tensor].1);
        (found.shape, start, strides.iter().map(|stride| stride.stride).collect::<Vec<_>>())
    };
    let oi = names_of([3, 10, 8], [3, 8, 5], "qwen3_5_moe");
    assert_eq!(place(&oi, "up_proj"), (vec![5, 8], 2 * 80 + 5 * 8, vec![8, 1]));
    assert_eq!(place(&oi, "w2"), (vec![8, 5], 2 * 40, vec![5, 1]));
    let io = names_of([3, 8, 10], [3, 5, 8], "llama4");
    assert_eq!(place(&io, "up_proj"), (vec![5, 8], 2 * 80 + 5, vec![1, 10]));
    assert_eq!(place(&io, "down_proj"), (vec![8, 5], 2 * 40, vec![1, 8]));
    let alternating = names_of([3, 8, 10], [3, 5, 8], "gpt_oss");
    assert_eq!(place(&alternating, "up_proj"), (vec![5, 8], 2 * 80 + 1, vec![2, 10]));
    let names = of_any_shape(&NameTables::new(&oi.0, &oi.1), &[]).expect("one interpretation");
    assert_eq!(names.parameter(&format!("{at}.3.gate_proj.weight")), None, "there are three experts");
}

#[test]
fn dense_projections_joined_and_apart() {
    let config = Config::from(json!({
        "architectures": ["Phi3ForCausalLM"], "model_type": "phi3", "hidden_size": 8, "num_attention_heads": 4,
        "num_key_value_heads": 2, "intermediate_size": 5,
    }));
    let fused = Weights::of([("model.layers.0.self_attn.qkv_proj.weight", &[16, 8][..])]);
    let names = of_any_shape(&NameTables::new(&fused, &config), &["model.layers.0.self_attn.k_proj"])
        .expect("one interpretation");
    let k = names.parameter("model.layers.0.self_attn.k_proj.weight").expect("found");
    assert_eq!((k.shape, k.slices[0].slice.axes[0].disk), (vec![4, 8], 8));

    let split = ["q", "k", "v"].map(|part| format!("model.layers.0.self_attn.{part}_proj.weight"));
    let shapes = [&[8, 8][..], &[4, 8], &[4, 8]];
    let split = Weights::of(split.iter().map(String::as_str).zip(shapes));
    let names = of_any_shape(&NameTables::new(&split, &config), &["model.layers.0.self_attn.qkv_proj"])
        .expect("one interpretation");
    let qkv = names.parameter("model.layers.0.self_attn.qkv_proj.weight").expect("found");
    let starts: Vec<u64> = qkv.slices.iter().map(|placed| placed.slice.axes[0].at).collect();
    assert_eq!((qkv.shape, starts), (vec![16, 8], vec![0, 8, 12]));
}

#[test]
fn older_names_and_stacks_of_a_mixture() {
    let expert = |n: usize, role: &str| format!("model.layers.0.block_sparse_moe.experts.{n}.{role}.weight");
    let mut names: Vec<String> =
        (0..12).flat_map(|n| ["w1", "w2", "w3"].map(|role| expert(n, role))).collect();
    names.push("model.layers.0.block_sparse_moe.gate.weight".to_owned());
    let disk = Weights::matrices(names.iter().map(String::as_str));
    let mixtral = config("MixtralForCausalLM");
    let new = ["model.layers.0.mlp.experts", "model.layers.0.mlp.gate"];
    let read = of_any_shape(&NameTables::new(&disk, &mixtral), &new).expect("one interpretation");
    let fused = read.parameter("model.layers.0.mlp.experts.gate_up_proj").expect("found");
    assert_eq!((fused.shape, fused.slices.len()), (vec![12, 8, 6], 24));
    let old = ["model.layers.0.block_sparse_moe.experts.11.w3", "model.layers.0.block_sparse_moe.gate"];
    let read = of_any_shape(&NameTables::new(&disk, &mixtral), &old).expect("one interpretation");
    assert_eq!(disk.named(read.parameter(&expert(11, "w3"))), [expert(11, "w3")]);
    // The checkpoint saved as it runs in transformers 5, the adapter from before.
    let at = "model.layers.0.mlp.experts";
    let saved = [format!("{at}.gate_up_proj"), format!("{at}.down_proj")];
    let saved = Weights::of([(saved[0].as_str(), &[12, 8, 6][..]), (saved[1].as_str(), &[12, 6, 4])]);
    let config = Config::from(json!({"architectures": ["MixtralForCausalLM"], "hidden_size": 6}));
    let read = of_any_shape(&NameTables::new(&saved, &config), &old[..1]).expect("one interpretation");
    let up = read.parameter(&expert(11, "w3")).expect("found");
    assert_eq!((up.shape, up.slices[0].slice.axes[1].disk), (vec![4, 6], 4));
    // Stacked by hand: no rule says so, but the disk has them one by one.
    let unknown = Config::default();
    let read = of_any_shape(&NameTables::new(&disk, &unknown), &["model.layers.0.block_sparse_moe.experts"])
        .expect("one interpretation");
    let fused = read.parameter("model.layers.0.block_sparse_moe.experts.gate_up_proj").expect("found");
    assert_eq!(fused.shape, [12, 8, 6]);
}

/// A number in a file that nobody can count to.
const MANY: u64 = 1_000_000_000_000;

#[test]
fn experts_are_not_counted_to_a_number_of_the_config_or_of_a_name() {
    let expert = |n: u64, role: &str| format!("model.layers.0.mlp.experts.{n}.{role}.weight");
    let at = "model.layers.0.mlp.experts";
    for numbers in [&[0, 1, 2][..], &[0, 1, MANY], &[0, 1, u64::MAX]] {
        let names: Vec<String> = numbers
            .iter()
            .flat_map(|&n| ["gate_proj", "up_proj", "down_proj"].map(|role| expert(n, role)))
            .collect();
        let disk = Weights::matrices(names.iter().map(String::as_str));
        for key in ["num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"] {
            let config = Config::from(json!({ key: MANY, "text_config": {key: MANY} }));
            let read = of_any_shape(&NameTables::new(&disk, &config), &[at]).expect("one interpretation");
            let stack = read.parameter(&format!("{at}.gate_up_proj")).expect("found");
            let why = (numbers[2] != 2).then_some(ConversionProblem::NumberMissing { number: 2 });
            assert_eq!(stack.refused, why, "{numbers:?}");
        }
    }
    // One that is missing below the highest is still missing.
    let names: Vec<String> = [0, 2].iter().map(|&n| expert(n, "down_proj")).collect();
    let disk = Weights::matrices(names.iter().map(String::as_str));
    let config = Config::from(json!({"num_experts": MANY}));
    let read = of_any_shape(&NameTables::new(&disk, &config), &[at]).expect("one interpretation");
    let why = read.parameter(&format!("{at}.down_proj")).expect("found").refused;
    assert_eq!(why, Some(ConversionProblem::NumberMissing { number: 1 }));
}

#[test]
fn groups_of_rows_are_not_counted_before_the_tensor_has_them() {
    let at = "model.layers.0.linear_attn";
    let config = |groups: u64| {
        Config::from(json!({
            "model_type": "qwen3_next", "hidden_size": MANY, "num_hidden_layers": MANY, "vocab_size": MANY, "n_group": MANY,
            "linear_num_key_heads": groups, "linear_num_value_heads": groups, "linear_key_head_dim": 1,
            "linear_value_head_dim": 1,
        }))
    };
    let name = format!("{at}.in_proj_ba.weight");
    for (rows, why) in [(4, "config.json says 2000000000000"), (2 * MANY, "is empty")] {
        let width = u64::from(rows == 4);
        let disk = Weights::of([(name.as_str(), &[rows, width][..])]);
        let config = config(MANY);
        let path = format!("{at}.in_proj_b");
        let read = of_any_shape(&NameTables::new(&disk, &config), &[&path]).expect("one interpretation");
        let refused = read.parameter(&format!("{path}.weight")).expect("found").refused.expect("refused");
        assert!(refused.to_string().ends_with(why), "{refused}");
    }
}

/// Time and memory of 92,000 names; `cargo test --release --lib -- --ignored --nocapture names_speed`.
#[test]
#[ignore = "takes seconds without optimization: `make exhaustive`"]
fn names_speed() {
    for (class, block) in [("DeepseekV3ForCausalLM", "mlp"), ("MixtralForCausalLM", "block_sparse_moe")] {
        let roles = if block == "mlp" { ["gate_proj", "up_proj", "down_proj"] } else { ["w1", "w3", "w2"] };
        let mut names = Vec::new();
        for layer in 0..80 {
            for expert in 0..384 {
                let at = format!("model.layers.{layer}.{block}.experts.{expert}");
                names.extend(roles.iter().map(|role| format!("{at}.{role}.weight")));
            }
        }
        let disk = Weights::matrices(names.iter().map(String::as_str));
        let config = config(class);
        let single: Vec<&str> = names.iter().filter_map(|name| name.strip_suffix(".weight")).collect();
        let stacks: Vec<String> = (0..80).map(|layer| format!("model.layers.{layer}.mlp.experts")).collect();
        let stacks: Vec<&str> = stacks.iter().map(String::as_str).collect();
        for (kind, paths, parameters) in [("single", &single, &names), ("stacked", &stacks, &Vec::new())] {
            let start = std::time::Instant::now();
            let read = of_any_shape(&NameTables::new(&disk, &config), paths).expect("one interpretation");
            let decided = start.elapsed();
            let found = parameters.iter().filter_map(|name| read.parameter(name)).count();
            assert_eq!(found, parameters.len(), "{class}, {kind}");
            let fused = paths.iter().filter_map(|path| read.parameter(&format!("{path}.gate_up_proj")));
            let slices: usize = fused.map(|parameter| parameter.slices.len()).sum();
            assert_eq!(slices, if kind == "stacked" { 80 * 384 * 2 } else { 0 }, "{class}, {kind}");
            println!(
                "{class}, {kind}: {} names, {} paths read in {decided:?}; {found} parameters, {slices} slices at {:?}",
                names.len(),
                paths.len(),
                start.elapsed()
            );
        }
    }
}

/// The names of paths of which nothing but their names is known.
fn of_any_shape<'a>(name_tables: &NameTables<'a>, paths: &[&str]) -> crate::error::Result<Names<'a>> {
    Names::new(name_tables, paths, PathFacts { fits: &|_, _| true, may_be_new: &|_| false })
}
