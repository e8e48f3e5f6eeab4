//! Bases whose headers have a record of every tensor, as torchao's: what they say decides how a weight is decoded, and goes with it.

use std::fs;

use serde_json::{Value, json};
use shardfold::testing::Dtype;

use super::refusals::refused;
use super::support::{fixtures, write_safetensors};
use super::work::{Work, edit_header, edit_json};

const RECORDED: &str = "model.layers.0.self_attn.q_proj.weight";

/// A vector as a base, with an adapter on its weight.
fn based_on(vector: &str, rows: u64, cols: u64) -> Work {
    let work = Work::tiny(Dtype::F32, 0.5);
    let from = fixtures().join("vectors").join(vector);
    fs::copy(from.join("model.safetensors"), work.base.join("model.safetensors")).expect("copied");
    let said: Value =
        serde_json::from_slice(&fs::read(from.join("config.json")).expect("a file")).expect("JSON");
    edit_json(&work.base.join("config.json"), |config| {
        config.extend(said.as_object().expect("an object").clone());
        config.insert("dtype".to_owned(), json!("bfloat16"));
    });
    work.adapt(1, rows, cols, 1.0, 0.5);
    work
}

/// Two shards: the vector's tensors, and a norm that no adapter changes, under the same records.
fn in_two_shards(work: &Work) {
    let [one, two] = [1, 2].map(|n| format!("model-0000{n}-of-00002.safetensors"));
    fs::rename(work.base.join("model.safetensors"), work.base.join(&one)).expect("renamed");
    write_safetensors(&work.base.join(&two), &[("model.norm.weight", Dtype::BF16, &[2], vec![1, 63, 2, 64])]);
    let (mut names, mut said) = (json!({"model.norm.weight": two}), Value::Null);
    edit_header(&work.base.join(&one), |header| {
        let entries: Value = serde_json::from_str(&header).expect("JSON");
        said = entries["__metadata__"].clone();
        for name in entries.as_object().expect("an object").keys().filter(|name| *name != "__metadata__") {
            names[name] = json!(one);
        }
        header
    });
    edit_header(&work.base.join(&two), |header| with_metadata(&header, |all| *all = said));
    let index = json!({"metadata": {}, "weight_map": names}).to_string();
    fs::write(work.base.join("model.safetensors.index.json"), index).expect("a small file");
}

fn with_metadata(header: &str, change: impl FnOnce(&mut Value)) -> String {
    let mut entries: Value = serde_json::from_str(header).expect("JSON");
    change(&mut entries["__metadata__"]);
    entries.to_string()
}

/// What the header of a file of the output says beside its tensors.
fn said(work: &Work, file: &str) -> Value {
    let mut said = Value::Null;
    edit_header(&work.output.join(file), |header| {
        let entries: Value = serde_json::from_str(&header).expect("JSON");
        said = entries["__metadata__"].clone();
        header
    });
    said
}

#[test]
fn records_go_with_what_they_are_of() {
    let work = based_on("torchao_int8wo", 6, 40);
    work.succeeds(&[]);
    assert_eq!(said(&work, "model.safetensors"), json!({"format": "pt"}));

    // Each shard has the records of all tensors.
    let work = based_on("torchao_fp8wo", 6, 40);
    in_two_shards(&work);
    work.succeeds(&[]);
    for n in [1, 2] {
        assert_eq!(said(&work, &format!("model-0000{n}-of-00002.safetensors")), json!({"format": "pt"}));
    }
}

/// A record is that of the weight's own shard.
#[test]
fn each_shard_may_have_records_of_its_own() {
    let work = based_on("torchao_int8wo", 6, 40);
    let other = based_on("torchao_fp8wo", 6, 40);
    let [one, two] = [1, 2].map(|n| format!("model-0000{n}-of-00002.safetensors"));
    fs::rename(work.base.join("model.safetensors"), work.base.join(&one)).expect("renamed");
    fs::rename(other.base.join("model.safetensors"), work.base.join(&two)).expect("renamed");
    edit_header(&work.base.join(&two), |header| header.replace("q_proj", "k_proj"));
    let at = "model.layers.0.self_attn";
    let names = json!({
        format!("{at}.q_proj._weight_qdata"): one,
        format!("{at}.q_proj._weight_scale"): one,
        format!("{at}.q_proj._weight_zero_point"): one,
        format!("{at}.k_proj._weight_qdata"): two,
        format!("{at}.k_proj._weight_scale"): two,
    });
    let index = json!({"metadata": {}, "weight_map": names}).to_string();
    fs::write(work.base.join("model.safetensors.index.json"), index).expect("a small file");
    work.succeeds(&[]);
    let index = fs::read_to_string(work.output.join("model.safetensors.index.json")).expect("an index");
    let index: Value = serde_json::from_str(&index).expect("JSON");
    let expected = json!({format!("{at}.q_proj.weight"): one, format!("{at}.k_proj.weight"): two});
    assert_eq!(index["weight_map"], expected);
}

#[test]
fn records_of_what_is_kept_stay() {
    let work = based_on("torchao_int8wo", 6, 40);
    in_two_shards(&work);
    work.succeeds(&["--keep-quantized", "--accept-loss"]);
    for n in [1, 2] {
        let said = said(&work, &format!("model-0000{n}-of-00002.safetensors"));
        assert!(said["tensor_names"].is_string() && said[RECORDED].is_string(), "{said}");
    }
    fs::remove_dir_all(&work.output).expect("removed");
    let reduced = based_on("torchao_int8wo", 6, 40);
    edit_header(&reduced.base.join("model.safetensors"), |header| {
        with_metadata(&header, |all| {
            let record = all[RECORDED].as_str().expect("a record");
            all[RECORDED] = json!(record.replace("\"reduce_range\": false", "\"reduce_range\": true"));
        })
    });
    let says = ["torchao's codes of a reduced range (`reduce_range`) are not encoded again"];
    refused("codes of a reduced range", &reduced, &["--keep-quantized"], 65, &says);
    reduced.succeeds(&[]);
    // Another weight of the shard gets another type, so that its header is another.
    let config = json!({"peft_type": "LORA", "r": 1, "lora_alpha": 1, "target_modules": [], "modules_to_save": ["norm"]});
    work.adapt_by(&config, &[("base_model.model.model.norm.weight", &[2], vec![1.0, 2.0])]);
    work.succeeds(&["--keep-quantized"]);
    for n in [1, 2] {
        let said = said(&work, &format!("model-0000{n}-of-00002.safetensors"));
        assert!(said["tensor_names"].is_string() && said[RECORDED].is_string(), "{said}");
    }
}

/// What is done to a header.
type Damage = fn(String) -> String;

#[test]
fn records_that_are_not_read_are_said() {
    const SAYS: &str = "`model.layers.0.self_attn.q_proj.weight` is quantized";
    let cases: [(&str, Damage, &str); 11] = [
        (
            "another kind",
            |header| header.replace("Int8Tensor", "Int4Tensor"),
            "`_type` is `Int4Tensor`; `Int8Tensor` and `Float8Tensor` are read",
        ),
        (
            "a kind of another type",
            |header| header.replace("Int8Tensor", "Float8Tensor"),
            "_weight_qdata` has dtype I8, expected F8_E4M3",
        ),
        (
            "no record",
            |header| header.replace(&format!("\"{RECORDED}\":"), "\"x\":"),
            "the header of its file has no record of it that can be read",
        ),
        (
            "a record that is no JSON",
            |header| header.replace("{\\\"_type\\\"", "{\\\"_type"),
            "the header of its file has no record of it that can be read",
        ),
        (
            "a list in place of a kind",
            |header| header.replace("\\\"Int8Tensor\\\"", "[1]"),
            "the header of its file has no record of it that can be read",
        ),
        (
            "a block of nothing",
            |header| header.replace("[1, 40]", "[1, 0]"),
            "its record has no `block_size` of two numbers above 0",
        ),
        (
            "a block of three axes",
            |header| header.replace("[1, 40]", "[1, 1, 40]"),
            "its record has no `block_size` of two numbers above 0",
        ),
        (
            "a block of another size",
            |header| header.replace("[1, 40]", "[1, 20]"),
            "_weight_scale` has shape [6, 1], expected [6, 2] for blocks of 1 × 20",
        ),
        (
            "a block without end",
            |header| header.replace("[1, 40]", "[18446744073709551615, 40]"),
            "_weight_scale` has shape [6, 1], expected [1, 1] for blocks of 6 × 40",
        ),
        (
            "factors of its inputs",
            |header| {
                let mut entries: Value = serde_json::from_str(&header).expect("JSON");
                entries["model.layers.0.self_attn.q_proj._weight_act_pre_scale"] =
                    json!({"dtype": "F32", "shape": [0], "data_offsets": [270, 270]});
                entries.to_string()
            },
            "_weight_act_pre_scale` stands beside it too, which is of torchao",
        ),
        (
            "zero points of another type",
            |header| header.replace("\"dtype\":\"I8\",\"shape\":[6,1]", "\"dtype\":\"U8\",\"shape\":[6,1]"),
            "_weight_zero_point` has dtype U8, expected I8",
        ),
    ];
    for (what, damage, says) in cases {
        let work = based_on("torchao_int8wo", 6, 40);
        edit_header(&work.base.join("model.safetensors"), damage);
        refused(what, &work, &[], 65, &[SAYS, says]);
    }
}
