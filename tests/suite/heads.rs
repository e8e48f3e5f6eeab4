//! Heads that training added or replaced, and other modules that `modules_to_save` names and the base has not: they are added,
//! and the config says what they are.

use std::fs;

use serde_json::{Value, json};

use super::refusals::refused;
use super::refusals_names::with;
use super::work::{MODULE, Work};

/// A base of one adapted layer and those parameters, of that config, and an adapter of those fields and values.
fn work(config: &Value, base: &[(&str, &[u64])], fields: &Value, values: &[(&str, &[u64])]) -> Work {
    let q = ["weight", "lora_A.weight", "lora_B.weight"].map(|role| format!("{MODULE}.{role}"));
    let base = [&[(q[0].as_str(), &[4u64, 4][..])], base].concat();
    let adapter = [&[(q[1].as_str(), &[2u64, 4][..]), (q[2].as_str(), &[4, 2])], values].concat();
    let mut all = json!({"target_modules": ["q_proj"]});
    all.as_object_mut().expect("an object").extend(fields.as_object().expect("an object").clone());
    with(config, &base, &all, &adapter)
}

fn model(class: &str, model_type: &str) -> Value {
    json!({"architectures": [class], "model_type": model_type})
}

fn config(work: &Work) -> Value {
    serde_json::from_str(&fs::read_to_string(work.output.join("config.json")).expect("a config"))
        .expect("JSON")
}

const ROBERTA: &[(&str, &[u64])] = &[
    ("classifier.dense.weight", &[4, 4]),
    ("classifier.dense.bias", &[4]),
    ("classifier.out_proj.weight", &[3, 4]),
    ("classifier.out_proj.bias", &[3]),
];

#[test]
fn labels_are_counted_at_the_last_projection() {
    let [a, b, c] = ["LABEL_0", "LABEL_1", "LABEL_2"];
    let made = json!({"0": a, "1": b, "2": c});
    for (class, model_type, saved, values) in [
        ("RobertaForMaskedLM", "roberta", "classifier", ROBERTA),
        (
            "BartForConditionalGeneration",
            "bart",
            "classification_head",
            &[
                ("classification_head.dense.weight", &[4, 4]),
                ("classification_head.out_proj.weight", &[3, 4]),
            ],
        ),
        (
            "DebertaV2ForMaskedLM",
            "deberta-v2",
            "pooler",
            &[("classifier.weight", &[3, 4]), ("pooler.dense.weight", &[4, 4]), ("pooler.dense.bias", &[4])],
        ),
        (
            "DistilBertForMaskedLM",
            "distilbert",
            "classifier",
            &[("classifier.weight", &[3, 4]), ("pre_classifier.weight", &[4, 4])],
        ),
        (
            "XLNetLMHeadModel",
            "xlnet",
            "sequence_summary",
            &[("logits_proj.weight", &[3, 4]), ("sequence_summary.summary.weight", &[4, 4])],
        ),
        ("XLMWithLMHeadModel", "xlm", "sequence_summary", &[("sequence_summary.summary.weight", &[3, 4])]),
        ("LlamaForCausalLM", "llama", "score", &[("score.weight", &[3, 4])]),
    ] {
        let fields = json!({"task_type": "SEQ_CLS", "modules_to_save": [saved, "classifier", "score"]});
        let work = work(&model(class, model_type), &[], &fields, values);
        work.succeeds(&[]);
        let config = config(&work);
        assert_eq!(config["id2label"], made, "{class}");
        assert_eq!(config["label2id"], json!({a: 0, b: 1, c: 2}), "{class}");
        let class = config["architectures"][0].as_str().expect("a class");
        assert!(class.ends_with("ForSequenceClassification"), "{class}");
        for (name, shape) in values {
            assert_eq!(work.merged(name).len() as u64, shape.iter().product::<u64>(), "{name}");
        }
    }
}

#[test]
fn labels_that_have_names_keep_them() {
    let fields = |more: Value| {
        let mut all = json!({"task_type": "SEQ_CLS", "modules_to_save": ["classifier"]});
        all.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        all
    };
    let base = |names: Value| {
        let mut config = model("RobertaForMaskedLM", "roberta");
        config["id2label"] = names;
        config
    };
    let own = json!({"0": "bad", "1": "so so", "2": "good"});
    let other = json!({"0": "x", "1": "y", "2": "z"});
    let unnamed = json!({"0": "LABEL_0", "1": "LABEL_1", "2": "LABEL_2"});
    let two = json!({"0": "no", "1": "yes"});
    for (of_base, of_adapter, expected) in [
        (&own, json!({}), &own),
        (&own, json!({"id2label": two}), &own),
        (&own, json!({"id2label": other}), &own),
        (&two, json!({"id2label": other}), &other),
        (&unnamed, json!({"id2label": other}), &other),
        (&two, json!({}), &unnamed),
    ] {
        let work = work(&base(of_base.clone()), &[], &fields(of_adapter), ROBERTA);
        work.succeeds(&[]);
        assert_eq!(config(&work)["id2label"], *expected, "{of_base}");
    }
    // The model's own config, which some trainers save beside the adapter.
    let work = work(&base(two), &[], &fields(json!({})), ROBERTA);
    fs::write(work.adapter.join("config.json"), json!({"id2label": other}).to_string())
        .expect("a small file");
    work.succeeds(&[]);
    let config = config(&work);
    assert_eq!((&config["id2label"], &config["label2id"]), (&other, &json!({"x": 0, "y": 1, "z": 2})));
}

#[test]
fn a_head_made_anew_for_other_labels() {
    let mut base = model("ViTForImageClassification", "vit");
    base["id2label"] = json!({"0": "cat", "1": "dog"});
    base["num_labels"] = json!(2);
    let old: &[(&str, &[u64])] = &[("classifier.weight", &[2, 4]), ("classifier.bias", &[2])];
    let new: &[(&str, &[u64])] = &[("classifier.weight", &[3, 4]), ("classifier.bias", &[3])];
    let fields = json!({"task_type": null, "modules_to_save": ["classifier"]});
    let other = work(&base, old, &fields, new);
    other.succeeds(&[]);
    let config = config(&other);
    assert_eq!(config["id2label"].as_object().map(|names| names.len()), Some(3));
    assert_eq!(config["num_labels"], json!(3));
    assert_eq!(config["architectures"], json!(["ViTForImageClassification"]));
    assert_eq!(
        (other.merged("classifier.weight"), other.merged("classifier.bias")),
        (vec![1.0; 12], vec![1.0; 3])
    );
    // Of another width it is another model's.
    let wide: &[(&str, &[u64])] = &[("classifier.weight", &[3, 5]), ("classifier.bias", &[3])];
    refused("wide", &work(&base, old, &fields, wide), &[], 65, &["has shape [3, 5], base tensor has [2, 4]"]);
}

#[test]
fn modules_that_are_named_are_added_whatever_the_task() {
    let llama = model("Qwen3ForCausalLM", "qwen3");
    let score = json!({"modules_to_save": ["score"]});
    let unset = work(&llama, &[], &score, &[("score.weight", &[1, 4])]);
    let ran = unset.succeeds(&[]);
    assert!(ran.err.contains("`score` is new, and `adapter` sets no `task_type`"), "{}", ran.err);
    assert_eq!(unset.merged("score.weight"), [1.0; 4]);
    assert_eq!(config(&unset)["architectures"], json!(["Qwen3ForCausalLM"]));
    assert_eq!(config(&unset)["id2label"], json!({"0": "LABEL_0"}));
    // PEFT names the class where it has no type for the task.
    let mapping = |class: &str, library: &str| {
        json!({
            "modules_to_save": ["classifier"],
            "auto_mapping": {"base_model_class": class, "parent_library": library},
        })
    };
    let fields = mapping("ViTForImageClassification", "transformers.models.vit.modeling_vit");
    let images = work(&model("ViTModel", "vit"), &[], &fields, &[("classifier.weight", &[3, 4])]);
    let ran = images.succeeds(&[]);
    assert!(!ran.err.contains("task_type"), "{}", ran.err);
    assert_eq!(config(&images)["architectures"], json!(["ViTForImageClassification"]));
    let fields = mapping("MyForImageClassification", "__main__");
    let own = work(&model("ViTModel", "vit"), &[], &fields, &[("classifier.weight", &[3, 4])]);
    own.succeeds(&[]);
    assert_eq!(config(&own)["architectures"], json!(["ViTModel"]), "a class that transformers has not");
    // A module of any name and depth, in any task.
    let fields = json!({"task_type": "FEATURE_EXTRACTION", "modules_to_save": ["projection"]});
    let values: &[(&str, &[u64])] =
        &[("text_projection.0.weight", &[2, 4]), ("text_projection.2.bias", &[2])];
    let deep = work(&model("LlamaModel", "llama"), &[], &fields, values);
    deep.succeeds(&[]);
    assert_eq!(deep.merged("text_projection.2.bias"), [1.0; 2]);
    assert!(config(&deep).get("id2label").is_none(), "no head has labels");
}

#[test]
fn what_nobody_names_is_not_added() {
    let llama = model("LlamaForCausalLM", "llama");
    let embedding: &[(&str, &[u64])] = &[("model.embed_tokens.weight", &[3, 4])];
    for (what, fields, key) in [
        ("nobody names it", json!({}), "score.weight"),
        ("another is named", json!({"modules_to_save": ["classifier"]}), "score.weight"),
        ("inside a layer", json!({"modules_to_save": ["gate"]}), "model.layers.0.gate.weight"),
        ("an embedding of another model", json!({"modules_to_save": ["wte"]}), "transformer.wte.weight"),
        ("a value head", json!({"modules_to_save": null}), "v_head.summary.weight"),
    ] {
        let work = work(&llama, embedding, &fields, &[(key, &[3, 4])]);
        refused(what, &work, &[], 65, &["1 adapter tensor matches no base tensor", key]);
    }
}

#[test]
fn what_comes_before_a_head_is_needed_too() {
    let fields = json!({"task_type": "SEQ_CLS", "modules_to_save": ["classifier", "score"]});
    let head: &[(&str, &[u64])] = &[("classifier.weight", &[3, 4])];
    let deberta = model("DebertaV2ForMaskedLM", "deberta-v2");
    let says = ["no tensor for `pooler`, the module before the head that its `task_type` `SEQ_CLS` needs"];
    let without = work(&deberta, &[], &fields, head);
    refused("no pooler", &without, &[], 65, &says);
    without.succeeds(&["--allow-missing", "pooler"]);
    let bert = model("BertForPreTraining", "bert");
    work(&bert, &[("bert.pooler.dense.weight", &[4, 4])], &fields, head).succeeds(&[]);
    let tokens = json!({"task_type": "TOKEN_CLS", "modules_to_save": ["classifier", "score"]});
    work(&deberta, &[], &tokens, head).succeeds(&[]);
    let says =
        ["no tensor for `classifier`, the head that its `auto_mapping` `ViTForImageClassification` needs"];
    let class = json!({"auto_mapping": {
        "base_model_class": "ViTForImageClassification", "parent_library": "transformers.models.vit.modeling_vit",
    }});
    refused("no head", &work(&model("ViTModel", "vit"), &[], &class, &[]), &[], 65, &says);
}
