//! What an adapter's config promises and its file lacks is refused, together and by name, unless `--allow-missing` names it;
//! and what only looks as if it were missing is not.

use serde_json::{Value, json};

use super::refusals::refused;
use super::refusals_names::{llama, qwen, with};
use super::work::Work;

/// A weight [4, 4] for each module; a vector for a bias and a norm.
fn weights(names: &[String]) -> Vec<(&str, &[u64])> {
    let shape = |name: &str| -> &[u64] {
        if name.ends_with("bias") || name.ends_with("norm.weight") { &[4] } else { &[4, 4] }
    };
    names.iter().map(|name| (name.as_str(), shape(name))).collect()
}

/// A base of those parameters and an adapter with factors for those modules, and values of those parameters.
fn work(config: &Value, base: &[String], fields: &Value, modules: &[String], values: &[&str]) -> Work {
    let keys: Vec<[String; 2]> = modules
        .iter()
        .map(|module| ["lora_A", "lora_B"].map(|role| format!("{module}.{role}.weight")))
        .collect();
    let mut adapter: Vec<(&str, &[u64])> = keys
        .iter()
        .flat_map(|[a, b]| [(a.as_str(), [2, 4].as_slice()), (b.as_str(), [4, 2].as_slice())])
        .collect();
    let values: Vec<String> = values.iter().map(|&value| value.to_owned()).collect();
    adapter.extend(weights(&values));
    with(config, &weights(base), fields, &adapter)
}

fn weight(module: &String) -> String {
    format!("{module}.weight")
}

/// `model.layers.N.LEAF` for those layers and leaves.
fn layers(numbers: std::ops::Range<u32>, leaves: &[&str]) -> Vec<String> {
    numbers.flat_map(|n| leaves.iter().map(move |leaf| format!("model.layers.{n}.{leaf}"))).collect()
}

const ATTENTION: &[&str] = &["self_attn.q_proj", "self_attn.v_proj"];
const LIST: [&str; 2] = ["q_proj", "v_proj"];

/// Four layers of attention, of which an adapter of those fields has the modules.
fn half(fields: &Value, modules: &[String]) -> Work {
    let base: Vec<String> = layers(0..4, ATTENTION).iter().map(weight).collect();
    work(&llama(), &base, fields, modules, &[])
}

#[test]
fn modules_of_a_kind_that_was_saved() {
    let saved = layers(0..2, ATTENTION);
    for fields in [
        json!({"target_modules": LIST}),
        json!({"target_modules": layers(0..4, ATTENTION)}),
        json!({"target_modules": r".*\.(q|v)_proj"}),
        json!({"target_modules": LIST, "layers_to_transform": [0, 1, 2, 3]}),
    ] {
        let says = [
            "adapter `adapter` has no tensor for `model.layers.2.self_attn.q_proj` and 3 more, which its \
             `target_modules` selects as it does others of their kind",
            "    model.layers.3.self_attn.v_proj",
            "hint: the adapter was not saved whole",
            "`--allow-missing REGEX` merges without those that it matches",
        ];
        refused(&fields.to_string(), &half(&fields, &saved), &[], 65, &says);
    }
    // One module of one layer.
    let but_one: Vec<String> = layers(0..4, ATTENTION)
        .into_iter()
        .filter(|module| module != "model.layers.3.self_attn.q_proj")
        .collect();
    let says = [
        "no tensor for `model.layers.3.self_attn.q_proj`, which its `target_modules` selects",
        r"`--allow-missing '^model\.layers\.3\.self_attn\.q_proj$'` merges without it",
    ];
    refused("one", &half(&json!({"target_modules": LIST}), &but_one), &[], 65, &says);
    // What takes the others out takes nothing away.
    for fields in [
        json!({"target_modules": LIST, "layers_to_transform": [0, 1]}),
        json!({"target_modules": LIST, "exclude_modules": r".*\.[23]\..*"}),
        json!({"target_modules": layers(0..2, ATTENTION)}),
        json!({"target_modules": r"model\.layers\.[01]\..*"}),
        json!({"target_modules": "all-linear"}),
        json!({"target_modules": LIST, "exclude_modules": "("}),
        json!({}),
    ] {
        half(&fields, &saved).succeeds(&[]);
    }
}

#[test]
fn what_was_not_trained_is_not_missing() {
    let fields = json!({"target_modules": LIST});
    // A tower that was not loaded, layers for more tokens behind the last, keys and values that are shared.
    let (tower, behind) = (vec!["visual.blocks.0.attn.q_proj".to_owned()], layers(2..3, ATTENTION));
    for (config, more) in [
        (llama(), tower),
        (
            json!({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "num_hidden_layers": 2}),
            behind.clone(),
        ),
        (
            json!({
                "architectures": ["LlamaForCausalLM"], "model_type": "llama", "num_hidden_layers": 3,
                "num_kv_shared_layers": 1,
            }),
            vec!["model.layers.2.self_attn.v_proj".to_owned()],
        ),
        (llama(), vec!["mtp.layers.0.self_attn.q_proj".to_owned()]),
        (llama(), vec!["model.decoder.layers.2.self_attn.q_proj".to_owned()]),
    ] {
        let saved = layers(0..2, ATTENTION);
        let base: Vec<String> = saved.iter().chain(&more).map(weight).collect();
        work(&config, &base, &fields, &saved, &[]).succeeds(&[]);
    }
    // Layers that only some have are no gaps: cross attention in every other one.
    let saved: Vec<String> = [layers(0..1, ATTENTION), layers(2..3, ATTENTION)].concat();
    let base: Vec<String> = saved.iter().map(weight).collect();
    work(&llama(), &base, &fields, &saved, &[]).succeeds(&[]);
    // An entry that only layers behind the last have.
    let config =
        json!({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "num_hidden_layers": 2});
    let saved = layers(0..2, ATTENTION);
    let base: Vec<String> =
        saved.iter().cloned().chain(["model.layers.2.eh_proj".to_owned()]).map(|m| weight(&m)).collect();
    work(&config, &base, &json!({"target_modules": ["q_proj", "v_proj", "eh_proj"]}), &saved, &[])
        .succeeds(&[]);
}

#[test]
fn experts_of_another_rank() {
    let of = |numbers: std::ops::Range<u32>| -> Vec<String> {
        numbers.map(|e| format!("model.layers.0.mlp.experts.{e}.up_proj")).collect()
    };
    let base: Vec<String> = of(0..4).iter().map(weight).collect();
    let fields = json!({"target_modules": ["up_proj"]});
    let says =
        ["no tensor for `model.layers.0.mlp.experts.2.up_proj` and 1 more, which its `target_modules`"];
    let of_two = || work(&qwen(4), &base, &fields, &of(0..2), &[]);
    refused("two of four", &of_two(), &[], 65, &says);
    // One that saw no token was saved as it began.
    let all = work(&qwen(4), &base, &fields, &of(0..4), &[]);
    super::work::edit(&all.weights(), |tensors| {
        tensors
            .iter_mut()
            .filter(|t| t.name.contains("experts.3.up_proj.lora_B"))
            .for_each(|t| t.data.fill(0));
    });
    all.succeeds(&[]);
    let ran = of_two().succeeds(&["--allow-missing", r"experts\.[23]\."]);
    let says = "no tensor for `model.layers.0.mlp.experts.2.up_proj` and 1 more, which its `target_modules` promises; \
                skipped (--allow-missing)";
    assert!(ran.err.contains(says), "{}", ran.err);
}

#[test]
fn what_is_allowed_is_named_and_recorded() {
    let fields = json!({"target_modules": LIST, "modules_to_save": ["lm_head"]});
    let mut base: Vec<String> = layers(0..2, ATTENTION).iter().map(weight).collect();
    base.push("lm_head.weight".to_owned());
    let cut = || work(&llama(), &base, &fields, &layers(0..1, ATTENTION), &[]);
    // All that is missing is refused at once, whatever promised it.
    let says = [
        "error: adapter `adapter` has no tensor for `lm_head`, which its `modules_to_save` names",
        "error: adapter `adapter` has no tensor for `model.layers.1.self_attn.q_proj` and 1 more, which its `target_modules`",
    ];
    refused("both", &cut(), &[], 65, &says);
    refused("the other", &cut(), &["--allow-missing", "^lm_head$"], 65, &says[1..]);
    let work = cut();
    work.succeeds(&["--allow-missing", "^lm_head$", "--allow-missing", r"layers\.1\."]);
    let card = std::fs::read_to_string(work.output.join("README.md")).expect("a model card");
    for name in ["lm_head", "model.layers.1.self_attn.v_proj"] {
        assert!(card.contains(&format!("`{name}` has no tensor in `adapter`")), "{card}");
    }
    for pattern in [".", "", ".*", "(?s).", "["] {
        refused(pattern, &cut(), &["--allow-missing", pattern], 2, &["`--allow-missing"]);
    }
    // Entries of which nothing is there.
    let fields = json!({"target_modules": ["q_proj", "v_proj"]});
    let q = layers(0..2, &["self_attn.q_proj"]);
    let none = super::promises::work(&llama(), &base, &fields, &q, &[]);
    refused("none", &none, &[], 65, &["`target_modules` entry `v_proj`", "`--allow-missing REGEX`"]);
    none.succeeds(&["--allow-missing", "v_proj"]);
}

#[test]
fn modules_that_were_to_be_saved_whole() {
    let q = layers(0..1, &["self_attn.q_proj"]);
    let base = |more: &[&str]| -> Vec<String> {
        q.iter().map(weight).chain(more.iter().map(|&name| name.to_owned())).collect()
    };
    let saving = |entries: &[&str]| json!({"target_modules": ["q_proj"], "modules_to_save": entries});
    let lm_head = base(&["lm_head.weight", "model.embed_tokens.weight"]);
    let both = saving(&["lm_head", "embed_tokens"]);
    let says = ["no tensor for `lm_head`, which its `modules_to_save` names"];
    refused(
        "one of two",
        &work(&llama(), &lm_head, &both, &q, &["model.embed_tokens.weight"]),
        &[],
        65,
        &says,
    );
    work(&llama(), &lm_head, &both, &q, &["model.embed_tokens.weight", "lm_head.weight"]).succeeds(&[]);
    // PEFT's own lists name heads that most models do not have.
    work(&llama(), &lm_head, &saving(&["classifier", "score"]), &q, &[]).succeeds(&[]);
    // All of a module, its bias too; one inside another.
    let classes = base(&["classifier.weight", "classifier.bias"]);
    let says = ["no tensor for `classifier.bias`, which its `modules_to_save` names"];
    refused(
        "half",
        &work(&llama(), &classes, &saving(&["classifier"]), &q, &["classifier.weight"]),
        &[],
        65,
        &says,
    );
    let merger = base(&["visual.merger.mlp.0.weight", "visual.merger.mlp.2.weight"]);
    let says = ["no tensor for `visual.merger.mlp.2`, which its `modules_to_save` names"];
    let half = work(&llama(), &merger, &saving(&["merger"]), &q, &["visual.merger.mlp.0.weight"]);
    refused("a container", &half, &[], 65, &says);
    // Norms of a tower that was not loaded are of another kind.
    let norms = base(&["model.norm.weight", "visual.norm.weight"]);
    work(&llama(), &norms, &saving(&["norm"]), &q, &["model.norm.weight"]).succeeds(&[]);
    // Buffers that nobody saves: the causal mask of GPT-2 is called a bias.
    let gpt2 = json!({"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2"});
    let mut mask: Vec<(&str, &[u64])> =
        vec![("h.0.attn.c_attn.weight", &[4, 4]), ("h.0.attn.bias", &[1, 1, 4, 4])];
    mask.push(("h.0.attn.c_attn.bias", &[4]));
    let values: [(&str, &[u64]); 2] = [("h.0.attn.c_attn.weight", &[4, 4]), ("h.0.attn.c_attn.bias", &[4])];
    with(&gpt2, &mask, &json!({"modules_to_save": ["h.0"]}), &values).succeeds(&["--allow-noop"]);
}

#[test]
fn ends_that_are_tied_are_saved_once() {
    let tied =
        json!({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "tie_word_embeddings": true});
    let q = layers(0..1, &["self_attn.q_proj"]);
    let mut base: Vec<String> = q.iter().map(weight).collect();
    base.push("model.embed_tokens.weight".to_owned());
    let saving = |entries: &[&str]| json!({"target_modules": ["q_proj"], "modules_to_save": entries, "ensure_weight_tying": true});
    work(&tied, &base, &saving(&["embed_tokens", "lm_head"]), &q, &["model.embed_tokens.weight"])
        .succeeds(&[]);
    let says = ["no tensor for `lm_head`, which its `modules_to_save` names"];
    refused("a tied head", &work(&tied, &base, &saving(&["lm_head"]), &q, &[]), &[], 65, &says);
    let rows = json!({"target_modules": ["q_proj"], "trainable_token_indices": {"embed_tokens": [1], "lm_head": [1]}});
    let work = work(&tied, &base, &rows, &q, &["model.embed_tokens.token_adapter.trainable_tokens_delta"]);
    super::work::edit(&work.weights(), |tensors| {
        let rows = tensors.iter_mut().find(|tensor| tensor.name.ends_with("_delta")).expect("rows");
        rows.shape = vec![1, 4];
        rows.data.truncate(16);
    });
    work.succeeds(&[]);
}

#[test]
fn rows_and_heads() {
    let q = layers(0..1, &["self_attn.q_proj"]);
    let mut base: Vec<String> = q.iter().map(weight).collect();
    base.push("model.embed_tokens.weight".to_owned());
    for (indices, name) in [
        (json!([1, 2]), "model.embed_tokens"),
        (json!({"embed_tokens": [1]}), "embed_tokens"),
        (json!({"embed_tokens": null}), "embed_tokens"),
    ] {
        let fields = json!({"target_modules": ["q_proj"], "trainable_token_indices": indices});
        let says = [&*format!("no tensor for `{name}`, which its `trainable_token_indices` names tokens of")];
        refused("no rows", &work(&llama(), &base, &fields, &q, &[]), &[], 65, &says);
    }
    for indices in [json!(null), json!([]), json!({}), json!({"embed_tokens": []})] {
        let fields = json!({"target_modules": ["q_proj"], "trainable_token_indices": indices});
        work(&llama(), &base, &fields, &q, &[]).succeeds(&[]);
    }
    for (task, head) in [("SEQ_CLS", "score"), ("TOKEN_CLS", "classifier"), ("QUESTION_ANS", "qa_outputs")] {
        let fields = json!({"target_modules": ["q_proj"], "task_type": task});
        let without = || work(&llama(), &base, &fields, &q, &[]);
        let says = [&*format!("no tensor for `{head}`, the head that its `task_type` `{task}` needs")];
        refused(task, &without(), &[], 65, &says);
        let ran = without().succeeds(&["--allow-missing", head]);
        assert!(
            ran.err.contains(&format!("no tensor for `{head}`, which its `task_type` promises")),
            "{}",
            ran.err
        );
        // The base has one, which nobody promised to train.
        let with_head = [base.clone(), vec![format!("{head}.weight")]].concat();
        work(&llama(), &with_head, &fields, &q, &[]).succeeds(&[]);
    }
    for task in ["CAUSAL_LM", "SEQ_2_SEQ_LM", "FEATURE_EXTRACTION"] {
        work(&llama(), &base, &json!({"target_modules": ["q_proj"], "task_type": task}), &q, &[])
            .succeeds(&[]);
    }
}

#[test]
fn biases_that_were_trained() {
    let q = layers(0..2, &["self_attn.q_proj"]);
    let bias = |n: u32, leaf: &str| format!("model.layers.{n}.self_attn.{leaf}.bias");
    let base: Vec<String> =
        q.iter().map(weight).chain((0..2).flat_map(|n| [bias(n, "q_proj"), bias(n, "o_proj")])).collect();
    let fields = |kind: &str, version: &str| json!({"target_modules": ["q_proj"], "bias": kind, "peft_version": version});
    let none = |kind: &str, version: &str| work(&llama(), &base, &fields(kind, version), &q, &[]);
    for version in ["0.18.0", "0.19.1", ""] {
        let ran = none("lora_only", version).succeeds(&[]);
        let says = "PEFT up to 0.19.1 never saved the biases of that: `model.layers.0.self_attn.q_proj.bias` and 1 more stay what";
        assert!(ran.err.contains(says), "{}", ran.err);
    }
    let says = [
        "no tensor for `model.layers.0.self_attn.q_proj.bias` and 1 more, which its `bias` `lora_only` says were trained",
    ];
    refused("later", &none("lora_only", "0.20.0"), &[], 65, &says);
    let says =
        ["no tensor for `model.layers.0.self_attn.o_proj.bias` and 3 more, which its `bias` `all` says"];
    refused("all of them", &none("all", "0.19.1"), &[], 65, &says);
    none("none", "0.20.0").succeeds(&[]);
    let own: Vec<String> =
        (0..2).map(|n| format!("model.layers.{n}.self_attn.q_proj.base_layer.bias")).collect();
    let own: Vec<&str> = own.iter().map(String::as_str).collect();
    work(&llama(), &base, &fields("lora_only", "0.20.0"), &q, &own).succeeds(&[]);
    let says = ["no tensor for `model.layers.1.self_attn.q_proj.bias`, which its `bias` `lora_only` says"];
    refused("one", &work(&llama(), &base, &fields("lora_only", "0.19.0"), &q, &own[..1]), &[], 65, &says);
}

#[test]
fn tensors_without_elements() {
    let modules = layers(0..2, ATTENTION);
    let mut base: Vec<String> = modules.iter().map(weight).collect();
    base.push("lm_head.weight".to_owned());
    let emptied = |fields: &Value, shape: &[u64], values: &[&str], part: &str| {
        let work = work(&llama(), &base, fields, &modules, values);
        super::work::edit(&work.weights(), |tensors| {
            for tensor in tensors.iter_mut().filter(|tensor| tensor.name.contains(part)) {
                tensor.shape = shape.to_vec();
                tensor.data.clear();
            }
        });
        work
    };
    for fields in [json!({"target_modules": LIST}), json!({"target_modules": "all-linear"}), json!({})] {
        for shape in [&[0][..], &[0, 4], &[2, 0]] {
            let work = emptied(&fields, shape, &[], "layers.0.self_attn.q_proj");
            let says = [
                "no tensor for `model.layers.0.self_attn.q_proj`, whose tensors in the file have no elements",
            ];
            refused("gathered too late", &work, &[], 65, &says);
            work.succeeds(&["--allow-missing", r"^model\.layers\.0\.self_attn\.q_proj$"]);
        }
    }
    let fields = json!({"target_modules": LIST, "modules_to_save": ["lm_head"]});
    for shape in [&[0][..], &[0, 4]] {
        let work = emptied(&fields, shape, &["lm_head.weight"], "lm_head");
        let says = ["no tensor for `lm_head.weight`, whose tensors in the file have no elements"];
        refused("no rows", &work, &[], 65, &says);
    }
    // What the base does not have, as Tinker writes it.
    let mut adapter: Vec<(&str, &[u64])> = vec![("model.layers.0.mlp.experts.w3.lora_A.weight", &[2, 0])];
    let (a, b) = (format!("{}.lora_A.weight", modules[0]), format!("{}.lora_B.weight", modules[0]));
    adapter.extend([(a.as_str(), &[2, 4][..]), (b.as_str(), &[4, 2])]);
    with(&llama(), &weights(&base), &json!({}), &adapter).succeeds(&[]);
}

#[test]
fn fused_experts_of_a_layer_that_stores_them_apart() {
    let single =
        |layer: u32, e: u32, leaf: &str| format!("model.layers.{layer}.mlp.experts.{e}.{leaf}.weight");
    let mut base: Vec<(String, [u64; 2])> = Vec::new();
    for (layer, e) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        base.extend(["gate_proj", "up_proj"].map(|leaf| (single(layer, e, leaf), [4, 6])));
        base.push((single(layer, e, "down_proj"), [6, 4]));
    }
    let base: Vec<(&str, &[u64])> =
        base.iter().map(|(name, shape)| (name.as_str(), shape.as_slice())).collect();
    let fields = json!({"target_parameters": ["experts.gate_up_proj"]});
    let of = |layers: &[u32]| {
        let key = |layer: &u32| {
            ["lora_A", "lora_B"].map(|role| format!("model.layers.{layer}.mlp.experts.{role}.weight"))
        };
        let keys: Vec<[String; 2]> = layers.iter().map(key).collect();
        let adapter: Vec<(&str, &[u64])> = keys
            .iter()
            .flat_map(|[a, b]| [(a.as_str(), [4, 6].as_slice()), (b.as_str(), [8, 4].as_slice())])
            .collect();
        with(&qwen(2), &base, &fields, &adapter)
    };
    let says =
        ["no tensor for `model.layers.1.mlp.experts.gate_up_proj`, which its `target_parameters` selects"];
    refused("a layer", &of(&[0]), &[], 65, &says);
    of(&[0, 1]).succeeds(&[]);
}
