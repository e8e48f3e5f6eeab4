//! Files of llama.cpp: tiny models that its own library named, stored and decoded, merged into with adapters of PEFT
//! (`fixtures/gguf/`). What an adapter changes is the exact sum rounded once to half precision, and all else is as it was.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;
use shardfold::testing::Dtype;
use shardfold::{Cancel, Location, Request, Style, Terminal, choose};

use super::refusals::refused;
use super::support::{contents, copy_folder, f32s, fixtures, ran, run, write_safetensors};
use super::work::{Work, edit_json, in_small_tiles};

const DENSE: &[&str] = &["llama", "qwen2", "gemma3", "phi3"];
/// Adapters of fused parameters, and of single experts.
const MIXTURES: &[&str] = &["qwen2moe", "qwen3moe", "mixtral"];

pub(super) fn of(name: &str) -> PathBuf {
    fixtures().join("gguf").join(name)
}

fn work(name: &str) -> Work {
    let work = Work::quick(Some("tiny"));
    fs::remove_dir_all(&work.base).expect("it was there");
    fs::create_dir(&work.base).expect("a folder");
    fs::copy(of(name).join("base.gguf"), work.base.join("base.gguf")).expect("a fixture");
    fs::remove_dir_all(&work.adapter).expect("it was there");
    copy_folder(&of(name).join("adapter"), &work.adapter);
    work
}

pub(super) fn request(work: &Work) -> Request {
    let adapters = vec![(work.adapter.clone().into(), 1f64.into())];
    Request { base: Some(work.base.join("base.gguf").into()), adapters, ..Request::default() }
}

pub(super) fn merge(request: &Request, output: &Path) {
    let prepared =
        shardfold::prepare(request).unwrap_or_else(|error| panic!("{:?}: {error:?}", request.base));
    let mut reporter = choose(Style::Quiet, Terminal::default(), &Cancel::default());
    let done = prepared.merge(&Location::of_path(output), reporter.as_mut());
    done.unwrap_or_else(|error| panic!("{:?}: {error:?}", request.base));
}

#[test]
fn a_merge_gives_the_exact_file_whole_and_in_the_smallest_tiles() {
    for name in DENSE.iter().chain(MIXTURES) {
        let work = work(name);
        let right = fs::read(of(name).join("merged.gguf")).expect("a fixture");
        let whole = request(&work);
        for (how, request) in [("whole", whole.clone()), ("in small tiles", in_small_tiles(&whole))] {
            merge(&request, &work.output);
            let found = fs::read(work.output.join("base.gguf")).expect("it was merged");
            let differs = found.iter().zip(&right).position(|(a, b)| a != b);
            assert!(found == right, "{name} {how}: {} and {} bytes, {differs:?}", found.len(), right.len());
            let files: Vec<String> = contents(&work.output).into_keys().collect();
            assert_eq!(files, ["README.md", "base.gguf", "shardfold.json"], "{name}");
            fs::remove_dir_all(&work.output).expect("it was there");
        }
    }
}

#[test]
fn an_adapter_of_llama_cpp_is_the_one_that_it_was_made_of() {
    for name in DENSE.iter().chain(&["qwen3moe"]) {
        let mut work = work(name);
        // A file anywhere, with the output beside it.
        work.adapter = work.base.join("lora.gguf");
        work.output = work.base.join("merged");
        fs::copy(of(name).join("lora.gguf"), &work.adapter).expect("a fixture");
        let right = fs::read(of(name).join("merged.gguf")).expect("a fixture");
        for request in [request(&work), in_small_tiles(&request(&work))] {
            merge(&request, &work.output);
            assert!(fs::read(work.output.join("base.gguf")).expect("merged") == right, "{name}");
            fs::remove_dir_all(&work.output).expect("it was there");
        }
    }
    let mut plain = work("llama");
    plain.base = of("llama-safetensors");
    assert_eq!(plain.merge(&[]).code, 0);
    let right = fs::read(plain.output.join("model.safetensors")).expect("merged");
    plain.adapter = of("llama").join("lora.gguf");
    plain.output = plain.folder.path().join("by-gguf");
    let ran = plain.merge(&[]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(fs::read(plain.output.join("model.safetensors")).expect("merged") == right);
    let scaled = run(&[
        "merge",
        "--base",
        &plain.base.to_string_lossy(),
        "--scaled-adapter",
        &plain.adapter.to_string_lossy(),
        "0.5",
        "--output",
        &plain.folder.path().join("half").to_string_lossy(),
    ]);
    assert_eq!(scaled.code, 0, "{}", scaled.err);
}

#[test]
fn adapters_of_llama_cpp_that_are_not_read_are_refused() {
    let mut work = work("llama");
    work.adapter = work.folder.path().join("lora.gguf");
    let bytes = fs::read(of("llama").join("lora.gguf")).expect("a fixture");
    let with = |from: &[u8], to: &[u8]| {
        let at = bytes.windows(from.len()).position(|window| window == from).expect("it is there");
        [&bytes[..at], to, &bytes[at + from.len()..]].concat()
    };
    for (what, file, says) in [
        (
            "another method",
            with(b"lora", b"dora"),
            &["sets `adapter.type` to `dora`, which is not read of GGUF files"][..],
        ),
        (
            "a model",
            fs::read(of("llama").join("base.gguf")).expect("a fixture"),
            &["lora.gguf` is a GGUF file of a model, not an adapter", "hint: a model is the base"],
        ),
        ("another architecture", with(b"llama", b"bloom"), &["llama.cpp's architecture `bloom`"]),
        (
            "no name of a tensor",
            with(b"blk.0.attn_q.weight.lora_a", b"blk.0.attn_z.weight.lora_a"),
            &["blk.0.attn_z.weight.lora_a"],
        ),
        ("half of it", bytes[..bytes.len() / 2].to_vec(), &["lora.gguf"]),
    ] {
        fs::write(&work.adapter, file).expect("written");
        let ran = work.merge(&[]);
        assert!([65, 66].contains(&ran.code), "{what}: {} {}", ran.code, ran.err);
        says.iter().for_each(|text| assert!(ran.err.contains(text), "{what}: no `{text}` in\n{}", ran.err));
        assert!(!work.output.exists() && ran.out.is_empty(), "{what}");
    }
    // Heads that the base does not have.
    fs::write(&work.adapter, &bytes).expect("written");
    let base = work.folder.path().join("other");
    copy_folder(&of("llama-safetensors"), &base);
    edit_json(&base.join("config.json"), |fields| {
        drop(fields.insert("num_attention_heads".to_owned(), json!(3)))
    });
    work.base = base;
    refused(
        "three heads",
        &work,
        &[],
        65,
        &["32 rows in `blk.0.attn_q.weight.lora_b`", "the base has 3 heads"],
    );
}

#[test]
fn what_is_quantized_again_from_its_original_is_what_the_library_makes_of_the_sum() {
    let work = work("base16");
    let mut original = of("base16").join("original.gguf");
    let flags = |original: &Path| ["--base16".to_owned(), original.to_string_lossy().into_owned()];
    let merged = |work: &Work, name: &str, flags: &[&str]| {
        let output = work.folder.path().join(name);
        let ran = ran(work.command_into(&output, flags).output().expect("the binary starts"));
        assert_eq!(ran.code, 0, "{}", ran.err);
        fs::read(output.join("base.gguf")).expect("merged")
    };
    let [flag, path] = flags(&original);
    let fresh = merged(&work, "fresh", &[&flag, &path, "--scales", "fresh"]);
    assert!(fresh == fs::read(of("base16").join("fresh.gguf")).expect("a fixture"));
    let tight =
        merged(&work, "tight", &[&flag, &path, "--scales", "fresh", "--max-ram", "40M", "--threads", "1"]);
    assert!(tight == fresh);
    // With the scales that are there, and from what the codes say.
    let keep = merged(&work, "keep", &[&flag, &path]);
    let codes = merged(&work, "codes", &["--keep-quantized", "--accept-loss"]);
    assert!(keep.len() == fresh.len() && keep != fresh && codes != keep);
    let request = Request { base16: Some(original.clone().into()), fresh_scales: true, ..request(&work) };
    merge(&in_small_tiles(&request), &work.output);
    assert!(fs::read(work.output.join("base.gguf")).expect("merged") == fresh);
    let checked = |flags: &[&str]| {
        let mut all =
            vec!["verify".to_owned(), work.output.to_string_lossy().into_owned(), "--base".to_owned()];
        all.extend([work.base.to_string_lossy().into_owned(), "--adapter".to_owned()]);
        all.push(work.adapter.to_string_lossy().into_owned());
        all.extend(flags.iter().map(|flag| (*flag).to_owned()));
        run(&all.iter().map(String::as_str).collect::<Vec<_>>())
    };
    assert_eq!(checked(&[&flag, &path, "--scales", "fresh"]).code, 0);
    assert_ne!(checked(&[&flag, &path]).code, 0, "other scales");
    fs::remove_dir_all(&work.output).expect("it was there");

    // Another model, rows in another order, and flags that go with nothing.
    original = of("qwen2").join("base.gguf");
    let [flag, path] = flags(&original);
    refused(
        "another model",
        &work,
        &[&flag, &path],
        65,
        &["an order or a form that is not made of those there"],
    );
    // As transformers has it, with rows in the order of both halves.
    let plain = of("converted").join("llama/base").to_string_lossy().into_owned();
    assert!(merged(&work, "converted", &[&flag, &plain, "--scales", "fresh"]) == fresh);
    refused("not there", &work, &[&flag, "/nowhere"], 66, &["/nowhere"]);
    let mut whole = super::gguf::work("llama");
    whole.base = of("llama-safetensors");
    refused(
        "a base that is not quantized",
        &whole,
        &[&flag, &plain],
        65,
        &["no weight of the base is quantized"],
    );
    refused("no codes", &work, &["--scales", "fresh"], 2, &["--keep-quantized"]);
}

#[test]
fn shards_are_known_by_their_numbers() {
    let work = work("llama");
    fs::remove_file(work.base.join("base.gguf")).expect("it was there");
    let shards: Vec<PathBuf> =
        fs::read_dir(of("shards")).expect("fixtures").map(|entry| entry.expect("a file").path()).collect();
    let name = |path: &PathBuf| path.file_name().expect("a name").to_string_lossy().into_owned();
    let of_base: Vec<&PathBuf> = shards.iter().filter(|path| name(path).starts_with("base")).collect();
    assert!(of_base.len() > 2, "{of_base:?}");
    for shard in &of_base {
        fs::copy(shard, work.base.join(name(shard))).expect("a fixture");
    }
    let ran = work.merge(&[]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    for shard in &of_base {
        let merged = of("shards").join(name(shard).replacen("base", "merged", 1));
        assert!(
            fs::read(work.output.join(name(shard))).expect("merged") == fs::read(merged).expect("a fixture"),
            "{shard:?}"
        );
    }
    fs::remove_dir_all(&work.output).expect("it was there");
    let second = of_base.iter().map(|path| name(path)).find(|name| name.contains("00002")).expect("a second");
    fs::remove_file(work.base.join(&second)).expect("it was there");
    refused("a shard is missing", &work, &[], 66, &[&second, "the names of the others count it"]);
}

#[test]
fn of_several_files_one_is_named() {
    let work = work("llama");
    let other = work.base.join("other-Q8_0.gguf");
    fs::copy(work.base.join("base.gguf"), &other).expect("a copy");
    fs::copy(work.base.join("base.gguf"), work.base.join("mmproj-f16.gguf")).expect("a copy");
    refused(
        "two models",
        &work,
        &[],
        65,
        &["`base.gguf`, `other-Q8_0.gguf`", "hint: name the file: `--base "],
    );
    let (adapter, output) = (work.adapter.to_string_lossy(), work.output.to_string_lossy());
    let ran = run(&["merge", "--base", &other.to_string_lossy(), "--adapter", &adapter, "--output", &output]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let files: Vec<String> = contents(&work.output).into_keys().collect();
    assert_eq!(files, ["README.md", "other-Q8_0.gguf", "shardfold.json"]);
    let verified = run(&["verify", &output, "--base", &other.to_string_lossy(), "--adapter", &adapter]);
    assert_eq!(verified.code, 0, "{}", verified.err);
    fs::remove_file(&other).expect("it was there");
    let gone = run(&["plan", "--base", &other.to_string_lossy(), "--adapter", &adapter]);
    assert_eq!(gone.code, 66, "{}", gone.err);
}

#[test]
fn a_change_of_one_expert_encodes_its_blocks_again_and_no_others() {
    let work = work("mixtral");
    let base = fs::read(work.base.join("base.gguf")).expect("a fixture");
    // Places of bytes that a change of one projection of one expert changes.
    let changed = |number: u64, projection: &str, [rows, cols]: [u64; 2]| {
        adapt(&work, &format!("model.layers.1.block_sparse_moe.experts.{number}.{projection}"), [rows, cols]);
        let ran = work.merge(&["--keep-quantized", "--accept-loss"]);
        assert_eq!(ran.code, 0, "{}", ran.err);
        let found = fs::read(work.output.join("base.gguf")).expect("merged");
        fs::remove_dir_all(&work.output).expect("it was there");
        assert_eq!(found.len(), base.len());
        let places: Vec<usize> = (0..base.len()).filter(|&at| base[at] != found[at]).collect();
        (places[0], places[places.len() - 1])
    };
    // Bytes of blocks of 32 values, as `MIXED` of the fixtures has them.
    for (projection, shape, block) in [("w1", [64, 32], 34), ("w3", [64, 32], 18), ("w2", [32, 64], 24)] {
        let expert = (shape[0] * shape[1] / 32) as usize * block;
        let spans: Vec<(usize, usize)> = (0..3).map(|number| changed(number, projection, shape)).collect();
        for pair in spans.windows(2) {
            assert!(pair[0].1 < pair[1].0, "{projection}: {spans:?}");
        }
        assert!(spans.iter().all(|(first, last)| last - first < expert), "{projection}: {spans:?}");
        assert!(spans[2].1 - spans[0].0 < 3 * expert, "{projection}: {spans:?}");
        assert!(spans[2].0 - spans[0].0 > expert, "{projection}: {spans:?}");
    }
}

#[test]
fn stacks_of_another_number_of_experts_are_refused() {
    let with = |name: &str, key: &str, found: u32| damaged(name, &count(key, 3), &count(key, found));
    let four = with("qwen3moe", "qwen3moe.expert_count", 4);
    refused(
        "four experts",
        &four,
        &[],
        65,
        &["`blk.0.ffn_gate_exps.weight` has shape [3, 32, 1], expected a stack of 4 matrices"],
    );
    let many = with("qwen3moe", "qwen3moe.expert_count", 513);
    refused("many", &many, &[], 65, &["has 513 experts, more than the 512 that llama.cpp reads"]);
    let none = with("qwen2moe", "qwen2moe.expert_count", 0);
    refused("none", &none, &[], 65, &["no `qwen2moe.expert_count` above zero"]);
    // A dense model to llama.cpp, so that stacks are of nothing.
    let dense = with("mixtral", "llama.expert_count", 0);
    refused("none of a llama", &dense, &[], 65, &["block_sparse_moe.experts.0.w1"]);
    let fourth = work("mixtral");
    adapt(&fourth, "model.layers.0.block_sparse_moe.experts.3.w1", [64, 32]);
    refused("an expert that is not there", &fourth, &[], 65, &["block_sparse_moe.experts.3.w1"]);
}

#[test]
fn a_weight_that_a_scale_beside_it_multiplies_is_not_changed() {
    let scaled = damaged("llama", b"output_norm.weight", b"blk.0.attn_q.scale");
    for flags in [&[][..], &["--keep-quantized", "--accept-loss"]] {
        refused(
            "a scale",
            &scaled,
            flags,
            65,
            &["`model.layers.0.self_attn.q_proj.weight` cannot be changed in a GGUF file: its `.scale`"],
        );
    }
    // It stays with its weight, and so does what only the inputs are multiplied by.
    let path = scaled.base.join("base.gguf");
    replace_all(&path, b"blk.0.attn_output.weight", b"blk.0.attn_q.input_scale");
    adapt(&scaled, "model.layers.0.mlp.up_proj", [64, 32]);
    let ran = scaled.merge(&[]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let merged = fs::read(scaled.output.join("base.gguf")).expect("merged");
    for name in [&b"blk.0.attn_q.scale"[..], b"blk.0.attn_q.input_scale"] {
        assert!(merged.windows(name.len()).any(|window| window == name));
    }
}

/// The case of that name, with all of `from` in the file replaced.
fn damaged(name: &str, from: &[u8], to: &[u8]) -> Work {
    let work = work(name);
    replace_all(&work.base.join("base.gguf"), from, to);
    work
}

pub(super) fn replace_all(path: &Path, from: &[u8], to: &[u8]) {
    let bytes = fs::read(path).expect("a file");
    let mut changed = Vec::new();
    let mut rest = &bytes[..];
    while let Some(at) = rest.windows(from.len()).position(|window| window == from) {
        changed.extend_from_slice(&rest[..at]);
        changed.extend_from_slice(to);
        rest = &rest[at + from.len()..];
    }
    changed.extend_from_slice(rest);
    fs::write(path, changed).expect("written");
}

#[test]
fn what_is_not_read_or_cannot_change_is_refused() {
    let other = damaged("llama", b"llama", b"bloom");
    refused(
        "another architecture",
        &other,
        &[],
        65,
        &["llama.cpp's architecture `bloom`", "hint: read are llama, "],
    );
    let none = damaged("llama", b"attention.head_count", b"attention.head_dount");
    refused("no heads", &none, &[], 65, &["no `llama.attention.head_count` above zero"]);
    let three = damaged(
        "llama",
        &count("llama.attention.head_count_kv", 1),
        &count("llama.attention.head_count_kv", 3),
    );
    refused(
        "heads of no pairs",
        &three,
        &[],
        65,
        &["`blk.0.attn_k.weight` has 4 rows, which 3 heads of pairs cannot share"],
    );

    let shifted = work("gemma3");
    let norm = "model.layers.0.input_layernorm";
    replace(&shifted, norm, &[32]);
    refused(
        "a norm",
        &shifted,
        &[],
        65,
        &["input_layernorm.weight` cannot be changed in a GGUF file: 1 is added"],
    );
    let grown = work("llama");
    replace(&grown, "model.embed_tokens", &[25, 32]);
    refused("a grown vocabulary", &grown, &[], 65, &["embed_tokens.weight"]);
}

#[test]
fn what_is_converted_to_llama_may_be_of_another_class() {
    let trained = |work: &Work| {
        let config = r#"{"architectures": ["MistralForCausalLM"], "model_type": "mistral"}"#;
        fs::write(work.adapter.join("config.json"), config).expect("a small file");
    };
    let llama = work("llama");
    trained(&llama);
    let ran = llama.merge(&[]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let qwen = work("qwen2");
    trained(&qwen);
    refused(
        "another class",
        &qwen,
        &[],
        65,
        &["trained on a `MistralForCausalLM`, and the base is a `Qwen2ForCausalLM`"],
    );
    // Architectures of llama.cpp's that are not the same, whichever of the two is the file.
    let mut other = work("llama");
    other.adapter = of("qwen2").join("lora.gguf");
    refused("a file for another architecture", &other, &[], 65, &["trained on a `qwen2`"]);
    let mut other = work("qwen2");
    other.adapter = of("llama").join("lora.gguf");
    refused("the other way round", &other, &[], 65, &["trained on a `llama`"]);
    other.base = other.adapter.clone();
    refused("an adapter as base", &other, &[], 65, &["a GGUF file of type `adapter`, and not of a model"]);
    // A file of llama.cpp's says less than a config, and enough for other architectures.
    let mut by_gguf = work("llama");
    by_gguf.adapter = of("qwen2").join("lora.gguf");
    by_gguf.base = of("llama-safetensors");
    refused("a file for another class", &by_gguf, &[], 65, &["trained on a `qwen2`", "--allow-other-base"]);
}

/// A pair of a header that is a whole number of four bytes.
pub(super) fn count(key: &str, value: u32) -> Vec<u8> {
    [key.as_bytes(), &4u32.to_le_bytes(), &value.to_le_bytes()].concat()
}

/// Lets the adapter change the weight of one module, of that shape.
fn adapt(work: &Work, module: &str, [rows, cols]: [u64; 2]) {
    let key = |factor: &str| format!("base_model.model.{module}.lora_{factor}.weight");
    let factors = |count: u64| f32s((0..count).map(|i| (i % 7) as f32 - 3.0));
    write_safetensors(
        &work.weights(),
        &[
            (&key("A"), Dtype::F32, &[4, cols], factors(4 * cols)),
            (&key("B"), Dtype::F32, &[rows, 4], factors(4 * rows)),
        ],
    );
    edit_json(&work.adapter.join("adapter_config.json"), |fields| {
        fields.insert("rank_pattern".to_owned(), json!({}));
        fields.insert("target_modules".to_owned(), json!([module]));
    });
}

/// Lets the adapter replace the weight of a module.
fn replace(work: &Work, module: &str, shape: &[u64]) {
    let key = format!("base_model.model.{module}.weight");
    let values = f32s((0..shape.iter().product()).map(|i: u64| i as f32 / 100.0));
    let (a, b) = (
        "base_model.model.model.layers.0.mlp.up_proj.lora_A.weight",
        "base_model.model.model.layers.0.mlp.up_proj.lora_B.weight",
    );
    let factors = f32s((0..256).map(|i| i as f32 / 100.0));
    write_safetensors(
        &work.weights(),
        &[
            (&key, Dtype::F32, shape, values),
            (a, Dtype::F32, &[4, 32], factors[..512].to_vec()),
            (b, Dtype::F32, &[64, 4], factors),
        ],
    );
    edit_json(&work.adapter.join("adapter_config.json"), |fields| {
        let leaf = module.rsplit('.').next().expect("a name");
        fields.insert("modules_to_save".to_owned(), json!([leaf]));
        fields.insert("target_modules".to_owned(), json!(["up_proj"]));
        fields.insert("layers_to_transform".to_owned(), json!([0]));
    });
}
