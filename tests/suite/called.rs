//! The commands as functions: the documents are those that the command prints, and so are the errors.

use std::ffi::OsString;

use serde_json::Value;
use shardfold::{Cancel, Code, Event, Reporter, call, request_of};

use crate::support::{fixtures, quick_folder};

/// Keeps the text of every note.
#[derive(Default)]
struct Notes(Vec<String>);

impl Reporter for Notes {
    fn event(&mut self, event: &Event<'_>) {
        if let Event::Note(note) = event {
            self.0.push(note.to_string());
        }
    }
}

fn called(args: &[&str]) -> shardfold::Result<Value> {
    let args: Vec<OsString> = args.iter().map(OsString::from).collect();
    let document = call(&args, &Cancel::default(), &mut Notes::default())?;
    Ok(serde_json::from_str(&document).expect("a document"))
}

#[test]
fn each_command_gives_its_document() {
    let work = quick_folder();
    let path = |path: std::path::PathBuf| path.to_str().expect("a plain path").to_owned();
    let (base, adapter) = (path(fixtures().join("demo/base")), path(fixtures().join("demo/adapter")));
    let output = path(work.path().join("merged"));
    let flags = ["--base", &base, "--adapter", &adapter];
    let with = |command: &'static str, more: &[&str]| {
        called(&[&[command], &flags[..], more].concat()).unwrap_or_else(|error| panic!("{error:?}"))
    };
    let plan = with("plan", &[]);
    assert_eq!(plan["plan"]["tensors"]["merged"], 28);
    assert_eq!(with("merge", &["--dry-run"])["plan"], plan["plan"]);
    let merged = with("merge", &["--output", &output]);
    assert_eq!((&merged["state"], &merged["digest"]), (&"done".into(), &plan["plan"]["digest"]));
    assert_eq!(with("merge", &["--output", &output])["state"], "already done");
    assert_eq!(with("plan", &["--output", &output])["already_done"], true);
    assert_eq!(with("verify", &[&output])["findings"], Value::Array(Vec::new()));
    let hashes = called(&["verify", "--hashes-only", &output]).unwrap();
    assert_eq!(hashes["findings"], Value::Array(Vec::new()));
    assert_eq!(called(&["inspect", &adapter]).unwrap()["what"], "adapter");
    // What is found is no error.
    std::fs::write(work.path().join("merged/config.json"), "{}").unwrap();
    let hashes = called(&["verify", "--hashes-only", &output]).unwrap();
    assert_eq!(hashes["findings"].as_array().map(Vec::len), Some(1), "{hashes}");
}

#[test]
fn a_sample_finds_nothing_in_scales_that_were_kept() {
    let work = quick_folder();
    let path = |path: std::path::PathBuf| path.to_str().expect("a plain path").to_owned();
    let case = fixtures().join("golden/fp8-kept");
    let (base, adapter) = (path(case.join("base")), path(case.join("adapter")));
    let output = path(work.path().join("merged"));
    let flags = ["--base", &base, "--adapter", &adapter, "--keep-quantized"];
    called(&[&["merge", "--output", &output], &flags[..]].concat()).unwrap();
    let verified = called(&[&["verify", &output, "--sample", "1000"], &flags[..]].concat()).unwrap();
    assert_eq!(verified["findings"], Value::Array(Vec::new()), "{verified}");
}

#[test]
fn errors_are_those_of_the_command() {
    let text = |args: &[&str]| {
        let error = called(args).unwrap_err();
        (error.exit_code(), error.text())
    };
    let (code, text_of_flag) = text(&["plan", "--base", "b", "--adapter", "a", "--max-rum", "1G"]);
    assert_eq!(code, Code::Usage);
    assert_eq!(
        text_of_flag,
        "error: unexpected argument '--max-rum' found\nhint: a similar argument exists: '--max-ram'\n"
    );
    let (code, text_of_value) = text(&["plan", "--base", "b", "--adapter", "a", "--max-ram", "much"]);
    assert_eq!(code, Code::Usage);
    assert!(text_of_value.starts_with("error: `--max-ram much`: "), "{text_of_value}");
    assert_eq!(text(&["merge", "--adapter", "a"]).1, "error: `--output <DIR>` is required\n");
    let (code, missing) = text(&["inspect", "/nowhere/at/all"]);
    assert_eq!(code, Code::NoInput, "{missing}");
    let verify: Vec<OsString> = ["verify", "--hashes-only", "x"].iter().map(OsString::from).collect();
    assert_eq!(request_of(&verify, &Cancel::default()).unwrap_err().exit_code(), Code::Usage);
}
