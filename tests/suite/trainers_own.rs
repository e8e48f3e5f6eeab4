//! Adapters of trainers with models of their own: what their files do not say, and bases that they have no model of.

use std::fs;

use serde_json::{Value, json};

use super::oracle::read;
use super::support::fixtures;
use super::trainers::{refused_with as refused, work};
use super::work::{Work, edit, edit_json};

fn base_says(work: &Work, field: &str, value: Value) {
    edit_json(&work.base.join("config.json"), |fields| {
        fields.insert(field.to_owned(), value);
    });
}

/// Whether a merge gives what the golden case has.
fn is_right(work: &Work, case: &str) -> bool {
    work.succeeds(&[]);
    let ours = read(&work.output, "model");
    let right = read(&fixtures().join("trainers").join(case).join("merged"), "model");
    right.iter().all(|(name, tensor)| tensor.raw == ours[name].raw)
}

#[test]
fn what_torchtune_is_multiplied_by_is_never_guessed() {
    for (case, says) in [
        ("torchtune-qwen2", "lora_alpha"),
        ("torchtune-phi3", "`lora_rank` and the `lora_alpha` of the recipe"),
    ] {
        let bare = work(case);
        fs::remove_file(bare.adapter.join("adapter_config.json")).expect("it was there");
        refused(&bare, &["adapter_config.json", says]);
    }
    for (field, value, says) in [
        ("lora_alpha", Value::Null, "sets `lora_alpha` to `null`, which is no number"),
        ("r", Value::Null, "sets `r` to `null`, which is no number"),
        ("lora_alpha", json!("x"), "sets `lora_alpha` to `x`"),
        ("r", json!(3), "has rank 2 in the adapter's tensors, but 3 by its config"),
        (
            "use_new_thing",
            json!(true),
            "sets `use_new_thing` to `true`, which is a field shardfold does not know",
        ),
        ("target_modules", json!(["q_proj", "gate_proj"]), "the adapter has no tensor for that entry"),
    ] {
        let work = work("torchtune-llama3");
        work.configure(field, value);
        refused(&work, &[says]);
    }
}

#[test]
fn the_order_of_rows_is_known_by_the_base() {
    for (field, value, says) in [
        (
            "model_type",
            json!("olmo2"),
            &[
                "has the names of torchtune's own models, which are not read for the model type `olmo2`",
                "llama, mistral, gemma",
            ][..],
        ),
        (
            "num_attention_heads",
            json!(3),
            &["which are in the order of interleaved rotary positions, and the base has 3 heads"],
        ),
        ("num_attention_heads", Value::Null, &["the base has 0 heads"]),
    ] {
        let work = work("torchtune-llama3");
        base_says(&work, field, value);
        if field == "model_type" {
            base_says(&work, "architectures", Value::Null);
        }
        refused(&work, says);
    }
    let of_mistral = work("mistral-lora");
    base_says(&of_mistral, "model_type", json!("qwen2"));
    base_says(&of_mistral, "architectures", Value::Null);
    refused(
        &of_mistral,
        &["has the names of mistral-finetune's own models, which are not read for the model type `qwen2`"],
    );
    // It says itself how many heads it was trained with.
    let other = work("mistral-lora");
    base_says(&other, "num_attention_heads", json!(4));
    refused(&other, &["and the base has 4 heads"]);
}

#[test]
fn of_an_epoch_torchtunes_own_file_counts() {
    // The export of this one is wrong for the base, and says so.
    let whole = work("torchtune-qwen2");
    assert!(is_right(&whole, "torchtune-qwen2"));
    let cut = work("torchtune-qwen2");
    let own = cut.adapter.join("adapter_model.pt");
    let bytes = fs::read(&own).expect("a file");
    fs::write(&own, &bytes[..bytes.len() / 2]).expect("written");
    refused(&cut, &["torchtune exported adapter `adapter` with the rows of", "get it whole"]);
    let dora = work("torchtune-llama3-dora");
    fs::remove_file(dora.adapter.join("adapter_model.pt")).expect("it was there");
    refused(&dora, &["`use_dora` is not set in adapter_config.json"]);
    // Of several epochs the user says which.
    let case = "torchtune-llama3-numbered";
    let several = work(case);
    fs::copy(several.adapter.join("adapter_1.pt"), several.adapter.join("adapter_0.pt")).expect("a copy");
    refused(&several, &["it holds the adapters of several epochs", "adapter_1.pt`"]);
    let one = Work { adapter: several.adapter.join("adapter_0.pt"), ..several };
    assert!(is_right(&one, case));
}

#[test]
fn stacks_of_experts_of_torchtune_are_refused_by_name() {
    let work = work("mistral-lora");
    fs::rename(work.adapter.join("lora.safetensors"), work.adapter.join("tune.safetensors"))
        .expect("renamed");
    fs::write(work.adapter.join("adapter_config.json"), r#"{"r": 2, "lora_alpha": 4}"#).expect("written");
    edit(&work.adapter.join("tune.safetensors"), |tensors| {
        tensors.truncate(1);
        tensors[0].name = "decoder.layers.0.mlp.experts.lora_gate_a".to_owned();
    });
    refused(
        &work,
        &["has torchtune's factors of a stack of experts, as `decoder.layers.0.mlp.experts.lora_gate_a`"],
    );
}

#[test]
fn what_mistral_finetune_does_not_say_is_refused() {
    let bare = work("mistral-lora");
    fs::remove_file(bare.adapter.join("params.json")).expect("it was there");
    refused(&bare, &["params.json", "what its deltas are multiplied by"]);
    for (lora, says) in [
        (json!(null), "sets `lora` to `null`, which is no object"),
        (json!({"rank": 2}), "sets `lora.scaling` to `null`, which is no number"),
        (json!({"rank": 0, "scaling": 2.0}), "sets `lora.rank` to `0`"),
        (json!({"rank": 3, "scaling": 2.0}), "has rank 2 in the adapter's tensors, but 3 by its config"),
        (
            json!({"rank": 2, "scaling": 2.0, "alpha": 1}),
            "which holds `alpha`, a field shardfold does not know",
        ),
    ] {
        let work = work("mistral-lora");
        edit_json(&work.adapter.join("params.json"), |fields| {
            fields.insert("lora".to_owned(), lora);
        });
        refused(&work, &[says]);
    }
    let half = work("mistral-lora");
    edit(&half.adapter.join("lora.safetensors"), |tensors| {
        tensors.retain(|tensor| tensor.name != "layers.0.attention.wk.lora_B.weight");
    });
    refused(&half, &["adapter tensor `layers.0.attention.wk.lora_A.weight` has no partner"]);
    let other = work("mistral-lora");
    edit(&other.adapter.join("lora.safetensors"), |tensors| {
        tensors
            .iter_mut()
            .for_each(|tensor| tensor.name = tensor.name.replace("attention.wk", "attention.wx"));
    });
    refused(&other, &["layers.0.attention.wx.lora_A.weight"]);
    let file = work("mistral-lora");
    let file = Work { adapter: file.adapter.join("lora.safetensors"), ..file };
    assert!(is_right(&file, "mistral-lora"));
}
