//! States of PEFT models that lie beside what else a trainer saves: what is taken, and what is refused.

use std::fs;

use super::support::{copy_folder, fixtures};
use super::trainers::{refused_with as refused, work};
use super::work::{Work, edit};

/// A case whose base has another value in one tensor.
fn with_other(case: &str, name: &str) -> Work {
    let work = work(case);
    edit(&work.base.join("model.safetensors"), |tensors| {
        let tensor = tensors.iter_mut().find(|tensor| tensor.name == name).expect("a tensor of the base");
        tensor.data[..4].copy_from_slice(&9.5f32.to_le_bytes());
    });
    work
}

#[test]
fn a_copy_of_another_base_is_no_replacement() {
    let says = "1 tensor of the adapter is a copy of the base that training left as they were, and hold other values";
    for name in [
        "model.layers.0.self_attn.q_proj.weight",
        "model.norm.weight",
        "model.embed_tokens.weight",
        "lm_head.weight",
    ] {
        refused(&with_other("raw-state-dict", name), &[says, "the base that it was trained on"]);
    }
    // What the config says was trained stands in place of whatever the base has, and its frozen copy means nothing.
    let trained = with_other("raw-state-dict-head", "lm_head.weight");
    let ran = trained.succeeds(&[]);
    assert!(ran.err.contains("the base has the same values"), "{}", ran.err);
    // A file of factors alone may hold values that no config names, as some producers write norms.
    let lone = with_other("raw-shards", "model.norm.weight");
    lone.succeeds(&[]);
}

#[test]
fn of_files_under_other_names_one_is_taken_and_several_are_refused() {
    let wrapped = work("raw-compiled");
    let ran = wrapped.succeeds(&[]);
    assert!(ran.err.contains("took `_orig_mod.` off 4 keys"), "{}", ran.err);
    let first = fs::read(wrapped.output.join("model.safetensors")).expect("a result");
    fs::remove_dir_all(&wrapped.output).expect("a result");
    // The file given instead of its directory.
    let file = Work { adapter: wrapped.adapter.join("pytorch_model.bin"), ..wrapped };
    file.succeeds(&[]);
    assert!(fs::read(file.output.join("model.safetensors")).expect("a result") == first);
    let two = work("raw-deepspeed");
    fs::copy(two.adapter.join("mp_rank_00_model_states.pt"), two.adapter.join("other.pt")).expect("a copy");
    refused(
        &two,
        &["of several any may be meant (`mp_rank_00_model_states.pt`, `other.pt`)", "a directory of its own"],
    );
    // A model beside a config is no adapter.
    let model = work("raw-before-zips");
    fs::remove_file(model.adapter.join("pytorch_model.bin")).expect("it was there");
    refused(&model, &["the adapter is not whole"]);
    fs::copy(model.base.join("model.safetensors"), model.adapter.join("model.safetensors")).expect("a copy");
    refused(&model, &["the adapter is not whole"]);
    // Of PEFT's own names the newest counts, whatever lies beside it.
    let own = work("raw-before-zips");
    copy_folder(&fixtures().join("trainers/raw-trainer-checkpoint/adapter"), &own.adapter);
    refused(&own, &["weights beside it that are not merged: `pytorch_model.bin`"]);
}

#[test]
fn of_the_saves_of_a_training_the_newest_is_named() {
    let work = work("raw-trainer-checkpoint");
    let run = work.folder.path().join("run");
    for step in ["checkpoint-90", "checkpoint-500", "checkpoint-1000"] {
        copy_folder(&work.adapter, &run.join(step));
    }
    let parent = Work { adapter: run, ..work };
    refused(
        &parent,
        &["it holds several adapters", "the newest of a training by `--adapter ", "/run/checkpoint-1000`"],
    );
    let last = Work { adapter: parent.adapter.join("checkpoint-1000"), ..parent };
    last.succeeds(&[]);
}
