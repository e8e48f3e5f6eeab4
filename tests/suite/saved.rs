//! Results as `save_pretrained` writes them: in another type (`--dtype`) and in shards of another size (`--max-shard-size`), held
//! against what transformers itself saved of the merged model (`fixtures/saved`, written by `make_saved.py`), byte for byte.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use shardfold::testing::{Dtype, Failure, Faulty, Operation, TestHooks};
use shardfold::{Cancel, Code, Folder, Location, Request, Size, Style, Terminal, choose, prepare};

use super::oracle::read;
use super::refusals::refused;
use super::support::{contents, copy_folder, f32s, fixtures, run, write_safetensors};
use super::work::{MODULE, Work, in_small_tiles};

pub(super) const CASES: &[&str] = &["llama", "llama-tied"];
pub(super) const DTYPES: &[&str] = &["f32", "bf16", "f16"];

pub(super) fn saved(case: &str) -> PathBuf {
    fixtures().join("saved").join(case)
}

/// A case, merged into the base that lies so.
pub(super) fn work(case: &str, base: &str) -> Work {
    let work = Work::quick(Some("tiny"));
    for (from, to) in [(base, &work.base), ("adapter", &work.adapter)] {
        fs::remove_dir_all(to).expect("it was there");
        copy_folder(&saved(case).join(from), to);
    }
    work
}

fn request(work: &Work, dtype: &str) -> Request {
    Request {
        base: Some(work.base.clone().into()),
        adapters: vec![(work.adapter.clone().into(), 1f64.into())],
        dtype: Some(dtype.to_owned()),
        ..Request::default()
    }
}

fn merge(request: &Request, output: &Location) -> shardfold::Result<shardfold::Summary> {
    let mut quiet = choose(Style::Quiet, Terminal::default(), &Cancel::default());
    prepare(request)?.merge(output, quiet.as_mut())
}

fn verify(work: &Work, flags: &[&str]) -> i32 {
    let [base, adapter, output] =
        [&work.base, &work.adapter, &work.output].map(|path| path.to_string_lossy());
    run(&[&["verify", &output, "--base", &base, "--adapter", &adapter][..], flags].concat()).code
}

/// Makes three parts and joins them.
fn joined(work: &Work, flags: &[&str]) -> PathBuf {
    let parts = work.folder.path().join("parts");
    for part in ["0/3", "1/3", "2/3"] {
        let made = work.command_into(&parts, flags).args(["--part", part]).output().expect("it starts");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    }
    let ran = run(&["finish", &parts.to_string_lossy()]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    parts
}

/// Ends a run at every third sync, and goes on with other tiles.
fn cut_off_and_resumed(work: &Work, request: &Request, is_right: &dyn Fn(&Path)) {
    let output = work.folder.path().join("cut");
    for nth in (3..).step_by(3) {
        let store =
            Faulty::new(Folder::new(work.folder.path())).failing(Operation::Sync, nth, Failure::Errno(5));
        let hooks = TestHooks { stride: Some(1), forced: Some((16_384, 2)), ..TestHooks::default() };
        let cut = Request { hooks, threads: Some(2), ..request.clone() };
        let is_cut = merge(&cut, &Location::new(store).join("cut"));
        if let Err(error) = &is_cut {
            assert_eq!(error.exit_code(), Code::Io, "{error:?}");
            merge(&in_small_tiles(request), &Location::of_path(&output)).expect("it goes on");
        }
        is_right(&output);
        fs::remove_dir_all(&output).expect("it was there");
        if is_cut.is_ok() {
            assert!(nth > 9, "only {nth} syncs");
            return;
        }
    }
}

#[test]
fn a_type_is_what_transformers_casts_the_sum_to() {
    for (case, dtype) in CASES.iter().flat_map(|case| DTYPES.iter().map(move |dtype| (*case, *dtype))) {
        let work = work(case, "base");
        let right = |name: &str| fs::read(saved(case).join(name)).expect("a fixture");
        let weights = right(&format!("{dtype}.safetensors"));
        let config = right(&format!("config-{dtype}.json"));
        let is_right = |output: &Path| {
            let found = contents(output);
            assert!(found["model.safetensors"] == weights, "{case} {dtype}");
            assert!(found["config.json"] == config, "{case} {dtype}");
            assert!(!found.contains_key("model.safetensors.index.json"));
        };
        let whole = request(&work, dtype);
        merge(&in_small_tiles(&whole), &Location::of_path(&work.output)).expect("merged");
        is_right(&work.output);
        fs::remove_dir_all(&work.output).expect("it was there");
        let flags = ["--dtype", dtype];
        let ran = work.succeeds(&flags);
        let said = format!("all floating tensors are written in {} (--dtype)", dtype.to_uppercase());
        assert!(ran.err.contains(&said), "{}", ran.err);
        is_right(&work.output);
        assert_eq!(verify(&work, &flags), 0, "{case} {dtype}");
        assert_ne!(verify(&work, &[]), 0, "it is another result: {case} {dtype}");
        is_right(&joined(&work, &flags));
        cut_off_and_resumed(&work, &whole, &is_right);
    }
}

#[test]
fn shards_keep_their_tensors_and_the_index_its_names() {
    let work = work("llama", "apart");
    work.succeeds(&["--dtype", "bf16"]);
    let (found, base) = (contents(&work.output), contents(&work.base));
    let shards = |files: &BTreeMap<String, Vec<u8>>| {
        let names = files.keys().filter(|name| name.ends_with(".safetensors"));
        names.cloned().collect::<Vec<_>>()
    };
    assert_eq!(shards(&found), shards(&base));
    let right = work.folder.path().join("right");
    fs::create_dir(&right).expect("a folder");
    fs::copy(saved("llama").join("bf16.safetensors"), right.join("model.safetensors")).expect("a fixture");
    let (found, right) = (read(&work.output, "model"), read(&right, "model"));
    assert!(found.keys().eq(right.keys()));
    let raws = found.values().zip(right.values());
    assert!(raws.into_iter().all(|(found, right)| found.raw == right.raw));
    let index = fs::read_to_string(work.output.join("model.safetensors.index.json")).expect("an index");
    let index: Value = serde_json::from_str(&index).expect("JSON");
    let total: usize = right.values().map(|tensor| tensor.raw.len()).sum();
    assert_eq!(index["metadata"], json!({"total_parameters": 5200, "total_size": total}));
}

/// A base of one tensor that is merged, and these beside it.
fn with_others(others: &[(&str, Dtype, &[u64], Vec<u8>)]) -> Work {
    let work = Work::quick(Some("tiny"));
    let name = format!("{MODULE}.weight");
    let merged = (name.as_str(), Dtype::F32, &[4, 4][..], f32s([1.0; 16]));
    write_safetensors(&work.base.join("model.safetensors"), &[&[merged], others].concat());
    work
}

#[test]
fn what_is_too_large_for_the_type_is_an_error_that_names_the_tensor() {
    let large = |value: f32| with_others(&[("model.norm.weight", Dtype::F32, &[3], f32s([1.0, value, 2.0]))]);
    let says = ["`model.norm.weight` gives a value that is not finite where the base was finite"];
    refused("1e6 in F16", &large(1e6), &["--dtype", "f16"], 65, &says);
    refused("a value that rounds up", &large(65_520.0), &["--dtype", "f16"], 65, &says);
    refused("the largest of F32 in BF16", &large(f32::MAX), &["--dtype", "bf16"], 65, &says);
    large(65_519.0).succeeds(&["--dtype", "f16"]);
    large(1e6).succeeds(&["--dtype", "bf16"]);
    // What is infinite in the base stays so.
    let work = large(f32::NEG_INFINITY);
    work.succeeds(&["--dtype", "f16"]);
    assert_eq!(read(&work.output, "model")["model.norm.weight"].raw, [0, 0x3c, 0, 0xfc, 0, 0x40]);
    let merged = Work::quick(Some("tiny"));
    merged.adapt(1, 4, 4, 1.0, 1e6);
    let says = [format!("`{MODULE}.weight` gives a value that is not finite")];
    refused("a sum", &merged, &["--dtype", "f16"], 65, &[&says[0]]);
}

#[test]
fn what_is_no_float_of_16_or_32_bits_stays_as_it_is() {
    let bytes = |count: u8| (0..count).map(|i| 0xf1 ^ i).collect::<Vec<u8>>();
    // NaNs with payloads, which no cast would keep.
    let nans = vec![0x01, 0x7e, 0x35, 0xfd];
    let others: Vec<(&str, Dtype, &[u64], Vec<u8>)> = vec![
        ("model.a", Dtype::F64, &[2], bytes(16)),
        ("model.b", Dtype::I64, &[2], bytes(16)),
        ("model.c", Dtype::U8, &[3], bytes(3)),
        ("model.d", Dtype::BOOL, &[2], vec![0, 1]),
        ("model.e", Dtype::F16, &[2], nans),
    ];
    let work = with_others(&others);
    work.succeeds(&["--dtype", "f16"]);
    let found = read(&work.output, "model");
    for (name, _, _, bytes) in &others {
        assert_eq!(found[*name].raw, *bytes, "{name}");
    }
    assert_eq!(found[&format!("{MODULE}.weight")].raw, [0x00, 0x40].repeat(16));
}

#[test]
fn a_quantized_base_is_decoded_to_the_type() {
    for (dtype, name) in [("f32", "float32"), ("f16", "float16")] {
        let work = Work::quick(Some("fp8"));
        work.succeeds(&[]);
        let before = read(&work.output, "model");
        fs::remove_dir_all(&work.output).expect("it was there");
        let ran = work.succeeds(&["--dtype", dtype]);
        let said = format!("the quantized base is decoded to {}", dtype.to_uppercase());
        assert!(ran.err.contains(&said), "{}", ran.err);
        let after = read(&work.output, "model");
        assert!(before.keys().eq(after.keys()));
        for (name, (before, after)) in before.keys().zip(before.values().zip(after.values())) {
            assert_eq!(format!("{:?}", after.dtype), dtype.to_uppercase(), "{name}");
            let far = |(a, b): (f64, f64)| (a - b).abs() > 0.004 * a.abs().max(1e-3);
            assert!(!before.values().iter().zip(after.values()).any(|(a, b)| far((*a, b))), "{name}");
        }
        let config = fs::read_to_string(work.output.join("config.json")).expect("a config");
        assert!(config.contains(&format!("\"{name}\"")) && !config.contains("quantization"), "{config}");
        assert_eq!(verify(&work, &["--dtype", dtype]), 0);
    }
}

#[test]
fn only_the_types_that_configs_name_change_where_they_stand() {
    let work = Work::quick(Some("tiny"));
    let text = |top: &str, inner: &str| {
        format!(
            r#"{{ "model_type" : "llama", "torch_dtype":"{top}", "dtype_note": "float32","architectures":["LlamaForCausalLM"],
  "vision_config": {{"dtype":   "{inner}", "x": {{"torch_dtype": "{inner}"}}, "eps": 1E-06}}, "audio": {{"dtype": "int8"}} }}"#
        )
    };
    fs::write(work.base.join("config.json"), text("float32", "float16")).expect("written");
    work.succeeds(&["--dtype", "bf16"]);
    let config = fs::read_to_string(work.output.join("config.json")).expect("a config");
    assert_eq!(config, text("bfloat16", "bfloat16"));
    // One that names none gets none.
    let work = Work::quick(Some("tiny"));
    work.succeeds(&["--dtype", "bf16"]);
    let [before, after] =
        [&work.base, &work.output].map(|folder| fs::read(folder.join("config.json")).expect("a config"));
    assert!(before == after);
}

#[test]
fn plans_tell_of_it_and_have_another_digest() {
    let work = work("llama", "base");
    let plan = |flags: &[&str]| -> Value {
        let [base, adapter] = [&work.base, &work.adapter].map(|path| path.to_string_lossy());
        let ran = run(&[&["plan", "--base", &base, "--adapter", &adapter, "--json"][..], flags].concat());
        assert_eq!(ran.code, 0, "{}", ran.err);
        let said: Value = serde_json::from_str(&ran.out).expect("JSON");
        said["plan"].clone()
    };
    let (plain, same, half) = (plan(&[]), plan(&["--dtype", "f32"]), plan(&["--dtype", "bf16"]));
    let digest = |plan: &Value| plan["digest"].as_str().expect("a digest").to_owned();
    assert!(digest(&plain) != digest(&same) && digest(&same) != digest(&half), "{plain}");
    let size = |dtype: &str| {
        fs::metadata(saved("llama").join(format!("{dtype}.safetensors"))).expect("a fixture").len()
    };
    assert_eq!(plain["output_bytes"], size("f32"), "{plain}");
    assert_eq!(half["output_bytes"], size("bf16"));
    let text = half.to_string();
    assert!(text.contains("all floating tensors are written in BF16 (--dtype)"), "{text}");
}

#[test]
fn what_decides_types_otherwise_refuses_it() {
    let work = work("llama", "base");
    for other in ["--keep-quantized", "--base16=x", "--to=gguf"] {
        let ran = work.merge(&["--dtype", "bf16", other, "--gguf-template=x"]);
        let name = other.split('=').next().expect("a name");
        assert!(ran.code == 2 && ran.err.contains("--dtype") && ran.err.contains(name), "{}", ran.err);
    }
    let ran = work.merge(&["--dtype", "q8_0"]);
    assert!(ran.code == 2 && ran.err.contains("bf16, f16, f32"), "{}", ran.err);
    // What a caller of the library asks for is no flag.
    let says = |request: &Request, text: &str| {
        let error = prepare(request).err().expect("it is refused");
        assert_eq!(error.exit_code(), Code::Usage);
        assert!(error.to_string().contains(text), "{error}");
    };
    says(&request(&work, "q8_0"), "`--dtype q8_0`: `bf16`, `f16` or `f32` is accepted");
    let kept = Request { keep_quantized: true, ..request(&work, "f16") };
    says(&kept, "`--dtype f16`: with `--keep-quantized` or `--base16` weights keep the types");
    let of = super::gguf::of;
    let merged_into = |base: PathBuf, adapter: PathBuf| Request {
        base: Some(base.into()),
        adapters: vec![(adapter.into(), 1f64.into())],
        ..request(&work, "f16")
    };
    let on_gguf = merged_into(of("llama").join("base.gguf"), of("llama").join("adapter"));
    says(&on_gguf, "`--dtype f16`: the base is a GGUF file, whose tensors keep the types that they have");
    let converted = of("converted").join("llama");
    let template = Request {
        template: Some(of("llama").join("base.gguf").into()),
        ..merged_into(converted.join("base"), converted.join("adapter"))
    };
    says(&template, "`--dtype f16`: the types of a file of llama.cpp are set by `--gguf-type`");
    // A variable is as good as the flag, and gives way to a flag that excludes it.
    let merged = work.command(&[]).env("SHARDFOLD_DTYPE", "bf16").output().expect("it starts");
    assert!(merged.status.success(), "{}", String::from_utf8_lossy(&merged.stderr));
    let right = fs::read(saved("llama").join("bf16.safetensors")).expect("a fixture");
    assert!(fs::read(work.output.join("model.safetensors")).expect("merged") == right);
}

/// The files of weights of a layout, with its index: headers as they were written, and the tensors of the one file that holds all.
fn laid_out(case: &str, layout: &Value) -> BTreeMap<String, Vec<u8>> {
    let dtype = layout["dtype"].as_str().expect("a type");
    let one = work_of_one(&saved(case).join(format!("{dtype}.safetensors")));
    let mut files = BTreeMap::new();
    for (name, header) in layout["headers"].as_object().expect("shards") {
        let header = header.as_str().expect("a text");
        let mut bytes = [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat();
        let entries: serde_json::Map<String, Value> = serde_json::from_str(header).expect("JSON");
        let mut tensors: Vec<_> = entries.iter().filter(|(name, _)| *name != "__metadata__").collect();
        tensors.sort_by_key(|(_, entry)| entry["data_offsets"][0].as_u64());
        tensors.iter().for_each(|(name, _)| bytes.extend(&one[*name].raw));
        files.insert(name.clone(), bytes);
    }
    files
}

fn work_of_one(file: &Path) -> BTreeMap<String, super::oracle::Tensor> {
    let folder = super::support::quick_folder();
    fs::copy(file, folder.path().join("model.safetensors")).expect("a fixture");
    read(folder.path(), "model")
}

const INDEX: &str = "model.safetensors.index.json";

/// Holds the files of weights and the index of a result against a layout.
pub(super) fn check_layout(case: &str, layout: &Value, output: &Path) {
    let says = format!("{case} {} {} {}", layout["base"], layout["dtype"], layout["limit"]);
    let (found, right) = (contents(output), laid_out(case, layout));
    let weights = found.iter().filter(|(name, _)| name.ends_with(".safetensors"));
    let weights: BTreeMap<_, _> = weights.map(|(name, bytes)| (name.clone(), bytes.clone())).collect();
    assert!(weights.keys().eq(right.keys()), "{says}: {:?}", weights.keys());
    for (name, bytes) in &right {
        assert!(weights[name] == *bytes, "{says}: {name}, {} and {} bytes", weights[name].len(), bytes.len());
    }
    let index = found.get(INDEX).map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    let right = layout["index"].as_str().map(str::to_owned);
    // The hub's own split writes an index in the order of the files, and counts no parameters.
    if layout["base"] == "apart" {
        assert_eq!(index, right, "{says}");
        return;
    }
    let parsed =
        [index, right].map(|text| text.map(|text| serde_json::from_str::<Value>(&text).expect("JSON")));
    let [found, right] = parsed.map(|index| {
        index.map(|index| (index["weight_map"].clone(), index["metadata"]["total_size"].clone()))
    });
    assert_eq!(found, right, "{says}");
}

pub(super) fn layouts(case: &str) -> Vec<Value> {
    let text = fs::read_to_string(saved(case).join("layouts.json")).expect("a fixture");
    serde_json::from_str(&text).expect("JSON")
}

#[test]
fn shards_are_those_that_transformers_lays_out() {
    let mut shards = 0;
    for (case, layout) in CASES.iter().flat_map(|case| layouts(case).into_iter().map(move |one| (*case, one)))
    {
        let text = |key: &str| layout[key].as_str().expect("a text").to_owned();
        let limit = layout["limit"].as_u64().expect("a number");
        let work = work(case, &text("base"));
        let size = Size::typed(&limit.to_string()).expect("a size");
        let whole = Request { max_shard_size: Some(size), ..request(&work, &text("dtype")) };
        merge(&in_small_tiles(&whole), &Location::of_path(&work.output)).expect("merged");
        check_layout(case, &layout, &work.output);
        fs::remove_dir_all(&work.output).expect("it was there");
        let (dtype, limit) = (text("dtype"), limit.to_string());
        let flags = ["--dtype", &dtype, "--max-shard-size", &limit];
        let ran = work.succeeds(&flags);
        let count = layout["headers"].as_object().expect("shards").len();
        let noun = if count == 1 { "shard" } else { "shards" };
        let said = format!("the tensors are laid into {count} {noun} of at most {limit} bytes");
        assert!(ran.err.contains(&said), "{}", ran.err);
        check_layout(case, &layout, &work.output);
        assert_eq!(verify(&work, &flags), 0, "{case} {layout}");
        check_layout(case, &layout, &joined(&work, &flags));
        shards += count;
        if count == 7 {
            cut_off_and_resumed(&work, &whole, &|output| check_layout(case, &layout, output));
        }
    }
    assert_eq!(shards, 120);
}

#[test]
fn shards_of_a_variant_are_named_as_libraries_name_them() {
    for (stem, class) in [("model", "architectures"), ("diffusion_pytorch_model", "_class_name")] {
        let work = with_others(&[("model.norm.weight", Dtype::F32, &[3], f32s([1.0; 3]))]);
        let config = json!({class: "LlamaForCausalLM", "model_type": "llama"});
        fs::write(work.base.join("config.json"), config.to_string()).expect("written");
        let file = work.base.join(format!("{stem}.fp16.safetensors"));
        fs::rename(work.base.join("model.safetensors"), file).expect("renamed");
        work.succeeds(&["--max-shard-size", "64", "--variant", "fp16"]);
        let found: Vec<String> = contents(&work.output).into_keys().collect();
        let named = |name: &str| found.iter().any(|other| other == &format!("{stem}{name}"));
        for name in [
            ".fp16-00001-of-00002.safetensors",
            ".fp16-00002-of-00002.safetensors",
            ".safetensors.index.fp16.json",
        ] {
            assert!(named(name), "{name}: {found:?}");
        }
        let index = fs::read_to_string(work.output.join(format!("{stem}.safetensors.index.fp16.json")));
        let index: Value = serde_json::from_str(&index.expect("an index")).expect("JSON");
        let total = json!({"total_size": 76});
        let counted = json!({"total_parameters": 19, "total_size": 76});
        assert_eq!(index["metadata"], if stem == "model" { counted } else { total });
        // What was written is a base again.
        let again = Work { base: work.output.clone(), output: work.folder.path().join("again"), ..work };
        again.succeeds(&["--variant", "fp16"]);
    }
}

#[test]
fn shards_that_come_to_the_same_are_the_same_files() {
    let work = work("llama", "apart");
    work.succeeds(&[]);
    let before = contents(&work.output);
    fs::remove_dir_all(&work.output).expect("it was there");
    work.succeeds(&["--max-shard-size", "1"]);
    let after = contents(&work.output);
    assert!(before.keys().eq(after.keys()));
    let is_weights = |name: &str| name.ends_with(".safetensors") || name == INDEX;
    for (name, bytes) in before.iter().filter(|(name, _)| is_weights(name)) {
        assert!(after[name] == *bytes, "{name}");
    }
}

#[test]
fn a_quantized_base_is_split_with_its_scales() {
    let work = Work::quick(Some("fp8"));
    for flags in [&[][..], &["--keep-quantized"]] {
        work.succeeds(flags);
        let before = read(&work.output, "model");
        fs::remove_dir_all(&work.output).expect("it was there");
        let with = [flags, &["--max-shard-size", "900"]].concat();
        work.succeeds(&with);
        assert!(work.output.join(INDEX).is_file());
        assert!(read(&work.output, "model") == before);
        assert_eq!(verify(&work, &with), 0);
        fs::remove_dir_all(&work.output).expect("it was there");
    }
}

#[test]
fn a_size_is_refused_where_shards_are_not_free_or_it_is_none() {
    let work = work("llama", "base");
    let ran = work.merge(&["--max-shard-size", "5 apples"]);
    assert!(ran.code == 2 && ran.err.contains("`--max-shard-size 5 apples`"), "{}", ran.err);
    let ran = work.merge(&["--max-shard-size", "0"]);
    assert!(ran.code == 2 && ran.err.contains("`--max-shard-size 0`: a size above zero"), "{}", ran.err);
    let ran = work.merge(&["--max-shard-size", "5G", "--to", "gguf", "--gguf-template", "x"]);
    assert!(ran.code == 2 && ran.err.contains("--max-shard-size") && ran.err.contains("--to"), "{}", ran.err);
    let of = super::gguf::of("llama");
    let request = Request {
        base: Some(of.join("base.gguf").into()),
        adapters: vec![(of.join("adapter").into(), 1f64.into())],
        max_shard_size: Some(Size::typed("5G").expect("a size")),
        ..Request::default()
    };
    let error = prepare(&request).err().expect("it is refused");
    assert_eq!(error.exit_code(), Code::Usage);
    let says = "`--max-shard-size 5G`: the result is one file";
    assert!(error.to_string().contains(says), "{error}");
}
