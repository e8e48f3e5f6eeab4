//! Adapters that change nothing (key-mapping.md 12, items 8 and 9): an error that says why, unless `--allow-noop`.

use std::fs;

use serde_json::{Value, json};
use shardfold::testing::Dtype;

use super::refusals::refused;
use super::support::{contents, f32s, write_safetensors};
use super::work::{MODULE, Work, edit};

const ZERO: &str = "a factor is all zero (untrained adapter?)";

/// A base of one F32 matrix [4, 4] of ones, and this adapter on it: tensors by what follows the module, all of one value.
fn on_ones(config: &Value, tensors: &[(&str, &[u64], f32)]) -> Work {
    let work = Work::tiny(Dtype::F32, 1.0);
    let keys: Vec<String> = tensors.iter().map(|(tail, _, _)| format!("{MODULE}{tail}")).collect();
    let values = |shape: &[u64], value: f32| vec![value; shape.iter().product::<u64>() as usize];
    let tensors: Vec<(&str, &[u64], Vec<f32>)> = keys
        .iter()
        .zip(tensors)
        .map(|(key, (_, shape, value))| (key.as_str(), *shape, values(shape, *value)))
        .collect();
    work.adapt_by(config, &tensors);
    work
}

/// Refused for that reason; with the flag merged, told and recorded, and the weights are the base's.
fn is_idle(what: &str, work: &Work, why: &str) {
    let says = ["adapter `adapter` has no effect: ", why, "hint: pass `--allow-noop` to merge it anyway"];
    refused(what, work, &[], 65, &says);
    let ran = work.succeeds(&["--allow-noop"]);
    let told = "`adapter` has no effect, allowed by `--allow-noop`: ";
    assert!(ran.err.contains(told) && ran.err.contains(why), "{what}: {}", ran.err);
    let output = contents(&work.output);
    for file in ["README.md", "shardfold.json"] {
        assert!(String::from_utf8_lossy(&output[file]).contains(told), "{what}: {file}");
    }
    assert!(
        output["model.safetensors"] == contents(&work.base)["model.safetensors"],
        "{what}: a weight changed"
    );
}

#[test]
fn every_method_knows_its_own() {
    let lora = json!({"peft_type": "LORA", "r": 2, "lora_alpha": 2});
    let ia3 = json!({"peft_type": "IA3", "feedforward_modules": []});
    let loha = json!({"peft_type": "LOHA", "r": 2, "alpha": 2});
    let lokr = json!({"peft_type": "LOKR", "r": 2, "alpha": 2});
    let hira = json!({"peft_type": "HIRA", "r": 2});
    let oft = json!({"peft_type": "OFT", "r": 0, "oft_block_size": 2});
    let tokens = json!({"peft_type": "TRAINABLE_TOKENS", "token_indices": [1, 3]});
    let with = |config: &Value, field: &str, value: Value| {
        let mut config = config.clone();
        config[field] = value;
        config
    };
    type Case<'c> = (&'c str, Value, &'c [(&'c str, &'c [u64], f32)], Option<&'c str>);
    let a: (&'static str, &'static [u64], f32) = (".lora_A.weight", &[2, 4], 1.0);
    let b: (&'static str, &'static [u64], f32) = (".lora_B.weight", &[4, 2], 1.0);
    let zeros = |(tail, shape, _): (&'static str, &'static [u64], f32)| (tail, shape, 0.0);
    let magnitude = |value: f32| (".lora_magnitude_vector", &[4u64][..], value);
    let hada = |last: f32| {
        [
            (".hada_w1_a", &[4u64, 2][..], 1.0),
            (".hada_w1_b", &[2, 4], 1.0),
            (".hada_w2_a", &[4, 2], 1.0),
            (".hada_w2_b", &[2, 4], last),
        ]
    };
    let kron = |second: f32| [(".lokr_w1", &[2u64, 2][..], 1.0), (".lokr_w2", &[2, 2], second)];
    let share = |second: f32| [(".hira_A", &[2u64, 4][..], 1.0), (".hira_B", &[4, 2], second)];
    let cases: &[Case<'_>] = &[
        ("LoRA", lora.clone(), &[a, b], None),
        ("LoRA, B", lora.clone(), &[a, zeros(b)], Some(ZERO)),
        ("LoRA, A", lora.clone(), &[zeros(a), b], Some(ZERO)),
        ("LoRA, alpha", with(&lora, "lora_alpha", json!(0)), &[a, b], Some("its scale is 0")),
        // A new length for every output is a change without a delta; the lengths that the rows have are none.
        ("DoRA", with(&lora, "use_dora", json!(true)), &[a, zeros(b), magnitude(3.0)], None),
        ("IA3", ia3.clone(), &[(".ia3_l", &[4, 1], 0.0)], None),
        ("IA3, ones", ia3, &[(".ia3_l", &[4, 1], 1.0)], Some("its vector is all ones (untrained adapter?)")),
        ("LoHa", loha.clone(), &hada(1.0), None),
        ("LoHa, one factor", loha, &hada(0.0), Some(ZERO)),
        ("LoKr", lokr.clone(), &kron(1.0), None),
        ("LoKr, one factor", lokr, &kron(0.0), Some(ZERO)),
        // Rows are values, zeros too.
        ("tokens", tokens, &[(".trainable_tokens_delta", &[2, 4], 0.0)], None),
        ("HiRA", hira.clone(), &share(1.0), None),
        ("HiRA, B", hira, &share(0.0), Some(ZERO)),
        ("OFT", oft.clone(), &[(".oft_R.weight", &[2, 1], 0.5)], None),
        ("OFT, no rotation", oft, &[(".oft_R.weight", &[2, 1], 0.0)], Some(ZERO)),
    ];
    for (what, config, tensors, idle) in cases {
        let work = on_ones(config, tensors);
        match idle {
            Some(why) => is_idle(what, &work, why),
            None => drop(work.succeeds(&[])),
        }
    }
}

#[test]
fn what_only_the_run_shows() {
    // Rows of four ones have the length 2.
    let dora = json!({"peft_type": "LORA", "r": 2, "lora_alpha": 2, "use_dora": true});
    let tensors: [(&str, &[u64], f32); 3] = [
        (".lora_A.weight", &[2, 4], 1.0),
        (".lora_B.weight", &[4, 2], 0.0),
        (".lora_magnitude_vector", &[4], 2.0),
    ];
    let rows = json!({"peft_type": "TRAINABLE_TOKENS", "token_indices": [1, 3]});
    let same: [(&str, &[u64], f32); 1] = [(".trainable_tokens_delta", &[2, 4], 1.0)];
    for (what, work) in [
        ("lengths that the rows have", on_ones(&dora, &tensors)),
        ("rows that the base has", on_ones(&rows, &same)),
        ("too small for BF16", Work::tiny(Dtype::BF16, 1e-5)),
    ] {
        let says = ["has no effect: its deltas are too small", "or nothing at all", "`--allow-noop`"];
        refused(what, &work, &[], 65, &says);
        work.succeeds(&["--allow-noop"]);
        let (base, output) = (contents(&work.base), contents(&work.output));
        assert!(output["model.safetensors"] == base["model.safetensors"], "{what}");
    }
}

#[test]
fn parameters_of_experts() {
    let stack = "model.layers.0.mlp.experts";
    let base = [("gate_up_proj", [3, 8, 6]), ("down_proj", [3, 6, 4])];
    let base = base.map(|(name, shape)| (format!("{stack}.{name}"), shape));
    let ones = |shape: &[u64]| vec![1.0; shape.iter().product::<u64>() as usize];
    let tensors: Vec<(&str, &[u64], Vec<f32>)> =
        base.iter().map(|(name, shape)| (name.as_str(), &shape[..], ones(shape))).collect();
    let work = Work::tiny(Dtype::F32, 1.0);
    work.rebase(&tensors);
    let config =
        json!({"architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "hidden_size": 6});
    fs::write(work.base.join("config.json"), config.to_string()).expect("a small file");
    let fields =
        json!({"peft_type": "LORA", "r": 2, "lora_alpha": 2, "target_parameters": ["experts.gate_up_proj"]});
    let keys = ["lora_A", "lora_B"].map(|role| format!("{stack}.{role}.weight"));
    work.adapt_by(&fields, &[(&keys[0], &[6, 6], ones(&[36])), (&keys[1], &[8, 6], vec![0.0; 48])]);
    is_idle("experts", &work, ZERO);
}

#[test]
fn a_weight_of_nothing() {
    let work = Work::tiny(Dtype::F32, 1.0);
    let ran = work.merge_scaled("0");
    assert_eq!(ran.code, 65);
    assert!(ran.err.contains("`adapter` has no effect: its weight is 0"), "{}", ran.err);
    assert!(!work.output.exists());
}

#[test]
fn a_part_is_told_and_all_of_one_adapter_is_refused() {
    let work = Work::demo();
    let zero = |work: &Work, is_one: fn(&str) -> bool| {
        edit(&work.weights(), |tensors| {
            tensors.iter_mut().filter(|t| is_one(&t.name)).for_each(|t| t.data.fill(0));
        });
    };
    zero(&work, |name| name.contains("layers.1") && name.contains("_proj.lora_B"));
    let ran = work.succeeds(&[]);
    let told = "7 of 28 deltas of `adapter` are zero, such as that of `model.layers.1.mlp.down_proj`: a factor is all zero";
    assert!(ran.err.contains(told), "{}", ran.err);
    // Beside another that does something.
    let work = Work::demo();
    let second = work.folder.path().join("second");
    super::support::copy_folder(&work.adapter, &second);
    zero(&work, |name| name.contains("lora_B"));
    let flags = ["--adapter", second.to_str().expect("a path")];
    refused("one of two", &work, &flags, 65, &["adapter `adapter` has no effect: every delta is zero", ZERO]);
    let ran = work.succeeds(&[&flags[..], &["--allow-noop"]].concat());
    assert!(ran.err.contains("`adapter` has no effect") && !ran.err.contains("`second` has"), "{}", ran.err);
}

#[test]
fn values_put_in_place_of_the_same() {
    let both = |delta: f32, norm: f32| -> Work {
        let work = Work::tiny(Dtype::BF16, delta);
        let (weight, one) = (format!("{MODULE}.weight"), [0x80u8, 0x3f]);
        write_safetensors(
            &work.base.join("model.safetensors"),
            &[
                (&weight, Dtype::BF16, &[4, 4], one.repeat(16)),
                ("model.norm.weight", Dtype::BF16, &[4], one.repeat(4)),
            ],
        );
        edit(&work.weights(), |tensors| {
            let mut saved = tensors[0].clone();
            saved.name = "base_model.model.model.norm.weight".to_owned();
            (saved.shape, saved.data) = (vec![4], f32s([1.0, 1.0, 1.0, norm]));
            tensors.push(saved);
        });
        work
    };
    // As F32, the values are the base's own.
    is_idle("beside a delta of zero", &both(0.0, 1.0), ZERO);
    let work = both(0.0, 1.0);
    edit(&work.weights(), |tensors| tensors.retain(|tensor| tensor.name.contains("norm")));
    work.configure("target_modules", json!(null));
    is_idle("alone", &work, "the base has the same values already");
    let work = both(0.0, 1.5);
    let ran = work.succeeds(&[]);
    assert!(ran.err.contains("1 of 1 deltas of `adapter` is zero"), "{}", ran.err);
    both(1.0, 1.0).succeeds(&[]);
}

#[test]
fn what_is_placed_nowhere_is_no_choice() {
    let work = Work::tiny(Dtype::F32, 1.0);
    edit(&work.weights(), |tensors| {
        tensors.retain(|tensor| tensor.name.contains("lora_A"));
        tensors[0].name = "base_model.model.score.original_module.weight".into();
    });
    work.configure("target_modules", json!(null));
    refused(
        "all is ignored",
        &work,
        &["--allow-noop"],
        65,
        &["has no effect: none of its tensors has a place in the base"],
    );
}
