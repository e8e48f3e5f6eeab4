//! The index decides: stale copies, tensors that it does not list, shards in directories below; and files that are not what
//! their names say.

use std::fs;

use serde_json::json;

use super::refusals::{named, refused};
use super::support::contents;
use super::work::{Tensor, Work, edit, edit_json};

const NORM: &str = "model.norm.weight";
const INDEX: &str = "model.safetensors.index.json";

fn names(path: &std::path::Path) -> Vec<String> {
    let mut names = Vec::new();
    edit(path, |tensors| names.extend(tensors.iter().map(|tensor| tensor.name.clone())));
    names
}

/// A copy of a tensor of the last shard in the first, with other values.
fn stale(work: &Work) {
    let mut copy: Option<Tensor> = None;
    edit(&work.shard(3), |tensors| copy = Some(named(tensors, NORM).clone()));
    let mut copy = copy.expect("it is there");
    copy.data.fill(0x40);
    edit(&work.shard(1), |tensors| tensors.push(copy));
}

#[test]
fn a_stale_copy_is_left_out() {
    let work = Work::demo();
    let plain = Work::demo();
    edit(&plain.shard(3), |_| {});
    plain.succeeds(&[]);
    stale(&work);
    let ran = work.succeeds(&[]);
    assert!(
        ran.err.contains("`model.norm.weight` is in two shards, and the index says which counts"),
        "{}",
        ran.err
    );
    assert!(ran.err.contains("in `model-00001-of-00003.safetensors` are left out"), "{}", ran.err);
    let (made, expected) = (contents(&work.output), contents(&plain.output));
    for file in ["model-00002-of-00003.safetensors", "model-00003-of-00003.safetensors", INDEX] {
        assert!(made[file] == expected[file], "{file}");
    }
    let first = "model-00001-of-00003.safetensors";
    assert_eq!(names(&work.output.join(first)), names(&plain.output.join(first)));
}

#[test]
fn a_shard_of_stale_copies_alone_goes() {
    let work = Work::demo();
    stale(&work);
    let mut copy = None;
    edit(&work.shard(1), |tensors| copy = tensors.pop());
    let only = work.base.join("model-00004-of-00004.safetensors");
    fs::copy(work.shard(1), &only).expect("copied");
    edit(&only, |tensors| *tensors = copy.into_iter().collect());
    edit_json(&work.base.join(INDEX), |index| {
        // A tensor without elements keeps the shard in the index.
        index["weight_map"]["extra"] = json!("model-00004-of-00004.safetensors");
    });
    edit(&only, |tensors| {
        tensors.push(Tensor { name: "extra".into(), dtype: "F32".into(), shape: vec![0], data: Vec::new() });
    });
    work.succeeds(&[]);
    assert_eq!(names(&work.output.join("model-00004-of-00004.safetensors")), ["extra"]);
}

#[test]
fn a_tensor_that_is_not_listed_passes_through() {
    let work = Work::demo();
    edit(&work.shard(3), |tensors| {
        let mut extra = named(tensors, NORM).clone();
        extra.name = "mtp.norm.weight".into();
        tensors.push(extra);
    });
    let before = fs::read(work.base.join(INDEX)).expect("an index");
    let ran = work.succeeds(&[]);
    assert!(ran.err.contains("the index does not list `mtp.norm.weight`"), "{}", ran.err);
    assert!(fs::read(work.output.join(INDEX)).expect("an index") == before);
    assert!(
        names(&work.output.join("model-00003-of-00003.safetensors")).contains(&"mtp.norm.weight".to_owned())
    );
}

#[test]
fn shards_may_lie_in_directories_below() {
    let work = Work::demo();
    let below = work.base.join("a/b");
    fs::create_dir_all(&below).expect("a directory");
    fs::rename(work.shard(2), below.join("model-00002-of-00003.safetensors")).expect("moved");
    let index = work.base.join(INDEX);
    let text = fs::read_to_string(&index).expect("an index");
    fs::write(&index, text.replace("\"model-00002", "\"a/b/model-00002")).expect("written");
    work.succeeds(&[]);
    let plain = Work::demo();
    plain.succeeds(&[]);
    let (made, expected) = (contents(&work.output), contents(&plain.output));
    assert!(made["a/b/model-00002-of-00003.safetensors"] == expected["model-00002-of-00003.safetensors"]);
    assert_eq!(work.merge(&[]).code, 0, "it is found done");
}

#[test]
fn names_in_an_index_that_are_none() {
    let long = "x".repeat(300);
    for (name, says) in [
        (long.as_str(), "300 bytes long, at most 255"),
        ("a/../../x.safetensors", "escapes the checkpoint directory"),
        ("/etc/passwd", "escapes the checkpoint directory"),
        ("a//x.safetensors", "escapes the checkpoint directory"),
    ] {
        let work = Work::demo();
        edit_json(&work.base.join(INDEX), |index| index["weight_map"]["lm_head.weight"] = json!(name));
        refused(name, &work, &[], 65, &[says]);
    }
}

#[test]
fn shards_are_called_as_files_of_tensors_are() {
    for name in ["README.md", "shardfold.json", "tokenizer.json", "shard1", "weights.dat"] {
        let work = Work::demo();
        fs::copy(work.shard(3), work.base.join(name)).expect("copied");
        edit_json(&work.base.join(INDEX), |index| index["weight_map"]["lm_head.weight"] = json!(name));
        refused(
            name,
            &work,
            &[],
            65,
            &[&format!("into `{name}`, which is not called as a file of tensors is")],
        );
    }
}

#[test]
fn files_that_are_not_what_their_names_say() {
    let gzip = [&b"\x1f\x8b\x08\0\0\0\0\0\0\x03"[..], &[7; 600_000]].concat();
    for (bytes, says) in [
        (&b"<!DOCTYPE html><html><title>401</title></html>"[..], "it is an HTML page"),
        (b"{\"error\": \"Repository not found\"}", "it is a JSON text"),
        (&gzip, "it is a gzip file"),
        (b"PK\x03\x04\x14\0\0\0\0\0data.pkl..........", "it is a zip file"),
        (b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.", "it is a pickle"),
        (b"GGUF\x03\0\0\0\x10\0\0\0\0\0\0\0", "it is a GGUF file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "is a git-lfs pointer"),
        (&[0; 5000], "hint: the file was not copied or downloaded whole"),
    ] {
        let work = Work::demo();
        fs::write(work.shard(2), bytes).expect("written");
        refused(says, &work, &[], 65, &["model-00002-of-00003.safetensors", says]);
        let work = Work::demo();
        fs::write(work.weights(), bytes).expect("written");
        refused(says, &work, &[], 65, &["adapter_model.safetensors", says]);
    }
    let work = Work::demo();
    let longer = [fs::read(work.shard(2)).expect("a shard"), vec![0; 9]].concat();
    fs::write(work.shard(2), longer).expect("written");
    refused("longer", &work, &[], 65, &["header promises", "hint: bytes follow its last tensor"]);
    let work = Work::demo();
    fs::write(work.base.join("config.json"), "<html></html>").expect("written");
    refused("config", &work, &[], 65, &["config.json` is not usable JSON", "hint: it is an HTML page"]);
}
