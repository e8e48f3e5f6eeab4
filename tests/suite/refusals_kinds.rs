//! What is refused of tied ends, vocabularies, tokens, experts, new norms and quantised bases.

use serde_json::json;

use super::refusals::{named, refused};
use super::support::f32s;
use super::work::{Work, edit, edit_json};

/// One thing that is wrong with a golden case: what, which case, how it gets there, and what the message must say.
pub(super) type Wrong = (&'static str, &'static str, fn(&Work), &'static [&'static str]);

pub(super) fn all_are_refused(wrongs: &[Wrong]) {
    for (what, case, damage, says) in wrongs {
        let work = Work::golden(case);
        damage(&work);
        refused(what, &work, &[], 65, says);
    }
}

pub(super) fn config(work: &Work, field: &str, value: serde_json::Value) {
    edit_json(&work.base.join("config.json"), |config| {
        config.insert(field.to_owned(), value);
    });
}

pub(super) fn single(work: &Work) -> std::path::PathBuf {
    work.base.join("model.safetensors")
}

#[test]
fn tied_ends_that_cannot_part() {
    all_are_refused(&[
        (
            "the forward pass reads the flag",
            "tied-head",
            |work| config(work, "model_type", json!("t5")),
            &[
                "`lm_head.weight` is tied",
                "scales the head's input only while it is tied",
                "hint: `--tied fold`",
            ],
        ),
        (
            "no name for the head",
            "tied-embedding",
            |work| config(work, "architectures", json!(["LlamaForMaskedLM"])),
            &["`model.embed_tokens.weight` is tied", "the name of a head of its own is not known"],
        ),
        (
            "two embeddings",
            "tied-head",
            |work| {
                edit(&single(work), |tensors| {
                    let mut second = named(tensors, "model.embed_tokens.weight").clone();
                    second.name = "encoder.embed_tokens.weight".into();
                    tensors.push(second);
                });
            },
            &["`lm_head.weight` is tied", "several embeddings may be the one"],
        ),
        (
            "an old GPT-2 without prefix",
            "tied-gpt2",
            |work| {
                edit(&single(work), |tensors| {
                    tensors
                        .iter_mut()
                        .for_each(|tensor| tensor.name = tensor.name.replace("transformer.", ""));
                });
                edit(&work.weights(), |tensors| {
                    tensors
                        .iter_mut()
                        .for_each(|tensor| tensor.name = tensor.name.replace("transformer.", ""));
                });
            },
            &["is tied", "does not load in transformers 4"],
        ),
    ]);
}

#[test]
fn ends_that_are_tied_by_one_adapter_and_parted_by_another() {
    let work = Work::golden("tied-ensured");
    let other = Work::golden("tied-head");
    let mut command = work.command(&["--adapter"]);
    command.arg(&other.adapter);
    let ran = super::support::ran(command.output().expect("the binary starts"));
    assert_eq!(ran.code, 65, "{}", ran.err);
    for text in ["as one and another unties them", "hint: merge these adapters one after the other"] {
        assert!(ran.err.contains(text), "no `{text}` in\n{}", ran.err);
    }
    assert!(!work.output.exists());
}

#[test]
fn vocabularies_and_tokens() {
    all_are_refused(&[
        (
            "only one end was resized",
            "vocabulary-grown",
            |work| edit(&work.weights(), |tensors| tensors.retain(|tensor| !tensor.name.contains("lm_head"))),
            &[
                "the vocabulary has 17 tokens in `lm_head.weight` and 25 in `model.embed_tokens.weight`",
                "hint: ",
            ],
        ),
        (
            "factors of a larger vocabulary without its rows",
            "vocabulary-lora",
            |work| {
                edit(&work.weights(), |tensors| tensors.retain(|tensor| !tensor.name.contains("base_layer")))
            },
            &[
                "delta for `model.embed_tokens.weight` has shape [25, 15], base tensor has [17, 15]",
                "save_embedding_layers=True",
            ],
        ),
        (
            "a layer that is no vocabulary has another size",
            "save-norm",
            |work| {
                edit(&work.weights(), |tensors| {
                    let norm =
                        tensors.iter_mut().find(|t| t.name.contains("input_layernorm")).expect("a norm");
                    norm.shape[0] += 1;
                    norm.data.extend(f32s([1.0]));
                });
            },
            &["replacement for `model.layers.0.input_layernorm.weight` has shape [16], base tensor has [15]"],
        ),
        (
            "a token beyond the vocabulary",
            "tokens-list",
            |work| work.configure("trainable_token_indices", json!([1, 2, 900, 3])),
            &["sets `trainable_token_indices` to `900`, which is no token of a vocabulary of 17", "hint: "],
        ),
        (
            "a token twice",
            "tokens-list",
            |work| work.configure("trainable_token_indices", json!([1, 2, 1, 3])),
            &["sets `trainable_token_indices` to `1`, which names the token twice"],
        ),
        (
            "as many rows as tokens",
            "tokens-list",
            |work| work.configure("trainable_token_indices", json!([1, 2])),
            &["expected [2, 15], a row for each of `trainable_token_indices`"],
        ),
        (
            "no list for the module",
            "tokens-dict",
            |work| work.configure("trainable_token_indices", json!({"wte": [1]})),
            &["is no list of tokens for `model.embed_tokens`"],
        ),
    ]);
    let work = Work::golden("tokens-list");
    let mut twice = work.command(&["--adapter"]);
    twice.arg(&work.adapter);
    let ran = super::support::ran(twice.output().expect("the binary starts"));
    assert_eq!(ran.code, 65);
    assert!(ran.err.contains("both replace row"), "{}", ran.err);
    let work = Work::golden("tokens-list");
    let mut half = super::support::command(&["merge"]);
    half.arg("--base").arg(&work.base).arg("--scaled-adapter").arg(&work.adapter).arg("0.5");
    let ran =
        super::support::ran(half.arg("--output").arg(&work.output).output().expect("the binary starts"));
    assert_eq!(ran.code, 65);
    assert!(
        ran.err.contains("cannot have weight 0.5: rows that replace others have no scale"),
        "{}",
        ran.err
    );
}

#[test]
fn magnitudes_without_dora_and_the_reverse() {
    all_are_refused(&[
        (
            "magnitudes, and `use_dora` is not set",
            "dora-f32",
            |work| work.configure("use_dora", json!(false)),
            &["lora_magnitude_vector", "`use_dora` is not set"],
        ),
        (
            "`use_dora` and no magnitudes",
            "llama-f32-single",
            |work| work.configure("use_dora", json!(true)),
            &["has no partner `model.layers.0.self_attn.q_proj.lora_magnitude_vector`"],
        ),
        (
            "`use_dora` and experts, which PEFT gives no magnitudes",
            "experts-bf16",
            |work| work.configure("use_dora", json!(true)),
            &["experts.lora_B.weight` has no partner `mlp.experts.lora_magnitude_vector`"],
        ),
        (
            "biases that `lora_bias` promises",
            "llama-f32-single",
            |work| work.configure("lora_bias", json!(true)),
            &["q_proj.lora_B.weight` has no partner `model.layers.0.self_attn.q_proj.lora_B.bias`"],
        ),
        (
            "a flag that is a text",
            "llama-f32-single",
            |work| work.configure("use_rslora", json!("false")),
            &["sets `use_rslora` to `false`, which is neither true nor false"],
        ),
        (
            "a magnitude of another length",
            "dora-f32",
            |work| {
                edit(&work.weights(), |tensors| {
                    let magnitude = tensors.iter_mut().find(|t| t.name.contains("magnitude")).expect("one");
                    magnitude.shape[0] += 1;
                    magnitude.data.extend(f32s([1.0]));
                });
            },
            &["one for every output"],
        ),
    ]);
    // A row of zeros has no direction: 0/0.
    let work = Work::golden("dora-f32");
    edit(&single(&work), |tensors| {
        tensors.iter_mut().filter(|t| t.name.contains("q_proj")).for_each(|t| t.data.fill(0));
    });
    edit(&work.weights(), |tensors| {
        tensors.iter_mut().filter(|t| t.name.contains("q_proj.lora_B")).for_each(|t| t.data.fill(0));
    });
    refused("a zero row", &work, &[], 65, &["q_proj.weight` gives a value that is not finite"]);
}

#[test]
fn experts_of_which_nothing_tells() {
    all_are_refused(&[
        (
            "made by Unsloth",
            "experts-bf16",
            |work| work.configure("base_model_name_or_path", json!("unsloth/Qwen3-30B-A3B")),
            &["order of experts in `lora_B` is ambiguous", "hint: pass `--expert-packing"],
        ),
        (
            "an order nobody knows",
            "experts-bf16",
            |work| work.configure("lora_B_layout", json!("zigzag")),
            &["sets `lora_B_layout` to `zigzag`, which is neither `rank_major` nor `grouped_by_expert`"],
        ),
        (
            "square, alone, transposed, and of a new PEFT",
            "experts-square-alone",
            |work| config(work, "model_type", json!("gpt_oss")),
            &["orientation of `lora_A` is ambiguous", "hint: pass `--expert-lora-a-axis"],
        ),
        (
            "one pair for two parameters",
            "experts-bf16",
            |work| {
                edit(&work.weights(), |tensors| tensors.retain(|tensor| !tensor.name.contains("base_layer")))
            },
            &["has 1 pairs of factors for 2 targeted parameters: gate_up_proj, down_proj"],
        ),
        (
            "factors that fit neither way",
            "experts-down-only",
            |work| {
                edit(&work.weights(), |tensors| {
                    let a = tensors.iter_mut().find(|t| t.name.contains("lora_A")).expect("one");
                    a.shape[1] += 1;
                    a.data.extend(f32s((0..a.shape[0]).map(|_| 1.0)));
                });
            },
            &["match `mlp.experts.down_proj` [3, ", "in neither orientation"],
        ),
        (
            "a rank that is not the config's",
            "experts-down-only",
            |work| work.configure("r", json!(5)),
            &["in the adapter's tensors, but 5 by its config"],
        ),
    ]);
    for (flag, value, case) in [
        ("--expert-packing", "rank-major", "experts-bf16"),
        ("--expert-lora-a-axis", "d2", "experts-square-alone"),
    ] {
        let work = Work::golden(case);
        work.configure("base_model_name_or_path", json!("unsloth/Qwen3-30B-A3B"));
        let flags = [flag, value, "--expert-packing", "rank-major"];
        work.succeeds(if flag == "--expert-packing" { &flags[..2] } else { &flags });
        let card = std::fs::read_to_string(work.output.join("README.md")).expect("a card");
        let told = format!("is read as `{value}` where the adapter does not say (as asked)");
        assert!(card.contains(&told), "{flag}: {card}");
    }
}

#[test]
fn quantised_bases() {
    const CODES: &str = "model.layers.0.self_attn.q_proj.weight";
    all_are_refused(&[
        (
            "scales of another shape",
            "fp8",
            |work| {
                edit(&single(work), |tensors| {
                    let scale = named(tensors, &format!("{CODES}_scale_inv"));
                    scale.shape[0] += 1;
                    scale.data.extend(f32s((0..scale.shape[1]).map(|_| 1.0)));
                });
            },
            &["`model.layers.0.self_attn.q_proj.weight` is quantized", "expected [", "for blocks of"],
        ),
        (
            "no config of it",
            "fp8",
            |work| {
                edit_json(&work.base.join("config.json"), |config| {
                    config.shift_remove("quantization_config");
                });
            },
            &[
                "`model.layers.0.self_attn.q_proj.weight` is quantized",
                "config.json has no `quantization_config`",
            ],
        ),
        (
            "another method",
            "fp8",
            |work| config(work, "quantization_config", json!({"quant_method": "gptq"})),
            &["is stored as block FP8", "`quant_method` is `gptq`, not `fp8`"],
        ),
        (
            "blocks of no size",
            "fp8",
            |work| {
                config(
                    work,
                    "quantization_config",
                    json!({"quant_method": "fp8", "weight_block_size": [0, 8]}),
                )
            },
            &["`weight_block_size` is no pair of sizes"],
        ),
        (
            "codes without scales",
            "fp8",
            |work| {
                edit(&single(work), |tensors| tensors.retain(|t| t.name != format!("{CODES}_scale_inv")));
            },
            &["`model.layers.0.self_attn.q_proj.weight` is quantized"],
        ),
        (
            "a code that is no number",
            "fp8",
            |work| edit(&single(work), |tensors| named(tensors, CODES).data[3] = 0x7f),
            &[
                "the data or the scales of `model.layers.0.self_attn.q_proj.weight` hold a value that is not finite",
            ],
        ),
    ]);
    // Nothing adapts it, and it is decoded all the same.
    let work = Work::golden("fp8");
    edit(&single(&work), |tensors| {
        let other = tensors.iter().position(|t| t.dtype == "F8_E4M3" && !t.name.contains("q_proj"));
        let name = tensors[other.expect("another quantised tensor")].name.clone();
        tensors.retain(|tensor| tensor.name != format!("{name}_scale_inv"));
    });
    refused("untouched codes without scales", &work, &[], 65, &["is quantized: it has no `"]);
}

#[test]
fn a_kept_quantised_base_takes_no_replacement() {
    let work = Work::golden("fp8-kept");
    edit(&work.weights(), |tensors| {
        let (out, input) = (tensors[1].shape[0], tensors[0].shape[1]);
        let mut value = tensors[0].clone();
        value.name = value.name.replace(".lora_A", "");
        value.shape = vec![out, input];
        value.dtype = "F32".into();
        value.data = f32s((0..out * input).map(|_| 1.0));
        tensors.push(value);
    });
    let says =
        ["a value that replaces it has no scales to be encoded with", "hint: without `--keep-quantized`"];
    refused("a replacement", &work, &["--keep-quantized"], 65, &says);
}

#[test]
fn an_embedding_saved_whole_parts_the_tie() {
    // PEFT's own merge would change the head too, or lose the embedding on reload.
    let work = Work::golden("tied-save-embedding");
    let ran = work.succeeds(&[]);
    assert!(ran.err.is_empty() || !ran.err.contains("error"), "{}", ran.err);
    let config = std::fs::read_to_string(work.output.join("config.json")).expect("a config");
    assert!(config.contains("\"tie_word_embeddings\": false"), "{config}");
    let card = std::fs::read_to_string(work.output.join("README.md")).expect("a card");
    assert!(card.contains("`lm_head.weight` has a tensor of its own"), "{card}");
}
