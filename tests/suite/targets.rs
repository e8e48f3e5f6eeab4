//! Entries of `target_modules` and `target_parameters` without a tensor (key-mapping.md 12, item 8): an error where they name
//! something of this model however the adapter's names can be read, else a notice; and `target_modules` as a string.

use serde_json::{Value, json};
use shardfold::testing::Dtype;

use super::refusals::refused;
use super::refusals_names::{llama, of_experts, qwen, with};
use super::work::{MODULE, Work};

const CUT_SHORT: &str = "hint: the adapter was not saved whole";

/// A mixture of experts, joined or one by one, with attention; an adapter of its attention, and of the experts if wanted.
fn mixture(is_joined: bool, has_experts: bool, fields: &Value) -> Work {
    let weight = format!("{MODULE}.weight");
    let single = of_experts(&[0, 1, 2]);
    let mut base: Vec<(&str, &[u64])> = single.iter().map(|(n, s)| (n.as_str(), &s[..])).collect();
    if is_joined {
        base = vec![
            ("model.layers.0.mlp.experts.gate_up_proj", &[3, 8, 6]),
            ("model.layers.0.mlp.experts.down_proj", &[3, 6, 4]),
        ];
    }
    base.push((&weight, &[4, 4]));
    let stack = "model.layers.0.mlp.experts";
    let wrapped = ["lora_A", "lora_B"].map(|role| format!("{stack}.{role}.weight"));
    let q = ["lora_A", "lora_B"].map(|role| format!("{MODULE}.{role}.weight"));
    let mut adapter: Vec<(&str, &[u64])> = vec![(&q[0], &[2, 4]), (&q[1], &[4, 2])];
    if has_experts {
        adapter.extend([(wrapped[0].as_str(), &[6, 6][..]), (wrapped[1].as_str(), &[8, 6])]);
    }
    with(&qwen(3), &base, fields, &adapter)
}

fn told(work: &Work, flags: &[&str], says: &[&str]) {
    let ran = work.succeeds(flags);
    for text in says {
        assert!(ran.err.contains(text), "no `{text}` in\n{}", ran.err);
    }
}

#[test]
fn modules_of_lists() {
    // Experts are modules before transformers 5 and none since; what the adapter has is called the same in both.
    let fields = json!({"target_modules": ["q_proj", "gate_proj", "score"]});
    let says = [
        "`adapter` has no tensor for `gate_proj`, `score` of its `target_modules`, which need not be in the model",
    ];
    told(&mixture(false, false, &fields), &[], &says);
    // With these experts it was trained under transformers 5.
    let fields =
        json!({"target_modules": ["q_proj", "gate_proj"], "target_parameters": ["experts.gate_up_proj"]});
    told(&mixture(false, true, &fields), &[], &["no tensor for `gate_proj` of its `target_modules`"]);
    let mut base: Vec<(&str, &[u64])> = vec![("model.layers.0.mlp.up_proj.weight", &[4, 4])];
    let weight = format!("{MODULE}.weight");
    base.push((&weight, &[4, 4]));
    let q = ["lora_A", "lora_B"].map(|role| format!("{MODULE}.{role}.weight"));
    let adapter: [(&str, &[u64]); 2] = [(&q[0], &[2, 4]), (&q[1], &[4, 2])];
    let list = |more: Value| {
        let mut fields = json!({"target_modules": ["q_proj", "up_proj"]});
        fields.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        with(&llama(), &base, &fields, &adapter)
    };
    let cut = ["module `model.layers.0.mlp.up_proj` is named by `target_modules` entry `up_proj`", CUT_SHORT];
    refused("cut short", &list(json!({})), &[], 65, &cut);
    // A vector is no layer that any method adapts.
    let norm: [(&str, &[u64]); 2] = [("model.norm.weight", &[4]), (&weight, &[4, 4])];
    let work = with(&llama(), &norm, &json!({"target_modules": ["q_proj", "norm"]}), &adapter);
    told(&work, &[], &["no tensor for `norm` of its `target_modules`"]);
    // The rest of the config takes it out again.
    for more in [
        json!({"exclude_modules": ["up_proj"]}),
        json!({"exclude_modules": r"(?!.*q_proj).*_proj"}),
        json!({"exclude_modules": r"("}),
        json!({"layers_to_transform": [3]}),
        json!({"layers_to_transform": [0], "layers_pattern": "blocks"}),
        json!({"layers_to_transform": 0, "layers_pattern": ["h", "blocks"]}),
    ] {
        told(&list(more), &[], &["no tensor for `up_proj` of its `target_modules`"]);
    }
    let work = list(json!({"modules_to_save": ["mlp"]}));
    let says = ["no tensor for `model.layers.0.mlp.up_proj`, which its `modules_to_save` names"];
    refused("saved whole, and missing", &work, &[], 65, &says);
    for more in [
        json!({"exclude_modules": ["p_proj"]}),
        json!({"layers_to_transform": [0]}),
        json!({"layers_to_transform": 0, "layers_pattern": ["h", "layers"]}),
    ] {
        refused("still there", &list(more), &[], 65, &cut);
    }
    // A whole path is selected whatever its layer.
    let whole = ["q_proj", "model.layers.0.mlp.up_proj"];
    let work = list(json!({"target_modules": whole, "layers_to_transform": [3]}));
    refused(
        "a whole path",
        &work,
        &[],
        65,
        &["is named by `target_modules` entry `model.layers.0.mlp.up_proj`"],
    );
}

#[test]
fn modules_of_the_language_part() {
    // A text-only adapter on a checkpoint with a tower: what only the tower has is none of its model's.
    let base: [(&str, &[u64]); 3] = [
        ("model.language_model.layers.0.self_attn.q_proj.weight", &[4, 4]),
        ("model.language_model.layers.0.mlp.up_proj.weight", &[4, 4]),
        ("model.visual.blocks.0.attn.qkv.weight", &[4, 4]),
    ];
    let config = json!({"architectures": ["Qwen3VLForConditionalGeneration"], "model_type": "qwen3_vl", "text_config": {}});
    let q = ["lora_A", "lora_B"].map(|role| format!("{MODULE}.{role}.weight"));
    let adapter: [(&str, &[u64]); 2] = [(&q[0], &[2, 4]), (&q[1], &[4, 2])];
    let list = |entries: Value| with(&config, &base, &json!({"target_modules": entries}), &adapter);
    told(&list(json!(["q_proj", "qkv"])), &[], &["no tensor for `qkv` of its `target_modules`"]);
    let says = ["module `model.layers.0.mlp.up_proj` is named by `target_modules` entry `up_proj`"];
    refused("cut short", &list(json!(["q_proj", "up_proj"])), &[], 65, &says);
    let says = [
        "module `model.layers.0.mlp.up_proj` is named by `target_modules` entry `model.layers.0.mlp.up_proj`",
    ];
    refused("whole", &list(json!(["q_proj", "model.layers.0.mlp.up_proj"])), &[], 65, &says);
}

#[test]
fn parameters_of_lists() {
    // One that names nothing of this model, beside one that has its tensors.
    let fields = json!({"target_parameters": ["experts.gate_up_proj", "feed_forward.experts.down_proj"]});
    let says = ["no tensor for `feed_forward.experts.down_proj` of its `target_parameters`"];
    told(&mixture(false, true, &fields), &[], &says);
    // A leaf is a parameter's, not a module's.
    let fields = json!({"target_parameters": ["experts.gate_up_proj", "q_proj"]});
    told(&mixture(false, true, &fields), &[], &["no tensor for `q_proj` of its `target_parameters`"]);
    for entry in ["gate_up_proj", "mlp.experts.gate_up_proj", "model.layers.0.mlp.experts.gate_up_proj"] {
        let fields = json!({"target_modules": ["q_proj"], "target_parameters": [entry]});
        // Stored one by one it may have been trained before transformers 5, where no such parameter is.
        told(
            &mixture(false, false, &fields),
            &[],
            &[&format!("no tensor for `{entry}` of its `target_parameters`")],
        );
        let says = [
            &format!(
                "`model.layers.0.mlp.experts.gate_up_proj` is named by `target_parameters` entry `{entry}`"
            ),
            CUT_SHORT,
        ];
        refused("joined", &mixture(true, false, &fields), &[], 65, &says);
    }
    // The experts of one layer show that it was trained since.
    let fields = json!({"target_parameters": [
        "layers.0.mlp.experts.gate_up_proj", "layers.0.mlp.experts.down_proj_of_none", "layers.1.mlp.experts.gate_up_proj",
    ]});
    let work = mixture(false, true, &fields);
    super::work::edit(&work.base.join("model.safetensors"), |tensors| {
        let again = tensors.clone().into_iter().map(|mut tensor| {
            tensor.name = tensor.name.replace("layers.0", "layers.1");
            tensor
        });
        tensors.extend(again.collect::<Vec<_>>());
    });
    let says = [
        "`model.layers.1.mlp.experts.gate_up_proj` is named by `target_parameters` entry `layers.1.mlp.experts.gate_up_proj`",
    ];
    refused("a layer is missing", &work, &[], 65, &says);
}

#[test]
fn a_string_of_modules() {
    let with = |pattern: Value| {
        let work = Work::tiny(Dtype::F32, 1.0);
        work.configure("target_modules", pattern);
        work
    };
    // `re.fullmatch` on `model.layers.0.self_attn.q_proj`.
    for pattern in [
        "all-linear",
        "All-Linear",
        r".*q_proj",
        r"model\.layers\.\d+\.self_attn\.(q|k)_proj",
        r"^(?!.*visual).*(?:q_proj|v_proj).*",
        r"^(model)(?=\.).*\.(q_proj)$",
    ] {
        with(json!(pattern)).succeeds(&[]);
    }
    for pattern in ["q_proj", r"layers\.0\.self_attn\.q_proj", r".*self_attn", r"(?!model).*q_proj"] {
        let says = [
            &format!(
                "no tensor of adapter `adapter` is for a module that its `target_modules` `{pattern}` matches"
            ),
            CUT_SHORT,
        ];
        refused(pattern, &with(json!(pattern)), &[], 65, &says);
    }
    // A producer that leaves PEFT's own `model.` out of keys.
    let work = with(json!(r"model\.layers\.\d+\.self_attn\.q_proj"));
    super::work::edit(&work.weights(), |tensors| {
        tensors.iter_mut().for_each(|tensor| {
            tensor.name = tensor.name.replace("base_model.model.model.", "base_model.model.");
        });
    });
    work.succeeds(&[]);
    told(&with(json!("(")), &[], &["`target_modules` `(` cannot be checked: "]);
    let work = with(json!("k_proj"));
    work.configure("target_parameters", json!(["mlp.experts.gate_up_proj"]));
    told(&work, &[], &["no module of `adapter` is one that `target_modules` `k_proj` matches"]);
}
