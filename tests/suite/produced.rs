//! Files of producers that write PEFT's format otherwise than PEFT does: what is read all the same, and what is refused.

use serde_json::{Value, json};
use shardfold::testing::Dtype;

use super::refusals::refused;
use super::support::f32s;
use super::work::{MODULE, Tensor, Work, edit};

/// A tiny merge whose adapter's keys are changed.
fn with_keys(change: impl Fn(&str) -> String) -> Work {
    let work = Work::tiny(Dtype::F32, 1.0);
    edit(&work.weights(), |tensors| tensors.iter_mut().for_each(|tensor| tensor.name = change(&tensor.name)));
    work
}

/// Adds an F32 tensor to the adapter's.
fn add(work: &Work, name: &str, shape: &[u64], value: f32) {
    let values = f32s(std::iter::repeat_n(value, shape.iter().product::<u64>() as usize));
    edit(&work.weights(), |tensors| {
        tensors.push(Tensor {
            name: name.to_owned(),
            dtype: "F32".into(),
            shape: shape.to_vec(),
            data: values,
        });
    });
}

fn merged(work: &Work) -> Vec<f32> {
    work.merged(&format!("{MODULE}.weight"))
}

#[test]
fn prefixes_that_come_and_go() {
    let own = "base_model.model.model.layers";
    for (what, prefix, told) in [
        ("as PEFT", own, None),
        ("no prefix of PEFT", "model.layers", None),
        ("half of it", "base_model.layers", Some("by prepending `model.`")),
        ("no `model.` either", "layers", Some("by prepending `model.`")),
        ("PEFT's, and no `model.`", "base_model.model.layers", Some("by prepending `model.`")),
        ("compiled", "base_model.model._orig_mod.model.layers", Some("took `_orig_mod.` off 2 keys")),
        ("compiled outside", "_orig_mod.base_model.model.model.layers", Some("took `_orig_mod.` off 2 keys")),
        ("data parallel", "module.base_model.model.model.layers", Some("took `module.` off 2 keys")),
        ("data parallel inside", "base_model.model.module.model.layers", Some("took `module.` off 2 keys")),
        (
            "sharded",
            "base_model.model._fsdp_wrapped_module.model.layers",
            Some("took `_fsdp_wrapped_module.` off"),
        ),
        (
            "Fabric",
            "_forward_module.base_model.model.model.layers",
            Some("took `_forward_module.` off 2 keys"),
        ),
        (
            "checkpointed",
            "base_model.model.model._checkpoint_wrapped_module.layers",
            Some("took `_checkpoint_wrapped"),
        ),
        (
            "wrapped twice",
            "base_model.model.base_model.model.model.layers",
            Some("took `base_model.model.` off"),
        ),
    ] {
        let work = with_keys(|key| key.replace(own, prefix));
        let ran = work.succeeds(&[]);
        assert_eq!(merged(&work), [2.0; 16], "{what}");
        if let Some(told) = told {
            assert!(ran.err.contains(told), "{what}: {}", ran.err);
        }
    }
    // Where the base has no prefix, one in the adapter goes.
    let work = Work::tiny(Dtype::F32, 1.0);
    let bare = MODULE.strip_prefix("model.").expect("a prefix");
    work.rebase(&[(&format!("{bare}.weight"), &[4, 4], vec![1.0; 16])]);
    work.succeeds(&[]);
    assert_eq!(work.merged(&format!("{bare}.weight")), [2.0; 16]);
}

#[test]
fn names_of_adapters_left_in_keys() {
    for name in ["default", "lora", "style-1", "reference"] {
        let work = with_keys(|key| key.replace(".weight", &format!(".{name}.weight")));
        work.succeeds(&[]);
        assert_eq!(merged(&work), [2.0; 16], "{name}");
    }
    // Two adapters in one file, as a dump with a reference model has them.
    let work = with_keys(|key| key.replace(".weight", ".default.weight"));
    edit(&work.weights(), |tensors| {
        let again = tensors.clone().into_iter().map(|mut tensor| {
            tensor.name = tensor.name.replace(".default.", ".reference.");
            tensor
        });
        tensors.extend(again.collect::<Vec<_>>());
    });
    refused("two adapters", &work, &[], 65, &["adapter `adapter` holds `", "lora_A.reference.weight`"]);
}

#[test]
fn fields_that_change_nothing() {
    for (field, value) in [
        ("auto_mapping", json!({"base_model_class": "X", "parent_library": "x", "unsloth_fixed": true})),
        ("lora_B_layout", json!("rank_major")),
        ("lora_dtype", json!("fp32")),
        ("lorap_lr_ratio", json!(16.0)),
        ("lorap_emb_lr", json!(1e-6)),
        ("merge_weights", json!(true)),
        ("enable_lora", Value::Null),
        ("nvfp4_merge_aware", Value::Null),
    ] {
        let work = Work::tiny(Dtype::F32, 1.0);
        work.configure(field, value);
        work.succeeds(&[]);
        assert_eq!(merged(&work), [2.0; 16], "{field}");
    }
    let work = Work::tiny(Dtype::F32, 1.0);
    work.configure("nvfp4_merge_aware", json!({"scale_mode": "fresh"}));
    let says = [
        "sets `nvfp4_merge_aware` to",
        "trained for the merged weights in NVFP4",
        "hint: to quantize the result",
    ];
    refused("NVFP4 in training", &work, &[], 65, &says);
    refused("and no way round", &work, &["--ignore-field", "nvfp4_merge_aware"], 65, &says);
}

#[test]
fn tensors_that_no_merge_needs() {
    for (key, shape, rule) in [
        ("model.layers.0.self_attn.rotary_emb.inv_freq", &[2u64][..], "computed by the model"),
        ("score.original_module.weight", &[2, 4], "frozen beside what was trained"),
        ("model.layers.0.self_attn.v_proj.lora_A.weight", &[0, 4], "without values"),
    ] {
        let work = Work::tiny(Dtype::F32, 1.0);
        add(&work, &format!("base_model.model.{key}"), shape, 1.0);
        let ran = work.succeeds(&[]);
        assert!(ran.err.contains(&format!("{key}`: {rule}")), "{}", ran.err);
        assert!(!ran.err.contains("keys resolved"), "it plays no part in how keys are resolved: {}", ran.err);
        assert_eq!(merged(&work), [2.0; 16]);
    }
    for key in ["v_head.summary.weight", "model.layers.0.self_attn.inv_freq", "optimizer.step"] {
        let work = Work::tiny(Dtype::F32, 1.0);
        add(&work, &format!("base_model.model.{key}"), &[4], 1.0);
        refused(key, &work, &[], 65, &["1 adapter tensor matches no base tensor", key]);
    }
}

#[test]
fn extracted_adapters() {
    // mergekit: a bias of B that no field announces, norms as they are, patterns by whole names.
    let work = Work::tiny(Dtype::F32, 1.0);
    let (norm, bias) = ("model.norm.weight", format!("{MODULE}.bias"));
    let weight = format!("{MODULE}.weight");
    work.rebase(&[
        (&weight, &[4, 4], vec![1.0; 16]),
        (&bias, &[4], vec![1.0; 4]),
        (norm, &[4], vec![1.0; 4]),
    ]);
    work.adapt(2, 4, 4, 1.0, 1.0);
    add(&work, &format!("base_model.model.{MODULE}.lora_B.bias"), &[4], 3.0);
    add(&work, &format!("base_model.model.{norm}"), &[4], 5.0);
    work.configure("r", json!(8));
    work.configure("lora_alpha", json!(8));
    work.configure("rank_pattern", json!({MODULE: 2}));
    work.configure("alpha_pattern", json!({MODULE: 4}));
    work.succeeds(&[]);
    // 1 + 2·(4/2), 1 + 3·(4/2).
    assert_eq!(
        (merged(&work), work.merged(&bias), work.merged(norm)),
        (vec![5.0; 16], vec![7.0; 4], vec![5.0; 4])
    );
}

#[test]
fn extracted_embeddings() {
    // mergekit: factors of embeddings beside ranks by whole names, and values under `modules_to_save` of every layer.
    let work = Work::tiny(Dtype::F32, 1.0);
    let norms = ["model.layers.0.input_layernorm.weight", "model.layers.1.input_layernorm.weight"];
    let others = [("model.embed_tokens.weight", &[3u64, 2][..]), (norms[0], &[2]), (norms[1], &[2])];
    let base: Vec<_> = others
        .iter()
        .map(|(name, shape)| (*name, *shape, vec![1.0; shape.iter().product::<u64>() as usize]))
        .chain([("lm_head.weight", &[3, 2][..], vec![1.0; 6])])
        .collect();
    work.rebase(&base);
    work.adapt_by(
        &json!({
            "peft_type": "LORA", "r": 2, "lora_alpha": 2, "rank_pattern": {"model.embed_tokens": 1},
            "alpha_pattern": {"model.embed_tokens": 1}, "target_modules": ["embed_tokens", "lm_head"],
            "modules_to_save": ["input_layernorm"], "use_rslora": false, "task_type": "CAUSAL_LM",
            "lora_dropout": 0.0, "fan_in_fan_out": false, "inference_mode": true,
        }),
        &[
            ("model.embed_tokens.lora_embedding_A", &[1, 3], vec![1.0, 2.0, 3.0]),
            ("model.embed_tokens.lora_embedding_B", &[2, 1], vec![10.0, 20.0]),
            ("lm_head.lora_A.weight", &[2, 2], vec![1.0, 0.0, 0.0, 2.0]),
            ("lm_head.lora_B.weight", &[3, 2], vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]),
            (norms[0], &[2], vec![7.0, 8.0]),
            (norms[1], &[2], vec![9.0, 9.5]),
        ],
    );
    work.succeeds(&[]);
    assert_eq!(work.merged("model.embed_tokens.weight"), [11.0, 21.0, 21.0, 41.0, 31.0, 61.0]);
    assert_eq!(work.merged("lm_head.weight"), [2.0, 5.0, 4.0, 9.0, 6.0, 13.0]);
    assert_eq!((work.merged(norms[0]), work.merged(norms[1])), (vec![7.0, 8.0], vec![9.0, 9.5]));
}
