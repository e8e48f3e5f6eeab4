//! Parts that no adapter changes: shared with the base, copied, or a second name of its files, and always the same bytes.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use shardfold::testing::Dtype;

use super::support::{contents, ran, write_safetensors};
use super::work::{MODULE, Work};

const CHANGED: &str = "model-00001-of-00002.safetensors";
const UNCHANGED: &str = "model-00002-of-00002.safetensors";
const EMBEDDING: &str = "model.embed_tokens.weight";
const NORM: &str = "model.norm.weight";
/// Bytes of the embedding.
const LONG: u64 = 1 << 20;

/// One shard with the adapted module beside an embedding of 1 MiB, and one with another such tensor and a small one.
fn work() -> Work {
    let work = Work::tiny(Dtype::F32, 1.0);
    fs::remove_file(work.base.join("model.safetensors")).unwrap();
    let module = format!("{MODULE}.weight");
    let bytes = |seed: u8, len: u64| -> Vec<u8> {
        (0..len).map(|i| (i % 251) as u8 ^ seed).map(|b| b & 0x3f).collect()
    };
    let ones = [0, 0, 0x80, 0x3f].repeat(16);
    let (first, second) = (bytes(1, LONG), bytes(2, LONG));
    write_safetensors(
        &work.base.join(CHANGED),
        &[(EMBEDDING, Dtype::F32, &[512, 512], first), (&module, Dtype::F32, &[4, 4], ones)],
    );
    write_safetensors(
        &work.base.join(UNCHANGED),
        &[("lm_head.weight", Dtype::F32, &[512, 512], second), (NORM, Dtype::F32, &[4], bytes(0, 16))],
    );
    let map = json!({EMBEDDING: CHANGED, &module: CHANGED, "lm_head.weight": UNCHANGED, NORM: UNCHANGED});
    let index = json!({"metadata": {"total_size": 2 * LONG + 80}, "weight_map": map});
    fs::write(work.base.join("model.safetensors.index.json"), index.to_string()).unwrap();
    work
}

fn merged(work: &Work, name: &str, flags: &[&str]) -> (PathBuf, Value) {
    let output = work.folder.path().join(name);
    let mut command = work.command_into(&output, flags);
    command.arg("--json");
    let ran = ran(command.output().expect("the binary starts"));
    assert_eq!(ran.code, 0, "{}", ran.err);
    (output, serde_json::from_str(&ran.out).expect("a document"))
}

fn node(path: &Path) -> u64 {
    fs::metadata(path).unwrap().ino()
}

#[test]
fn a_file_that_no_adapter_changes_becomes_a_second_name_of_the_base_s() {
    let work = work();
    let (copied, _) = merged(&work, "copied", &["--unchanged", "copy"]);
    let (linked, summary) = merged(&work, "linked", &["--unchanged", "hardlink"]);
    assert!(contents(&linked) == contents(&copied), "the record too");
    assert_eq!(node(&linked.join(UNCHANGED)), node(&work.base.join(UNCHANGED)));
    assert_ne!(node(&linked.join(CHANGED)), node(&work.base.join(CHANGED)));
    let all = fs::metadata(linked.join(UNCHANGED)).unwrap().len();
    assert_eq!(summary["shared_bytes"], all);
    // Once more it is done already, and with checksums, for which all bytes are read, nothing is linked.
    let (_, again) = merged(&work, "linked", &["--unchanged", "hardlink"]);
    assert_eq!(again["state"], "already done");
    let (summed, _) = merged(&work, "summed", &["--unchanged", "hardlink", "--checksums", "sha256"]);
    assert_ne!(node(&summed.join(UNCHANGED)), node(&work.base.join(UNCHANGED)));
}

#[test]
fn what_a_record_has_the_hash_of_is_not_read_where_it_can_be_shared() {
    let mut work = work();
    let (first, _) = merged(&work, "first", &[]);
    work.base = first;
    for flags in [&[][..], &["--slab", "4Ki", "--depth", "1"]] {
        let [shared, plain] = [true, false].map(|shares| {
            let flags: Vec<&str> = flags.iter().copied().chain(shares.then_some("--shares")).collect();
            let (output, summary) = merged(&work, "second", &flags);
            let files = contents(&output);
            fs::remove_dir_all(output).unwrap();
            (files, summary)
        });
        assert!(shared.0 == plain.0, "the same files, and the same hashes of all tensors");
        let bytes = |summary: &Value, key: &str| summary[key].as_u64().expect("a number");
        assert_eq!(bytes(&plain.1, "shared_bytes"), 0);
        assert!(bytes(&shared.1, "shared_bytes") > 2 * LONG, "{}", shared.1);
        assert!(bytes(&plain.1, "read_bytes") > 2 * LONG);
        assert!(bytes(&shared.1, "read_bytes") < LONG / 4, "{}", shared.1);
        assert_eq!(shared.1["result"], plain.1["result"]);
    }
}

#[test]
fn a_record_that_says_other_lengths_is_not_believed() {
    let mut work = work();
    let (first, _) = merged(&work, "first", &[]);
    work.base = first;
    let (plain, _) = merged(&work, "plain", &[]);
    let path = work.base.join("shardfold.json");
    let text = fs::read_to_string(&path).unwrap();
    let mut record: Value = serde_json::from_str(&text).unwrap();
    for shard in record["shards"].as_array_mut().unwrap() {
        shard["sections"].as_array_mut().unwrap().pop();
    }
    fs::write(&path, record.to_string()).unwrap();
    let (output, summary) = merged(&work, "other", &["--shares"]);
    assert_eq!(summary["shared_bytes"], 0);
    assert!(contents(&output) == contents(&plain));
}
