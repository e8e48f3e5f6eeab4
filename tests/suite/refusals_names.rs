//! Every line of what must be an error (key-mapping.md 12): a name that leads nowhere or to two places, experts that do not
//! add up, and what must not be passed over in silence. Where a line is tested elsewhere:
//!
//! | line | what | tests |
//! | --- | --- | --- |
//! | 1 | no base tensor, or several | here; `refusals::adapter_tensors_that_do_not_fit` |
//! | 2 | half pairs, magnitudes | `refusals::adapter_tensors_that_do_not_fit`, `refusals_kinds::magnitudes_without_dora_and_the_reverse` |
//! | 3 | shapes; ranges that overlap or do not add up | `refusals::adapter_tensors_that_do_not_fit`, `refusals_kinds::experts_of_which_nothing_tells`; here |
//! | 4 | numbers of experts | here |
//! | 5 | packing, orientation | `refusals_kinds::experts_of_which_nothing_tells`, `layouts::square_parameters` |
//! | 6 | quantised targets | `refusals_kinds::quantised_bases`, `refusals::a_base_that_is_not_plain_numbers` |
//! | 7 | config fields | `refusals::adapter_configs_that_are_not_merged`, `refusals_lora::variants_that_no_merge_can_hold_are_refused_with_what_helps` |
//! | 8 | targets without tensors; zeros | `targets`, `noop`, `refusals::adapter_tensors_that_do_not_fit` |
//! | 9 | nothing placed or changed | `noop`, `refusals::adapters_that_would_change_nothing`; here |
//! | 10 | values that are not finite | `refusals::numbers_that_are_not_finite` |
//! | 11 | more than the type holds | `refusals::numbers_that_are_not_finite` |
//! | 12 | another base: said by name, refused by shape | here; `refusals::adapter_tensors_that_do_not_fit` |
//! | 13 | changed bases | `refusals_lora::initialisations_that_change_the_base` |
//!
//! What may be left aside is in `produced::tensors_that_no_merge_needs`.

use std::fs;

use serde_json::{Value, json};
use shardfold::testing::Dtype;

use super::refusals::refused;
use super::support::contents;
use super::work::{Work, edit};

/// Tensors of a base or of an adapter: names and shapes; all values are 1.
type Shapes<'t> = &'t [(&'t str, &'t [u64])];

/// A base and an adapter of these tensors.
pub(super) fn with<'t>(config: &Value, base: Shapes<'t>, fields: &Value, adapter: Shapes<'t>) -> Work {
    let work = Work::tiny(Dtype::F32, 1.0);
    let ones = |shapes: Shapes<'t>| -> Vec<(&'t str, &'t [u64], Vec<f32>)> {
        let one = |&(name, shape): &(&'t str, &'t [u64])| {
            (name, shape, vec![1.0; shape.iter().product::<u64>() as usize])
        };
        shapes.iter().map(one).collect()
    };
    work.rebase(&ones(base));
    fs::write(work.base.join("config.json"), config.to_string()).expect("a small file");
    let mut all = json!({"peft_type": "LORA", "r": 2, "lora_alpha": 2});
    all.as_object_mut().expect("an object").extend(fields.as_object().expect("an object").clone());
    work.adapt_by(&all, &ones(adapter));
    work
}

pub(super) fn llama() -> Value {
    json!({"architectures": ["LlamaForCausalLM"], "model_type": "llama"})
}

pub(super) fn qwen(experts: u64) -> Value {
    json!({
        "architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "hidden_size": 6, "num_experts": experts,
    })
}

#[test]
fn names_that_lead_nowhere() {
    let work = with(
        &llama(),
        &[
            ("model.layers.0.self_attn.q_proj.weight", &[4, 4]),
            ("model.layers.0.mlp.up_proj.weight", &[4, 4]),
        ],
        &json!({}),
        &[
            ("model.layers.0.self_attn.q_prj.lora_A.weight", &[2, 4]),
            ("model.layers.0.self_attn.q_prj.lora_B.weight", &[4, 2]),
        ],
    );
    let says = [
        "2 adapter tensors match no base tensor: `base_model.model.model.layers.0.self_attn.q_prj.lora_A.weight` and 1 more",
        "hint: tried `model.layers.0.self_attn.q_prj.weight`; the base has `model.layers.0.self_attn.q_proj.weight`",
    ];
    refused("misspelt", &work, &[], 65, &says);
    // `layers.1` is not `layers.11`, nor a layer behind the last.
    let work = Work::tiny(Dtype::F32, 1.0);
    edit(&work.weights(), |tensors| {
        tensors.iter_mut().for_each(|tensor| tensor.name = tensor.name.replace("layers.0", "layers.00"));
    });
    refused("another number", &work, &[], 65, &["match no base tensor", "layers.00."]);
}

#[test]
fn names_that_lead_to_two_places() {
    let (with_prefix, bare) = ("model.layers.0.self_attn.q_proj", "layers.0.self_attn.q_proj");
    let keys = [format!("{bare}.lora_A.weight"), format!("{bare}.lora_B.weight")];
    let adapter: [(&str, &[u64]); 2] = [(&keys[0], &[2, 4]), (&keys[1], &[4, 2])];
    let base = [format!("{with_prefix}.weight"), format!("{bare}.weight")];
    let work = with(&llama(), &[(&base[0], &[4, 4]), (&base[1], &[4, 4])], &json!({}), &adapter);
    let says = [
        "`layers.0.self_attn.q_proj` is ambiguous: it resolves to `layers.0.self_attn.q_proj.weight` (against the names on \
         disk) and to `model.layers.0.self_attn.q_proj.weight` (by prepending `model.`, against the names on disk)",
    ];
    refused("two readings", &work, &[], 65, &says);
}

#[test]
fn two_tensors_for_one_place() {
    let work = Work::tiny(Dtype::F32, 1.0);
    edit(&work.weights(), |tensors| {
        let again = tensors.clone().into_iter().map(|mut tensor| {
            tensor.name = format!("module.{}", tensor.name);
            tensor
        });
        tensors.extend(again.collect::<Vec<_>>());
    });
    refused(
        "one path twice",
        &work,
        &[],
        65,
        &["adapter `adapter` holds `", "` twice, as `base_model", "and as `module."],
    );
    // One expert's gate in two spellings.
    let stack = "model.layers.0.block_sparse_moe.experts.0";
    let keys: Vec<String> = ["w1", "gate_proj"]
        .iter()
        .flat_map(|name| ["lora_A", "lora_B"].map(|role| format!("{stack}.{name}.{role}.weight")))
        .collect();
    let adapter: [(&str, &[u64]); 4] =
        [(&keys[0], &[2, 6]), (&keys[1], &[4, 2]), (&keys[2], &[2, 6]), (&keys[3], &[4, 2])];
    let weights = ["w1", "w3", "w2"].map(|name| format!("{stack}.{name}.weight"));
    let base: [(&str, &[u64]); 3] = [(&weights[0], &[4, 6]), (&weights[1], &[4, 6]), (&weights[2], &[6, 4])];
    let mixtral = json!({"architectures": ["MixtralForCausalLM"], "model_type": "mixtral"});
    let work = with(&mixtral, &base, &json!({}), &adapter);
    let says =
        ["gate_proj.lora_A.weight` and `", "w1.lora_A.weight` both change the same values of `", &weights[0]];
    refused("two spellings", &work, &[], 65, &says);
    // An expert of its own inside of what a wrapper changes: in every second column, and in another column.
    for (role, is_met) in [("up_proj", true), ("down_proj", false)] {
        let stack = "model.layers.0.mlp.experts";
        let single = ["lora_A", "lora_B"].map(|factor| format!("{stack}.1.{role}.{factor}.weight"));
        let joined = ["lora_A", "lora_B"].map(|factor| format!("{stack}.{factor}.weight"));
        let (out, input) = if is_met { (4, 6) } else { (6, 4) };
        let adapter: [(&str, &[u64]); 4] = [
            (&single[0], &[2, input]),
            (&single[1], &[out, 2]),
            (&joined[0], &[6, 6]),
            (&joined[1], &[8, 6]),
        ];
        let names = ["gate_up_proj", "down_proj"].map(|name| format!("{stack}.{name}"));
        let base: [(&str, &[u64]); 2] = [(&names[0], &[3, 6, 8]), (&names[1], &[3, 4, 6])];
        let config =
            json!({"architectures": ["GptOssForCausalLM"], "model_type": "gpt_oss", "hidden_size": 6});
        let work = with(&config, &base, &json!({"target_parameters": ["experts.gate_up_proj"]}), &adapter);
        match is_met {
            true => refused("inside", &work, &[], 65, &["both change the same values of `", &names[0]]),
            false => drop(work.succeeds(&[])),
        }
    }
}

#[test]
fn rows_that_do_not_add_up() {
    let config = json!({
        "architectures": ["Phi3ForCausalLM"], "model_type": "phi3", "hidden_size": 8, "num_attention_heads": 4,
        "num_key_value_heads": 2, "intermediate_size": 6,
    });
    let q = "model.layers.0.self_attn.q_proj";
    let keys = [format!("{q}.lora_A.weight"), format!("{q}.lora_B.weight")];
    let adapter: [(&str, &[u64]); 2] = [(&keys[0], &[2, 8]), (&keys[1], &[8, 2])];
    let joined = "model.layers.0.self_attn.qkv_proj.weight";
    with(&config, &[(joined, &[16, 8])], &json!({}), &adapter).succeeds(&[]);
    let work = with(&config, &[(joined, &[18, 8])], &json!({}), &adapter);
    refused("18 rows for 16", &work, &[], 65, &["qkv_proj` has 18 rows, config.json says 16"]);
}

/// The tensors of `qwen(…)` for these experts, joined or single.
pub(super) fn of_experts(numbers: &[u64]) -> Vec<(String, [u64; 2])> {
    let one = |e: &u64| {
        [("gate_proj", [4, 6]), ("up_proj", [4, 6]), ("down_proj", [6, 4])]
            .map(|(name, shape)| (format!("model.layers.0.mlp.experts.{e}.{name}.weight"), shape))
    };
    numbers.iter().flat_map(one).collect()
}

#[test]
fn numbers_of_experts() {
    let stack = "model.layers.0.mlp.experts";
    let wrapped = ["lora_A", "lora_B"].map(|role| format!("{stack}.{role}.weight"));
    let fields = json!({"target_parameters": ["experts.gate_up_proj"]});
    let fit: [(&str, &[u64]); 2] = [(&wrapped[0], &[6, 6]), (&wrapped[1], &[8, 6])];
    let odd: [(&str, &[u64]); 2] = [(&wrapped[0], &[7, 6]), (&wrapped[1], &[8, 7])];
    let two: [(&str, &[u64]); 2] = [(&wrapped[0], &[4, 6]), (&wrapped[1], &[8, 4])];
    let base = |numbers: &[u64]| of_experts(numbers);
    let case = |config: Value, numbers: &[u64], adapter: Shapes<'_>, drop: &str| {
        let base = base(numbers);
        let base: Vec<(&str, &[u64])> =
            base.iter().filter(|(n, _)| n != drop).map(|(n, s)| (n.as_str(), &s[..])).collect();
        with(&config, &base, &fields, adapter)
    };
    case(qwen(3), &[0, 1, 2], &fit, "").succeeds(&[]);
    let missing = format!("{stack}.1.up_proj.weight");
    let gone = "uses a weight conversion shardfold does not support: number 1 of its tensors is missing";
    for (what, work, says) in [
        (
            "not the config's",
            case(qwen(4), &[0, 1, 2], &fit, ""),
            "checkpoint stores 3 experts for `model.layers.0.mlp.experts.gate_up_proj`, config.json says 4",
        ),
        (
            "not the adapter's",
            case(qwen(3), &[0, 1, 2], &odd, ""),
            "has shape [7, 6], expected [rank · 3 experts, ...]",
        ),
        ("a rank too few", case(qwen(3), &[0, 1, 2], &two, ""), "expected [rank · 3 experts, ...]"),
        ("one is not there", case(qwen(3), &[0, 2], &fit, ""), gone),
        ("a part of one is not there", case(qwen(3), &[0, 1, 2], &fit, &missing), gone),
    ] {
        refused(what, &work, &[], 65, &[says]);
    }
}

#[test]
fn an_expert_behind_the_last() {
    let keys =
        ["lora_A", "lora_B"].map(|role| format!("model.layers.0.mlp.experts.3.gate_proj.{role}.weight"));
    let adapter: [(&str, &[u64]); 2] = [(&keys[0], &[2, 6]), (&keys[1], &[4, 2])];
    let joined: Shapes<'_> = &[
        ("model.layers.0.mlp.experts.gate_up_proj", &[3, 8, 6]),
        ("model.layers.0.mlp.experts.down_proj", &[3, 6, 4]),
    ];
    let single = of_experts(&[0, 1, 2]);
    let single: Vec<(&str, &[u64])> = single.iter().map(|(n, s)| (n.as_str(), &s[..])).collect();
    for base in [joined, &single] {
        let work = with(&qwen(3), base, &json!({}), &adapter);
        refused(
            "number 3 of 3",
            &work,
            &[],
            65,
            &["2 adapter tensors match no base tensor", "experts.3.gate_proj"],
        );
    }
    // One that is there, of a stack that is not the config's.
    let keys = keys.map(|key| key.replace("experts.3", "experts.2"));
    let adapter: [(&str, &[u64]); 2] = [(&keys[0], &[2, 6]), (&keys[1], &[4, 2])];
    with(&qwen(3), joined, &json!({}), &adapter).succeeds(&[]);
    let work = with(&qwen(4), joined, &json!({}), &adapter);
    refused(
        "number 2 of 3 or 4",
        &work,
        &[],
        65,
        &["checkpoint stores 3 experts for `", "experts.gate_up_proj`, config.json says 4"],
    );
}

#[test]
fn nothing_is_placed() {
    let work = Work::tiny(Dtype::F32, 1.0);
    edit(&work.weights(), |tensors| {
        tensors.retain(|tensor| tensor.name.contains("lora_A"));
        tensors[0].name = "base_model.model.score.original_module.weight".into();
    });
    let says = "module `model.layers.0.self_attn.q_proj` is named by `target_modules` entry `q_proj`";
    refused("all is ignored", &work, &[], 65, &[says]);
}

#[test]
fn another_base_by_name_is_told() {
    let work = Work::tiny(Dtype::F32, 1.0);
    work.configure("base_model_name_or_path", json!("org/large-model"));
    let mut config = llama();
    config["_name_or_path"] = json!("org/small-model");
    fs::write(work.base.join("config.json"), config.to_string()).expect("a small file");
    let ran = work.succeeds(&[]);
    assert!(
        ran.err.contains("trained on `org/large-model`, and this base calls itself `org/small-model`"),
        "{}",
        ran.err
    );
}

#[test]
fn keys_that_may_be_left_out() {
    let of_head = |work: &Work| {
        edit(&work.weights(), |tensors| {
            let more = tensors.clone().into_iter().map(|mut tensor| {
                tensor.name = tensor.name.replace("model.layers.0.self_attn.q_proj", "mtp.layers.0.proj");
                tensor
            });
            tensors.extend(more.collect::<Vec<_>>());
        });
    };
    let work = Work::tiny(Dtype::F32, 1.0);
    let plain = work.folder.path().join("plain");
    assert_eq!(work.merge_into(&plain, &[]).code, 0);
    of_head(&work);
    let listed = ["mtp.layers.0.proj.lora_A.weight", "mtp.layers.0.proj.lora_B.weight"];
    refused("not listed", &work, &[], 65, &["2 adapter tensors match no base tensor"]);
    refused("others are", &work, &["--allow-unmatched", "visual"], 65, &["2 adapter tensors match"]);
    let half = ["--allow-unmatched", r"mtp.*lora_A"];
    refused("one of two is", &work, &half, 65, &["1 adapter tensor matches no base tensor", listed[1]]);
    for (pattern, says) in [
        (".*", "it matches every key"),
        ("", "it matches every key"),
        ("(mtp)?", "it matches every key"),
        ("(", "a regular expression is accepted"),
    ] {
        refused(pattern, &work, &["--allow-unmatched", pattern], 2, &["`--allow-unmatched", says]);
    }
    for pattern in ["lora", "weight$", "^base_model"] {
        let says = ["it matches all 4 tensors of adapter `adapter`", "match no base tensor"];
        refused(pattern, &work, &["--allow-unmatched", pattern], 2, &says);
    }
    // What has a place is merged, listed or not.
    let ran = work.succeeds(&["--allow-unmatched", "mtp|self_attn.*lora_A", "--allow-unmatched", "^never$"]);
    assert!(
        ran.err.contains(
            "mtp.layers.0.proj.lora_A.weight` and 1 more match no base tensor; skipped (--allow-unmatched)"
        ),
        "{}",
        ran.err
    );
    let (left, right) = (contents(&plain), contents(&work.output));
    assert_eq!(left["model.safetensors"], right["model.safetensors"]);
    for file in ["README.md", "shardfold.json"] {
        let text = String::from_utf8_lossy(&right[file]);
        assert!(listed.iter().all(|key| text.contains(key)), "{file}: {text}");
    }
}
