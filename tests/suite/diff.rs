//! `shardfold diff`: what two checkpoints come to, tensor by tensor, held against plain sums.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use shardfold::testing::Dtype;

use super::support::{Ran, command, copy_folder, f32s, fixtures, folder, ran, write_safetensors};
use super::work::{MODULE, Work, edit};

fn diff(a: &Path, b: &Path, flags: &[&str]) -> Ran {
    ran(command(&["diff"]).arg(a).arg(b).args(flags).output().unwrap())
}

fn document(a: &Path, b: &Path, flags: &[&str]) -> Value {
    let ran = diff(a, b, &[&["--json"], flags].concat());
    assert_eq!(ran.code, 0, "{}", ran.err);
    let mut all: Value = serde_json::from_str(&ran.out).unwrap();
    // It is another in each run.
    assert!(all.as_object_mut().unwrap().remove("peak_rss").is_some());
    all
}

fn tensor<'d>(document: &'d Value, name: &str) -> &'d Value {
    let tensors = document["tensors"].as_array().unwrap();
    tensors.iter().find(|tensor| tensor["name"] == name).unwrap_or_else(|| panic!("no {name} in {document}"))
}

/// A checkpoint of tensors by name, type, shape and bytes.
fn checkpoint(dir: &Path, tensors: &[(&str, Dtype, &[u64], Vec<u8>)]) {
    fs::create_dir_all(dir).unwrap();
    write_safetensors(&dir.join("model.safetensors"), tensors);
    fs::write(dir.join("config.json"), r#"{"model_type": "llama"}"#).unwrap();
}

/// BF16 of its upper bits.
fn bf16s(codes: &[u16]) -> Vec<u8> {
    codes.iter().flat_map(|code| code.to_le_bytes()).collect()
}

#[test]
fn a_merge_moves_what_the_adapter_adapts_and_nothing_else() {
    let work = Work::demo();
    work.succeeds(&[]);
    let all = document(&work.base, &work.output, &[]);
    let counts = |key: &str| all["counts"][key].as_u64().unwrap();
    assert_eq!(
        ["equal", "moved", "rounding", "only_in_a", "only_in_b", "other_shape", "not_compared"].map(counts),
        [11, 28, 0, 0, 0, 0, 0]
    );
    assert_eq!(all["equal"], false);
    for flags in [&["--threads", "1"][..], &["--max-ram", "48M"], &["--io", "direct"]] {
        assert_eq!(document(&work.base, &work.output, flags), all, "{flags:?}");
    }
    let text = diff(&work.base, &work.output, &[]);
    assert_eq!(text.code, 0, "{}", text.err);
    assert!(text.out.contains("tensors    39: 11 equal, 28 moved\n"), "{}", text.out);
    assert!(text.out.contains("\nlargest    `model.layers."), "{}", text.out);
    assert!(
        text.out.contains("  model.layers.{0..3}.input_layernorm.weight           4 × equal\n"),
        "{}",
        text.out
    );
    assert!(
        text.out.contains("  model.layers.{0..3}.mlp.down_proj.weight             4 × moved  99."),
        "{}",
        text.out
    );
    let same = document(&work.base, &work.base, &["--exit-code"]);
    assert_eq!((&same["equal"], &same["norm"]), (&json!(true), &json!(0.0)));
}

#[test]
fn sums_are_those_of_the_elements() {
    let folder = folder();
    let [a, b] = ["a", "b"].map(|name| folder.path().join(name));
    let values = |f: fn(f32) -> f32| -> Vec<f32> { (0..1000).map(|i| f(i as f32 / 100.0)).collect() };
    let (first, second) = (values(|x| x - 5.0), values(|x| if x < 3.0 { x - 5.0 } else { 1.01 * x - 5.0 }));
    checkpoint(&a, &[("w", Dtype::F32, &[10, 100], f32s(first.clone()))]);
    checkpoint(&b, &[("w", Dtype::F32, &[10, 100], f32s(second.clone()))]);
    let all = document(&a, &b, &[]);
    let found = tensor(&all, "w");
    let differences = first.iter().zip(&second).map(|(a, b)| f64::from(*b) - f64::from(*a));
    let (mut square, mut most, mut differing) = (0.0, 0.0f64, 0);
    for difference in differences {
        (square, most) = (square + difference * difference, most.max(difference.abs()));
        differing += usize::from(difference != 0.0);
    }
    let of: f64 = first.iter().map(|a| f64::from(*a).powi(2)).sum();
    let close = |key: &str, expected: f64| {
        let found = found[key].as_f64().unwrap();
        assert!((found - expected).abs() <= 1e-12 * expected, "{key}: {found}, not {expected}");
    };
    close("norm", square.sqrt());
    close("relative", (square / of).sqrt());
    assert_eq!((found["most"].as_f64(), &found["differing"]), (Some(most), &json!(differing)));
    assert_eq!(found["state"], "moved");
}

#[test]
fn what_rounding_moved_is_told_apart() {
    let folder = folder();
    let [a, b] = ["a", "b"].map(|name| folder.path().join(name));
    let one = |code: u16| ("w", Dtype::BF16, &[2, 2][..], bf16s(&[code, 0x4000, 0xc040, 0x0000]));
    for (code, state) in [(0x3f80, "equal"), (0x3f81, "rounding"), (0x3f82, "moved"), (0x7fc0, "moved")] {
        checkpoint(&a, &[one(0x3f80)]);
        checkpoint(&b, &[one(code)]);
        assert_eq!(tensor(&document(&a, &b, &[]), "w")["state"], state, "{code:x}");
    }
    // What BF16 leaves of F32.
    let work = Work::tiny(Dtype::F32, 0.123_456);
    work.succeeds(&[]);
    fs::remove_dir_all(&b).unwrap();
    let mut convert = command(&["convert", "--dtype", "bf16", "-q"]);
    assert_eq!(ran(convert.arg(&work.output).arg("-o").arg(&b).output().unwrap()).code, 0);
    let all = document(&work.output, &b, &[]);
    let found = tensor(&all, &format!("{MODULE}.weight"));
    assert_eq!((&found["state"], &found["types"]), (&json!("rounding"), &json!(["F32", "BF16"])));
    assert!(found["differing"].as_u64().unwrap() > 0);
}

#[test]
fn what_only_one_has_or_has_otherwise_is_named() {
    let folder = folder();
    let [a, b] = ["a", "b"].map(|name| folder.path().join(name));
    let ints = |last: i64| [1, 2, last].iter().flat_map(|i: &i64| i.to_le_bytes()).collect::<Vec<u8>>();
    let floats = || f32s([1.0; 6]);
    checkpoint(
        &a,
        &[
            ("ids", Dtype::I64, &[3], ints(3)),
            ("same", Dtype::I64, &[3], ints(3)),
            ("kind", Dtype::I64, &[3], ints(3)),
            ("shape", Dtype::F32, &[2, 3], floats()),
            ("first", Dtype::F32, &[6], floats()),
            ("none", Dtype::F32, &[0], Vec::new()),
        ],
    );
    checkpoint(
        &b,
        &[
            ("second", Dtype::F32, &[6], floats()),
            ("shape", Dtype::F32, &[3, 2], floats()),
            ("kind", Dtype::F64, &[3], ints(3)),
            ("ids", Dtype::I64, &[3], ints(4)),
            ("same", Dtype::I64, &[3], ints(3)),
            ("none", Dtype::F32, &[0], Vec::new()),
        ],
    );
    let all = document(&a, &b, &[]);
    for (name, state) in [
        ("ids", "moved"),
        ("same", "equal"),
        ("kind", "not_compared"),
        ("shape", "other_shape"),
        ("first", "only_in_a"),
        ("second", "only_in_b"),
        ("none", "equal"),
    ] {
        assert_eq!(tensor(&all, name)["state"], state, "{name}");
    }
    assert_eq!(tensor(&all, "ids")["differing"], 1);
    assert_eq!(tensor(&all, "second")["types"], json!([null, "F32"]));
    let ran = diff(&a, &b, &["--exit-code"]);
    assert_eq!(ran.code, 65, "{}", ran.err);
    assert!(ran.err.contains("differs from `"), "{}", ran.err);
    assert!(ran.err.contains("in 5 tensors"), "{}", ran.err);
    assert!(ran.out.contains("1 equal") || ran.out.contains("2 equal"), "{}", ran.out);
    assert_eq!(diff(&a, &b, &["--exit-code", "-q"]).out, "");
}

#[test]
fn quantized_weights_are_compared_as_what_they_decode_to() {
    let folder = folder();
    let fp8 = fixtures().join("golden/fp8/base");
    let plain = folder.path().join("plain");
    let mut convert = command(&["convert", "--dtype", "f32", "-q"]);
    assert_eq!(ran(convert.arg(&fp8).arg("-o").arg(&plain).output().unwrap()).code, 0);
    let all = document(&fp8, &plain, &["--exit-code"]);
    assert_eq!(all["equal"], true, "{all}");
    let quantized = tensor(&all, "model.layers.0.self_attn.q_proj.weight");
    assert_eq!(quantized["types"][1], "F32");
    assert_ne!(quantized["types"][0], "F32", "{quantized}");
    // Scales are no tensors of the model.
    let tensors = all["tensors"].as_array().unwrap();
    assert!(tensors.iter().all(|tensor| !tensor["name"].as_str().unwrap().contains("scale")));
    edit(&plain.join("model.safetensors"), |tensors| {
        let weight = tensors.iter_mut().find(|tensor| tensor.name.ends_with("q_proj.weight")).unwrap();
        weight.data[3] ^= 0x40;
    });
    assert_eq!(document(&fp8, &plain, &[])["counts"]["moved"], 1);
}

#[test]
fn rows_of_heads_in_another_order_are_not_held_against_each_other() {
    let gguf = fixtures().join("gguf/llama/base.gguf");
    let all = document(&gguf, &fixtures().join("gguf/llama-safetensors"), &[]);
    let query = tensor(&all, "model.layers.0.self_attn.q_proj.weight");
    assert_eq!(
        (&query["state"], &query["why"]),
        (&json!("not_compared"), &json!("the files have its values in different orders"))
    );
    assert_eq!(
        tensor(&all, "model.norm.weight")["shapes"][0],
        tensor(&all, "model.norm.weight")["shapes"][1]
    );
    assert_eq!(document(&gguf, &gguf, &[])["equal"], true);
}

#[test]
fn one_that_is_no_checkpoint_is_refused_by_name() {
    let work = Work::demo();
    let ran = diff(&work.base, &work.adapter, &[]);
    assert_eq!(ran.code, 65, "{}", ran.err);
    assert!(ran.err.contains("is an adapter, not a checkpoint"), "{}", ran.err);
    let ran = diff(&work.base, &work.folder.path().join("nothing"), &[]);
    assert_eq!(ran.code, 66, "{}", ran.err);
    let copied = work.folder.path().join("copied");
    copy_folder(&work.base, &copied);
    fs::remove_file(copied.join("model-00002-of-00003.safetensors")).unwrap();
    assert_eq!(diff(&work.base, &copied, &[]).code, 66);
}

#[test]
fn a_tensor_larger_than_the_budget_is_compared_in_it() {
    let folder = folder();
    let [a, b] = ["a", "b"].map(|name| folder.path().join(name));
    const MIB: usize = 1 << 20;
    let mut data = vec![0x3f; 96 * MIB];
    checkpoint(&a, &[("w", Dtype::BF16, &[48, MIB as u64], data.clone())]);
    data[70 * MIB] ^= 1;
    checkpoint(&b, &[("w", Dtype::BF16, &[48, MIB as u64], data)]);
    let mut command = command(&["diff", "--json", "--max-ram", "48M"]);
    let ran = ran(command.arg(&a).arg(&b).output().unwrap());
    assert_eq!(ran.code, 0, "{}", ran.err);
    let all: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(
        (&tensor(&all, "w")["state"], &tensor(&all, "w")["differing"]),
        (&json!("rounding"), &json!(1))
    );
    let peak = all["peak_rss"].as_u64().unwrap();
    assert!(peak < 48_000_000, "{peak}");
}
