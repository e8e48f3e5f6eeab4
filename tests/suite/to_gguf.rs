//! Files of llama.cpp made of checkpoints of transformers: laid out as a file of the same base, with the exact sum in every type
//! (`fixtures/gguf/converted`, which llama.cpp's own library wrote).

use std::fs;
use std::path::PathBuf;

use serde_json::json;
use shardfold::Request;

use super::gguf::{count, merge, of, replace_all, request};
use super::refusals::refused;
use super::support::{contents, copy_folder, run};
use super::work::{Work, edit_json, in_small_tiles};

const CONVERTED: &[&str] = &["llama", "gemma3", "qwen2moe"];

/// A case, with its template beside it.
fn work(name: &str) -> (Work, PathBuf) {
    let mut work = Work::quick(Some("tiny"));
    let case = of("converted").join(name);
    for (from, to) in [(case.join("base"), &work.base), (case.join("adapter"), &work.adapter)] {
        fs::remove_dir_all(to).expect("it was there");
        copy_folder(&from, to);
    }
    let template = work.folder.path().join("Tiny-Q4_K_M.gguf");
    fs::copy(of(name).join("base.gguf"), &template).expect("a fixture");
    work.output = work.folder.path().join("output");
    (work, template)
}

fn flags(template: &std::path::Path, dtype: &str) -> Vec<String> {
    let path = template.to_string_lossy().into_owned();
    ["--to", "gguf", "--gguf-template", &path, "--gguf-type", dtype].map(str::to_owned).to_vec()
}

fn texts(flags: &[String]) -> Vec<&str> {
    flags.iter().map(String::as_str).collect()
}

#[test]
fn the_file_is_the_one_that_the_library_makes_of_the_sum() {
    for name in CONVERTED {
        for (dtype, right, called) in [
            ("f16", "F16.gguf", "Tiny-F16.gguf"),
            ("q8_0", "Q8_0.gguf", "Tiny-Q8_0.gguf"),
            ("template", "template.gguf", "Tiny-Q4_K_M.gguf"),
        ] {
            let (work, template) = work(name);
            let right = fs::read(of("converted").join(name).join(right)).expect("a fixture");
            let whole = Request {
                base: Some(work.base.clone().into()),
                template: Some(template.clone().into()),
                template_type: Some(dtype.to_owned()),
                ..request(&work)
            };
            for (how, request) in [("whole", whole.clone()), ("in small tiles", in_small_tiles(&whole))] {
                merge(&request, &work.output);
                let found = fs::read(work.output.join(called)).expect("merged");
                let differs = found.iter().zip(&right).position(|(a, b)| a != b);
                assert!(
                    found == right,
                    "{name} {dtype} {how}: {} and {} bytes, {differs:?}",
                    found.len(),
                    right.len()
                );
                let files: Vec<String> = contents(&work.output).into_keys().collect();
                assert_eq!(files, ["README.md", called, "shardfold.json"], "{name}");
                fs::remove_dir_all(&work.output).expect("it was there");
            }
        }
    }
}

#[test]
fn what_the_command_writes_is_known_again_and_verified() {
    let (work, template) = work("llama");
    let asked = flags(&template, "auto");
    let asked = texts(&asked);
    let ran = work.merge(&asked);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(
        ran.err.contains("laid out as `Tiny-Q4_K_M.gguf`") && ran.err.contains("mostly in BF16"),
        "{}",
        ran.err
    );
    let written = fs::read(work.output.join("Tiny-BF16.gguf")).expect("merged");
    let record = fs::read_to_string(work.output.join("shardfold.json")).expect("a record");
    let record: serde_json::Value = serde_json::from_str(&record).expect("JSON");
    let roles: Vec<String> =
        record["inputs"].as_array().expect("a list").iter().map(|input| input["role"].to_string()).collect();
    assert_eq!(roles, ["\"Template\"", "{\"Adapter\":0}", "\"Base\""]);
    let again = work.merge(&asked);
    assert_eq!(again.code, 0, "{}", again.err);
    assert!(
        again.out.contains("already done") || again.err.contains("already"),
        "{} {}",
        again.out,
        again.err
    );
    let [base, adapter, output] =
        [&work.base, &work.adapter, &work.output].map(|path| path.to_string_lossy());
    let verify = |flags: &[&str]| {
        run(&[&["verify", &output, "--base", &base, "--adapter", &adapter][..], flags].concat())
    };
    assert_eq!(verify(&asked).code, 0);
    assert_ne!(verify(&texts(&flags(&template, "f16"))).code, 0, "another type");
    assert_ne!(verify(&[]).code, 0, "no file of llama.cpp");
    // Parts, on several hosts, come to the same.
    let parts = work.folder.path().join("parts");
    for part in ["0/3", "1/3", "2/3"] {
        let mut command = work.command_into(&parts, &asked);
        let made = command.args(["--part", part]).output().expect("the binary starts");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    }
    let joined = run(&["finish", &parts.to_string_lossy()]);
    assert_eq!(joined.code, 0, "{}", joined.err);
    assert!(fs::read(parts.join("Tiny-BF16.gguf")).expect("joined") == written);
}

#[test]
fn a_template_of_something_else_is_refused() {
    let (work, template) = work("llama");
    let refuse = |what: &str, template: &std::path::Path, says: &[&str]| {
        refused(what, &work, &texts(&flags(template, "f16")), 65, says);
    };
    refuse("no file of llama.cpp", &of("llama-safetensors"), &["is no file of llama.cpp"]);
    refuse(
        "another architecture",
        &of("qwen2").join("base.gguf"),
        &["model_type is qwen2 in the template", "and llama in the base"],
    );
    let damaged = |name: &str, from: &[u8], to: &[u8]| {
        let path = template.with_file_name(name);
        fs::copy(&template, &path).expect("a fixture");
        replace_all(&path, from, to);
        path
    };
    let heads = damaged(
        "heads.gguf",
        &count("llama.attention.head_count", 8),
        &count("llama.attention.head_count", 4),
    );
    refuse("other heads", &heads, &["num_attention_heads is 4 in the template", "and 8 in the base"]);
    let norm = |value: f32| {
        [&b"llama.attention.layer_norm_rms_epsilon"[..], &6u32.to_le_bytes(), &value.to_le_bytes()].concat()
    };
    let other_norm = damaged("norm.gguf", &norm(1e-6), &norm(1e-5));
    refuse("another norm", &other_norm, &["rms_norm_eps is"]);
    let unknown = damaged("unknown.gguf", b"blk.1.attn_q.weight", b"blk.1.attn_z.weight");
    refuse(
        "a tensor of another name",
        &unknown,
        &["`model.layers.1.self_attn.q_proj.weight` has no place in the template"],
    );
    let usage = work.merge(&texts(&flags(&template, "q5_1")));
    assert_eq!(usage.code, 2, "{}", usage.err);
    assert!(usage.err.contains("`q8_0` or `template` is accepted"), "{}", usage.err);
    assert_eq!(work.merge(&["--to", "gguf"]).code, 2);
    let path = template.to_string_lossy();
    assert_eq!(work.merge(&["--to", "gguf", "--gguf-template", &path, "--keep-quantized"]).code, 2);
}

#[test]
fn a_base_that_is_not_that_of_the_template_is_refused() {
    let (mut work, template) = work("llama");
    let asked = flags(&template, "f16");
    let asked = texts(&asked);
    // A layer more than the template has.
    work.base = of("llama-safetensors");
    let ran = work.merge(&asked);
    assert_eq!(ran.code, 0, "{}", ran.err);
    fs::remove_dir_all(&work.output).expect("it was there");
    let (mut other, _) = super::to_gguf::work("gemma3");
    other.output = work.output.clone();
    refused("another model", &other, &asked, 65, &["model_type is llama in the template"]);
    let (scaled, _) = super::to_gguf::work("llama");
    edit_json(&scaled.base.join("config.json"), |fields| {
        fields.insert("rope_parameters".to_owned(), json!({"rope_theta": 1000.0, "rope_type": "default"}));
    });
    refused("other positions", &scaled, &asked, 65, &["rope_theta is 10000", "and 1000"]);
}
