//! `shardfold inspect`: what it says of checkpoints, of adapters, and of folders that are neither.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use shardfold::testing::Dtype;

use super::support::{Ran, command, f32s, fixtures, folder, ran, run, write_safetensors};
use super::work::{MODULE, Work, edit, edit_header};

fn inspect(path: &Path, flags: &[&str]) -> Ran {
    ran(command(&["inspect"]).arg(path).args(flags).output().expect("the binary starts"))
}

/// The text of a folder that can be inspected.
fn text(path: &Path) -> String {
    let ran = inspect(path, &[]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    ran.out
}

/// Its JSON.
fn document(path: &Path) -> Value {
    let ran = inspect(path, &["--json"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    serde_json::from_str(&ran.out).expect("one JSON document")
}

/// What lines of JSON on stderr say, as a person would read it. Every line must be one object.
fn as_text(lines: &str) -> String {
    let mut text = String::new();
    for line in lines.lines() {
        let event: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}"));
        assert_eq!(event["event"], "error", "{line}");
        text.push_str(&format!("error: {}\n", event["message"].as_str().expect("a message")));
        let causes = event["causes"].as_array().into_iter().flatten().filter_map(Value::as_str);
        causes.for_each(|cause| text.push_str(&format!("  because {cause}\n")));
        if let Some(hint) = event["hint"].as_str() {
            text.push_str(&format!("hint: {hint}\n"));
        }
    }
    text
}

/// That a folder cannot be inspected, with this code and these texts.
fn refused(path: &Path, code: i32, says: &[&str]) {
    for flags in [&[][..], &["--json"]] {
        let ran = inspect(path, flags);
        assert_eq!((ran.code, ran.out.as_str()), (code, ""), "{}", ran.err);
        let text = if flags.is_empty() { ran.err } else { as_text(&ran.err) };
        for part in says {
            assert!(text.contains(part), "no `{part}` in\n{text}");
        }
    }
}

fn says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "no `{part}` in\n{text}");
    }
}

/// Writes an adapter of f32 tensors, given by key and shape, whose values are all `value`.
fn adapter(config: Value, tensors: &[(&str, &[u64], f32)]) -> tempfile::TempDir {
    let folder = folder();
    let tensors: Vec<_> = tensors
        .iter()
        .map(|&(key, shape, value)| {
            let count = shape.iter().product::<u64>() as usize;
            (key, Dtype::F32, shape, f32s(std::iter::repeat_n(value, count)))
        })
        .collect();
    write_safetensors(&folder.path().join("adapter_model.safetensors"), &tensors);
    fs::write(folder.path().join("adapter_config.json"), config.to_string()).expect("a small file");
    folder
}

#[test]
fn the_demo_base() {
    let base = fixtures().join("demo/base");
    let shown = text(&base);
    says(
        &shown,
        &[
            "checkpoint base\n",
            "model      llama (LlamaForCausalLM)\n",
            "tensors    39, 156,224 parameters, 305 KiB, all BF16\n",
            "shards     3 and an index\n",
            "           model-00002-of-00003.safetensors  18 tensors, 122 KiB\n",
            "embeddings not tied; head `lm_head.weight`\n",
            "quantized  no\n",
            "  model.layers.{0..3}.self_attn.q_proj.weight          4 × BF16 [64, 64]\n",
        ],
    );
    assert_eq!(shown.matches(" × ").count(), 12, "one line for each kind of tensor:\n{shown}");
    let found = document(&base);
    assert_eq!(found["what"], "checkpoint");
    assert_eq!(found["totals"], json!({"tensors": 39, "parameters": 156_224, "bytes": 312_448}));
    assert_eq!(found["shards"].as_array().expect("a list").len(), 3);
    assert_eq!(found["index"]["tensors"], 39);
    assert_eq!(found["quantization"], Value::Null);
    assert_eq!(found["embeddings"], json!({"tied": false, "head": "lm_head.weight"}));
    let tensors = found["tensors"].as_array().expect("a list");
    assert_eq!(tensors.len(), 39);
    let norm = tensors.iter().find(|tensor| tensor["name"] == "model.norm.weight").expect("it is there");
    let shard = "model-00003-of-00003.safetensors";
    assert_eq!(norm, &json!({"name": "model.norm.weight", "dtype": "BF16", "shape": [64], "shard": shard}));
}

#[test]
fn the_demo_adapter() {
    let adapter = fixtures().join("demo/adapter");
    says(
        &text(&adapter),
        &[
            "type       LORA, PEFT 0.21.2\n",
            "trained on shardfold/demo\n",
            "scale      alpha/√rank (rsLoRA), r 8, alpha 8\n",
            "tensors    56, 29,696 parameters, 116 KiB, all F32\n",
            "modules    28 lora; norms",
            "  model.layers.{0..3}.self_attn.q_proj  4 × lora  rank 8  scale 2.828  1,024 parameters  norm 4.9",
        ],
    );
    let found = document(&adapter);
    assert_eq!(found["modules"].as_array().expect("a list").len(), 28);
    assert_eq!((&found["settings"], &found["rslora"]), (&json!({}), &json!(true)));
}

/// Scales of an adapter's modules, by path: of those that a document lists.
fn scales(document: &Value, list: &str) -> BTreeMap<String, f64> {
    let lines = document[list].as_array().expect("a list").iter();
    let scale = |line: &Value| Some((line["module"].as_str()?.to_owned(), line["scale"].as_f64()?));
    lines.filter_map(scale).collect()
}

#[test]
fn inspect_and_plan_give_every_module_one_scale() {
    for case in [
        "attention-f32",
        "rank-pattern",
        "alpha-pattern",
        "both-patterns-rslora",
        "embedding-f32",
        "dora-patterns",
    ] {
        let work = Work::golden(case);
        let planned = run(&["plan", "--json", "--base", path(&work.base), "--adapter", path(&work.adapter)]);
        assert_eq!(planned.code, 0, "{case}: {}", planned.err);
        let planned: Value = serde_json::from_str(&planned.out).expect("one JSON document");
        let planned = scales(&planned["plan"], "claims");
        let inspected = scales(&document(&work.adapter), "modules");
        assert_eq!(inspected.len(), planned.len(), "{case}");
        for (module, scale) in &inspected {
            let planned = planned.get(module).map(|&scale| scale as f32);
            assert_eq!(Some(*scale as f32), planned, "{case}: {module}");
        }
    }
    let attention = scales(&document(&fixtures().join("golden/attention-f32/adapter")), "modules");
    assert_eq!((attention["mha"], attention["mha.base_layer.out_proj"]), (2.0, 4.0));
}

fn path(path: &Path) -> &str {
    path.to_str().expect("a path of a test")
}

#[test]
fn ranks_and_scales_follow_the_patterns() {
    let adapter = fixtures().join("golden/rank-pattern/adapter");
    let found = document(&adapter);
    assert_eq!(found["settings"]["rank_pattern"]["k_proj"], 2);
    let module = |name: &str| {
        let modules = found["modules"].as_array().expect("a list");
        let name = format!("model.layers.{name}");
        let module = modules.iter().find(|module| module["module"] == name).expect("it is there");
        (module["rank"].as_u64(), module["scale"].as_f64(), module["norm"].as_f64().expect("a norm"))
    };
    for (name, rank, norm) in [
        // The norms are those of a plain product in Python's floats.
        ("0.self_attn.k_proj", 2, 2.630933338399728),
        ("0.self_attn.q_proj", 5, 1.5598234396825472),
    ] {
        let (found_rank, scale, found_norm) = module(name);
        assert_eq!((found_rank, scale), (Some(rank), Some(7.0 / rank as f64)), "{name}");
        assert!((found_norm - norm).abs() < 1e-9, "{name}: {found_norm}");
    }
    says(&text(&adapter), &["  model.layers.0.self_attn.q_proj       1 × lora  rank 5  scale 1.4 "]);
    let both = document(&fixtures().join("golden/both-patterns-rslora/adapter"));
    let q = &both["modules"][0];
    assert_eq!((&q["module"], &q["rank"]), (&json!("model.layers.0.self_attn.q_proj"), &json!(7)));
    assert_eq!(q["scale"], json!(3.0 / 7f64.sqrt()));
}

#[test]
fn dead_modules_are_named() {
    let work = Work::tiny(Dtype::F32, 0.0);
    says(&text(&work.adapter), &["norm 0\n", "dead       1 module has no effect\n", "its B is all zero"]);
    let found = document(&work.adapter);
    let module = &found["modules"][0];
    assert_eq!(
        (&module["module"], &module["norm"], &module["dead"]),
        (&json!(MODULE), &json!(0.0), &json!("its B is all zero"))
    );
    work.adapt(1, 4, 4, 0.0, 1.0);
    assert_eq!(document(&work.adapter)["modules"][0]["dead"], "its A is all zero");
    work.adapt(1, 4, 4, 1.0, 1.0);
    assert_eq!(document(&work.adapter)["modules"][0]["dead"], Value::Null);
    work.configure("lora_alpha", json!(0));
    assert_eq!(document(&work.adapter)["modules"][0]["dead"], "its scale is 0");
}

#[test]
fn values_that_are_not_finite_are_named() {
    let work = Work::tiny(Dtype::F32, 0.5);
    edit(&work.weights(), |tensors| tensors[0].data[..4].copy_from_slice(&f32::NAN.to_le_bytes()));
    let found = document(&work.adapter);
    assert_eq!(found["modules"][0]["norm"], Value::Null);
    assert_eq!(found["non_finite"].as_array().expect("a list").len(), 1);
    says(&text(&work.adapter), &["norm -\n", "not finite 1 tensor has a value", "q_proj.lora_A.weight"]);
}

#[test]
fn kinds_are_told_by_their_tensors() {
    let config =
        json!({"peft_type": "LORA", "r": 2, "lora_alpha": 4, "use_dora": true, "init_lora_weights": "pissa"});
    let folder = adapter(
        config,
        &[
            ("base_model.model.a.lora_A.weight", &[2, 3], 1.0),
            ("base_model.model.a.lora_B.weight", &[4, 2], 1.0),
            ("base_model.model.a.lora_magnitude_vector", &[4], 1.0),
            ("base_model.model.conv.lora_A.weight", &[2, 3, 3], 1.0),
            ("base_model.model.conv.lora_B.weight", &[4, 2, 1], 1.0),
            ("base_model.model.embed.lora_embedding_A", &[2, 10], 1.0),
            ("base_model.model.embed.lora_embedding_B", &[3, 2], 1.0),
            ("base_model.model.half.lora_A.weight", &[2, 3], 1.0),
            ("base_model.model.wrong.lora_A.weight", &[3, 3], 1.0),
            ("base_model.model.wrong.lora_B.weight", &[4, 2], 1.0),
            ("base_model.model.head.weight", &[5, 4], 1.0),
        ],
    );
    let found = document(folder.path());
    let modules = found["modules"].as_array().expect("a list");
    let modules: Vec<_> = modules
        .iter()
        .map(|m| {
            (m["module"].as_str(), m["kind"].as_str(), m["norm"].as_f64(), m["depends_on_base"].as_bool())
        })
        .map(|(module, kind, norm, depends)| (module.unwrap_or(""), kind.unwrap_or(""), norm, depends))
        .collect();
    // All elements of a product are 2, and the scale is 2.
    let norm = |elements: f64| Some(4.0 * elements.sqrt());
    let expected = [
        ("a", "dora", norm(12.0), Some(true)),
        ("conv", "lora", norm(36.0), Some(false)),
        ("embed", "lora_embedding", norm(30.0), Some(false)),
        ("half", "lora", None, Some(false)),
        ("wrong", "lora", None, Some(false)),
    ];
    assert_eq!(modules.len(), expected.len());
    for (found, expected) in modules.iter().zip(&expected) {
        assert_eq!((found.0, found.1, found.3), (expected.0, expected.1, expected.3));
        assert_eq!(found.2.is_some(), expected.2.is_some(), "{found:?}");
        assert!((found.2.unwrap_or(0.0) - expected.2.unwrap_or(0.0)).abs() < 1e-9, "{found:?}");
    }
    assert_eq!(found["replacements"][0]["key"], "base_model.model.head.weight");
    assert_eq!(found["settings"], json!({"init_lora_weights": "pissa"}));
    says(
        &text(folder.path()),
        &[
            "`half`: its B is missing",
            "`wrong`: its A has rank 3, the config says 2; its A [3, 3] and B [4, 2] do not fit",
            "what DoRA adds depends on the base, too",
            "replaces   1 tensor of the base",
            "settings   init_lora_weights pissa",
        ],
    );
}

#[test]
fn factors_of_many_experts_have_no_norm() {
    let config =
        json!({"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_parameters": ["experts.down_proj"]});
    let of = |b| {
        let tensors: &[(&str, &[u64], f32)] =
            &[("h.experts.lora_A.weight", &[6, 4], 1.0), ("h.experts.lora_B.weight", &[5, 6], b)];
        document(adapter(config.clone(), tensors).path())["modules"][0].clone()
    };
    let module = of(1.0);
    assert_eq!((&module["kind"], &module["rank"]), (&json!("lora_experts"), &json!(2)));
    assert_eq!(
        (&module["scale"], &module["norm"], &module["faults"]),
        (&json!(2.0), &Value::Null, &json!([]))
    );
    assert_eq!(of(0.0)["dead"], "its B is all zero");
    // Two parameters of one module whose ranks and alphas differ: the file does not say which pair is whose.
    let differ = document(&fixtures().join("golden/experts-patterns/adapter"));
    for module in differ["modules"].as_array().expect("a list") {
        assert_eq!(
            (&module["rank"], &module["scale"], &module["norm"]),
            (&Value::Null, &Value::Null, &Value::Null)
        );
        assert!(
            module["faults"][0].as_str().is_some_and(|note| note.contains("does not say which")),
            "{module}"
        );
    }
}

#[test]
fn methods_without_a_norm_show_none() {
    let folder = adapter(
        json!({"peft_type": "IA3", "feedforward_modules": ["down"]}),
        &[("base_model.model.h.0.k.ia3_l", &[4, 1], 0.5), ("base_model.model.h.1.k.ia3_l", &[4, 1], 0.5)],
    );
    let shown = text(folder.path());
    says(&shown, &["modules    2 ia3\n", "  h.{0, 1}.k  2 × ia3", "4 parameters  norm -\n"]);
    assert!(!shown.contains("dead") && !shown.contains("scale"), "{shown}");
}

#[test]
fn an_unknown_type_is_listed_and_said_not_to_be_merged() {
    let folder = adapter(
        json!({"peft_type": "NOVEL", "strength": 3, "novel_dropout": 0.5}),
        &[("base_model.model.h.0.novel", &[4], 0.5), ("base_model.model.h.1.novel", &[4], 0.5)],
    );
    let ran = inspect(folder.path(), &[]);
    assert_eq!(
        (ran.code, ran.err.as_str()),
        (0, "note: `peft_type` `NOVEL` is not supported: its tensors are only listed\n")
    );
    says(
        &ran.out,
        &[
            "modules    none\n",
            "  base_model.model.h.{0, 1}.novel  2 × F32 [4]\n",
            "settings   strength 3\ntensors",
        ],
    );
    assert_eq!(document(folder.path())["unknown"].as_array().expect("a list").len(), 2);
}

#[test]
fn a_quantized_checkpoint() {
    let folder = folder();
    let codes = (Dtype::F8_E4M3, &[4_u64, 4][..], vec![0x38; 16]);
    write_safetensors(
        &folder.path().join("model.safetensors"),
        &[
            ("h.0.q.weight", codes.0, codes.1, codes.2.clone()),
            ("h.0.q.weight_scale_inv", Dtype::F32, &[1, 1], f32s([1.0])),
            ("h.1.q.weight", codes.0, codes.1, codes.2),
            ("h.1.q.weight_scale_inv", Dtype::F32, &[1, 1], f32s([1.0])),
            ("norm.weight", Dtype::F32, &[4], f32s([1.0; 4])),
        ],
    );
    let config = json!({"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128],
        "modules_to_not_convert": ["h.0.gate", "h.1.gate"]}});
    fs::write(folder.path().join("config.json"), config.to_string()).expect("a small file");
    says(
        &text(folder.path()),
        &[
            "quantized  fp8, block [128,128]\n",
            "           2 quantized tensors, 2 auxiliary\n",
            "           not quantized: h.{0, 1}.gate\n",
            "dtypes     F8_E4M3: 2, 32 parameters, 32 B\n           F32: 3, 6 parameters, 24 B\n",
            "shards     1 and no index\n",
        ],
    );
    assert_eq!(document(folder.path())["quantization"]["block"], json!([128, 128]));
    // A quantizer's own file says it where the config does not.
    fs::write(folder.path().join("config.json"), "{}").expect("a small file");
    let said = json!({"quantization": {"quant_algo": "FP8", "exclude_modules": ["lm_head"]}});
    fs::write(folder.path().join("hf_quant_config.json"), said.to_string()).expect("a small file");
    says(&text(folder.path()), &["quantized  yes, by an unnamed method, FP8\n", "not quantized: lm_head\n"]);
}

#[test]
fn an_adapter_in_a_sub_folder_is_found() {
    let work = Work::tiny(Dtype::F32, 0.5);
    let above = folder();
    fs::rename(&work.adapter, above.path().join("named")).expect("a folder to move");
    let ran = inspect(above.path(), &[]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(ran.err.contains("note: the adapter is in `") && ran.err.contains("named`"), "{}", ran.err);
    says(&ran.out, &["type       LORA\n"]);
}

#[test]
fn what_is_neither_is_missing() {
    refused(
        &fixtures().join("no-such-folder"),
        66,
        &["error: no directory at", "hint: ", "has no `no-such-folder`"],
    );
    let file = fixtures().join("README.md");
    refused(&file, 65, &["is a single file", "hint: ", "a checkpoint is a directory with"]);
    let empty = folder();
    fs::write(empty.path().join("notes.txt"), "nothing").expect("a small file");
    refused(
        empty.path(),
        66,
        &["error: no checkpoint or adapter at", "hint: a checkpoint is a directory with"],
    );
    fs::write(empty.path().join("consolidated.00.bin"), "any").expect("a small file");
    refused(
        empty.path(),
        66,
        &["error: no safetensors checkpoint at", "hint: `consolidated.00.bin` is not read yet"],
    );
}

#[test]
fn what_is_damaged_is_refused() {
    let work = Work::demo();
    edit_header(&work.shard(2), |header| header.replacen("BF16", "BF17", 1));
    refused(&work.base, 65, &["model-00002-of-00003.safetensors"]);
    work.configure("rank_pattern", json!({"(": 3}));
    refused(&work.adapter, 65, &["rank_pattern"]);
    fs::write(work.adapter.join("adapter_config.json"), "{").expect("a small file");
    refused(&work.adapter, 65, &["adapter_config.json` is not usable JSON"]);
    fs::write(work.adapter.join("adapter_config.json"), "{}").expect("a small file");
    refused(&work.adapter, 65, &["is an unknown PEFT type"]);
}
