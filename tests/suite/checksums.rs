//! `--checksums sha256` and `--expect`: what the result's files come to, by a tool of another hand and by one digest.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::support::{Ran, contents, ran, recorded_hash};
use super::work::Work;

const SUMS: &str = "SHA256SUMS";
const RECORD: &str = "shardfold.json";

/// What `sha256sum -c` says of a folder, or nothing where there is no such tool.
fn sha256sum(folder: &Path) -> Option<Ran> {
    let output = Command::new("sha256sum").args(["-c", "--strict", SUMS]).current_dir(folder).output();
    output.ok().map(ran)
}

fn check_sums(folder: &Path) {
    let text = fs::read_to_string(folder.join(SUMS)).unwrap();
    let listed: Vec<&str> = text.lines().filter_map(|line| Some(line.split_once("  ")?.1)).collect();
    let mut expected: Vec<String> = contents(folder).into_keys().collect();
    expected.retain(|name| name != SUMS);
    assert_eq!(listed, expected);
    if let Some(ran) = sha256sum(folder) {
        assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    }
}

fn result_of(folder: &Path) -> String {
    let record: Value = serde_json::from_slice(&fs::read(folder.join(RECORD)).unwrap()).unwrap();
    record["result"].as_str().unwrap().to_owned()
}

/// The digest as the documentation has it.
fn digest_of(files: &BTreeMap<String, Vec<u8>>) -> String {
    let mut text = String::new();
    for (name, bytes) in files.iter().filter(|(name, _)| ![SUMS, RECORD].contains(&name.as_str())) {
        text.push_str(&format!("{}  {name}\n", recorded_hash(name, bytes).0));
    }
    blake3::hash(text.as_bytes()).to_string()
}

#[test]
fn every_file_but_the_sums_is_in_them() {
    let work = Work::demo();
    // Those of the base are of other bytes.
    fs::write(work.base.join(SUMS), "none").unwrap();
    fs::create_dir(work.base.join("below")).unwrap();
    fs::write(work.base.join("below/a file.txt"), "text").unwrap();
    work.succeeds(&["--checksums", "sha256"]);
    check_sums(&work.output);
    assert!(work.succeeds(&["--checksums", "sha256"]).out.contains("already done"));
    // The sums are a part of the result.
    let ran = work.merge(&[]);
    assert!(ran.code == 73 && ran.err.contains("it has `SHA256SUMS`, this one none"), "{}", ran.err);
    let text = fs::read_to_string(work.output.join(SUMS)).unwrap();
    fs::write(work.output.join(SUMS), text.replace('0', "1")).unwrap();
    let ran = work.merge(&["--checksums", "sha256"]);
    assert!(ran.code == 73 && ran.err.contains("`SHA256SUMS` is not as it was written"), "{}", ran.err);
}

#[test]
fn a_merge_that_goes_on_hashes_what_was_kept() {
    let (work, whole) = (Work::demo(), Work::demo());
    whole.succeeds(&["--checksums", "sha256"]);
    let whole = contents(&whole.output);
    let mut kept = 0;
    for nth in (8..).step_by(17) {
        let nth = nth.to_string();
        let first = ["--slab", "16Ki", "--depth", "2", "--stride", "1", "--abort-at", &nth];
        if work.merge(&[&["--checksums", "sha256"][..], &first].concat()).code == 0 {
            break;
        }
        let summary: Value =
            serde_json::from_str(&work.succeeds(&["--checksums", "sha256", "--json"]).out).unwrap();
        kept += u64::from(summary["kept_bytes"].as_u64().unwrap() > 0);
        assert!(contents(&work.output) == whole, "other bytes behind change {nth}");
        check_sums(&work.output);
        fs::remove_dir_all(&work.output).unwrap();
    }
    assert!(kept > 5, "{kept}");
}

#[test]
fn a_result_has_a_digest_that_can_be_asked_for() {
    let work = Work::demo();
    let ran = work.succeeds(&["--json"]);
    let result = result_of(&work.output);
    assert_eq!(result, digest_of(&contents(&work.output)));
    let summary: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(summary["result"], result.as_str());
    // The sums change nothing of it, and what is there already is held against it too.
    let other = work.folder.path().join("other");
    let ran = work.merge_into(&other, &["--checksums", "sha256", "--expect", &result.to_uppercase()]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(ran.out.contains(&result), "{}", ran.out);
    let wrong = "0".repeat(64);
    for output in [&work.output, &work.folder.path().join("new")] {
        let was_there = output.exists();
        let ran = work.merge_into(output, &["--expect", &wrong]);
        assert_eq!(ran.code, 65, "{}", ran.err);
        assert!(ran.err.contains(&wrong) && ran.err.contains(&result), "{}", ran.err);
        assert_eq!(output.exists(), was_there);
    }
    assert!(!work.folder.path().join("new.partial").exists());
    assert_eq!(work.merge_into(&work.output, &["--expect", &result]).code, 0);
    let ran = work.merge(&["--expect", "abc"]);
    assert!(ran.code == 2 && ran.err.contains("64 hexadecimal digits"), "{}", ran.err);
}
