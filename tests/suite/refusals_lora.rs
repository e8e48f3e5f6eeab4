//! Adapters of LoRA's kin that are refused: what their configs ask for, and factors that do not fit what they say.

use serde_json::{Value, json};
use shardfold::testing::Dtype;

use super::refusals::refused;
use super::support::f32s;
use super::work::{MODULE, Tensor, Work, edit};

/// A base [4, 4] of ones with a bias, and an adapter of that config with those tensors of its module.
fn adapted(config: &Value, tensors: &[(&str, &[u64], f32)]) -> Work {
    let work = Work::tiny(Dtype::F32, 1.0);
    let named = |leaf: &str| format!("{MODULE}.{leaf}");
    work.rebase(&[(&named("weight"), &[4, 4], vec![1.0; 16]), (&named("bias"), &[4], vec![1.0; 4])]);
    let keys: Vec<String> = tensors.iter().map(|(role, _, _)| named(role)).collect();
    let tensors: Vec<(&str, &[u64], Vec<f32>)> = keys
        .iter()
        .zip(tensors)
        .map(|(key, (_, shape, value))| {
            (key.as_str(), *shape, vec![*value; shape.iter().product::<u64>() as usize])
        })
        .collect();
    work.adapt_by(config, &tensors);
    work
}

#[test]
fn initialisations_that_change_the_base() {
    let convert = "hint: convert the adapter where it was trained: `save_pretrained(..., \
        path_initial_model_for_weight_conversion=...)`";
    let residual = "hint: merge into the residual base that training made";
    for (value, why, hint) in [
        ("pissa_niter_16", "found by a randomised factorisation that nobody can repeat", convert),
        (
            "loftq",
            "training ran on quantized weights",
            "hint: merge into the base as LoftQ quantized it, with `--base-as nf4`",
        ),
        ("corda", "by statistics that the adapter does not hold", residual),
        ("lora_ga", "by gradients that the adapter does not hold", residual),
    ] {
        let work = Work::tiny(Dtype::F32, 1.0);
        work.configure("init_lora_weights", json!(value));
        let says = format!("adapter `adapter` sets `init_lora_weights` to `{value}`, which ");
        refused(value, &work, &[], 65, &[&says, why, hint]);
    }
    let work = Work::tiny(Dtype::F32, 1.0);
    work.configure("init_lora_weights", json!("zebra"));
    refused(
        "zebra",
        &work,
        &[],
        65,
        &["`init_lora_weights` to `zebra`, which is a value shardfold does not know"],
    );
    for value in [
        json!(true),
        json!(false),
        json!(null),
        json!("gaussian"),
        json!("orthogonal"),
        json!("eva"),
        json!("mica"),
    ] {
        let work = Work::tiny(Dtype::F32, 1.0);
        work.configure("init_lora_weights", value);
        work.succeeds(&[]);
        assert_eq!(work.merged(&format!("{MODULE}.weight")), [2.0; 16]);
    }
}

#[test]
fn variants_that_no_merge_can_hold_are_refused_with_what_helps() {
    for (field, value, why, hint) in [
        (
            "layer_replication",
            json!([[0, 2], [1, 3]]),
            "which gives copies of one layer factors of their own",
            "hint: write the base with its layers copied under their new numbers first",
        ),
        (
            "use_qalora",
            json!(true),
            "which gives `lora_A` fewer columns than a base quantized with GPTQ",
            "hint: PEFT ignores this field on layers that are not quantized",
        ),
        (
            "arrow_config",
            json!({"top_k": 2}),
            "which routes each token to adapters of its own, which no merge can do",
            "hint: its experts are adapters by themselves: merge one at a time",
        ),
        (
            "alora_invocation_tokens",
            json!([1, 2]),
            "which is active only after some tokens, which no merge can do",
            "hint: serve this adapter beside its base",
        ),
    ] {
        let work = Work::tiny(Dtype::F32, 1.0);
        work.configure(field, value);
        refused(field, &work, &[], 65, &[&format!("sets `{field}` to"), why, hint]);
        // Off, they are nothing.
        for off in [json!(null), json!(false), json!([]), json!({})] {
            let work = Work::tiny(Dtype::F32, 1.0);
            work.configure(field, off);
            work.succeeds(&[]);
        }
    }
}

#[test]
fn what_a_variant_keeps_for_training_needs_its_field() {
    for (role, field, value) in [
        ("lora_velora_embed", "velora_config", json!({"num_groups": 2})),
        ("lora_monteclora_sampler.std_prior", "monteclora_config", json!({"num_samples": 8})),
    ] {
        let work = Work::tiny(Dtype::F32, 1.0);
        let name = format!("base_model.model.{MODULE}.{role}");
        edit(&work.weights(), |tensors| {
            tensors.push(Tensor { name, dtype: "F32".into(), shape: vec![2], data: f32s([1.0, 2.0]) });
        });
        refused(role, &work, &[], 65, &["1 adapter tensor", role]);
        work.configure(field, value);
        let ran = work.succeeds(&[]);
        assert!(ran.err.contains("note: ignored `"), "{}", ran.err);
    }
}

#[test]
fn vectors_that_cannot_multiply() {
    let config = json!({"peft_type": "IA3", "feedforward_modules": []});
    let work = adapted(&config, &[("ia3_l", &[4, 1], 2.0)]);
    for weight in ["0.5", "-1"] {
        let ran = work.merge_scaled(weight);
        assert_eq!(ran.code, 65, "{}", ran.err);
        assert!(
            ran.err.contains(&format!("`IA3` cannot have weight {weight}: it multiplies")),
            "{}",
            ran.err
        );
        assert!(ran.err.contains("hint: use weight 1 for this adapter"), "{}", ran.err);
    }
    work.succeeds(&[]);
    assert_eq!(work.merged(&format!("{MODULE}.weight")), [2.0; 16]);
    assert_eq!(work.merged(&format!("{MODULE}.bias")), [2.0; 4]);
    for (what, shape, says) in [
        (
            "another size",
            &[8u64, 1][..],
            "expected one side of `model.layers.0.self_attn.q_proj.weight` [4, 4]",
        ),
        ("another size of inputs", &[1, 8], "expected one side of"),
        ("no side", &[4], "expected [out, 1] or [1, in]"),
        ("a matrix", &[4, 4], "expected [out, 1] or [1, in]"),
        ("a convolution's", &[1, 4, 1, 1], "expected [out, 1] or [1, in]"),
    ] {
        let work = adapted(&config, &[("ia3_l", shape, 2.0)]);
        refused(what, &work, &[], 65, &["q_proj.ia3_l` has shape", says]);
    }
    let ones = adapted(&config, &[("ia3_l", &[4, 1], 1.0)]);
    refused("ones", &ones, &[], 65, &["adapter `adapter` has no effect"]);
    // Zeros are no vector before training: they erase the layer.
    adapted(&config, &[("ia3_l", &[4, 1], 0.0)]).succeeds(&[]);
    let scalar = |feedforward: Value| {
        let work = Work::tiny(Dtype::F32, 1.0);
        work.rebase(&[("dot.weight", &[1, 1], vec![1.0])]);
        let config = json!({"peft_type": "IA3", "feedforward_modules": feedforward});
        work.adapt_by(&config, &[("dot.ia3_l", &[1, 1], vec![2.0])]);
        work
    };
    let says = ["sets `feedforward_modules` to `null`, which does not say whether", "its shape fits both"];
    refused("no side is named", &scalar(json!(null)), &[], 65, &says);
    let says = ["pattern `(` in `feedforward_modules` is not a regular expression"];
    refused("no expression", &scalar(json!("(")), &[], 65, &says);
    let work = Work::tiny(Dtype::F32, 1.0);
    work.rebase(&[("conv.weight", &[4, 2, 3, 3], vec![1.0; 72])]);
    work.adapt_by(&config, &[("conv.ia3_l", &[1, 3, 1, 1], vec![2.0; 3])]);
    let says = ["expected the 4 outputs of `conv.weight`, or 2 inputs for each group"];
    refused("no side of a convolution", &work, &[], 65, &says);
    work.adapt_by(&config, &[("conv.ia3_l", &[4, 1], vec![2.0; 4])]);
    let says = ["expected [1, features, 1, 1], for a convolution"];
    refused("a linear layer's vector", &work, &[], 65, &says);
    let work = Work::tiny(Dtype::F32, 1.0);
    work.rebase(&[("dot.weight", &[4, 2], vec![1.0; 8]), ("dot.bias", &[3], vec![1.0; 3])]);
    work.adapt_by(&config, &[("dot.ia3_l", &[4, 1], vec![2.0; 4])]);
    refused("a bias of another size", &work, &[], 65, &["expected [3] values, as `dot.bias` has"]);
}

#[test]
fn shares_that_do_not_fit() {
    let config = json!({"peft_type": "HIRA", "r": 2});
    let (a, b) = (("hira_A", &[2u64, 4][..], 1.0), ("hira_B", &[4u64, 2][..], 1.0));
    adapted(&config, &[a, b]).succeeds(&[]);
    for (what, tensors, says) in [
        ("A alone", vec![a], "hira_A` has no partner `model.layers.0.self_attn.q_proj.hira_B`"),
        ("B alone", vec![b], "hira_B` has no partner `model.layers.0.self_attn.q_proj.hira_A`"),
        ("two ranks", vec![a, ("hira_B", &[4, 1], 1.0)], "as `base_model.model."),
        ("another size", vec![("hira_A", &[2, 8], 1.0), b], "has shape [4, 8], base tensor has [4, 4]"),
        ("zeros", vec![a, ("hira_B", &[4, 2], 0.0)], "a factor is all zero"),
    ] {
        refused(what, &adapted(&config, &tensors), &[], 65, &[says]);
    }
    // The rank plays no part, whatever the config says of it.
    adapted(&json!({"peft_type": "HIRA", "rank_pattern": {"q_proj": 5}}), &[a, b]).succeeds(&[]);
}

#[test]
fn blocks_that_do_not_fit() {
    let config = |blocks: Value| json!({"peft_type": "LORA", "r": 4, "lora_alpha": 4, "use_bdlora": blocks});
    let of_a = json!({"nblocks": 2, "target_modules_bd_a": ["q_proj"], "match_strict": true});
    let of_b = json!({"nblocks": 2, "target_modules_bd_b": ["attn.q_"]});
    let full_a = ("lora_A.weight", &[4u64, 4][..], 1.0);
    let full_b = ("lora_B.weight", &[4u64, 4][..], 1.0);
    let (half_a, half_b) = (("lora_A.weight", &[4u64, 2][..], 1.0), ("lora_B.weight", &[4u64, 2][..], 1.0));
    // Two values of each product remain, of four.
    for (blocks, a, b) in [(&of_a, half_a, full_b), (&of_b, full_a, half_b)] {
        let work = adapted(&config(blocks.clone()), &[a, b]);
        work.succeeds(&[]);
        assert_eq!(work.merged(&format!("{MODULE}.weight")), [3.0; 16]);
    }
    for (what, blocks, a, b, says) in [
        ("A is whole", of_a.clone(), full_a, full_b, "is that this adapter's?"),
        ("B is whole", of_b.clone(), full_a, full_b, "expected [out, 4/2], 2 blocks that divide both axes"),
        ("B has blocks, not A", of_a.clone(), full_a, half_b, "expected [2, in/2]"),
        ("A has blocks, not B", of_b.clone(), half_a, full_b, "expected [out, 4/2]"),
        (
            "3 blocks of a rank of 4",
            json!({"nblocks": 3, "target_modules_bd_a": ["q_proj"]}),
            half_a,
            full_b,
            "expected [4, in/3], the 3 blocks of a rank that they divide",
        ),
        (
            "both have blocks",
            json!({"nblocks": 2, "target_modules_bd_a": ["q_proj"], "target_modules_bd_b": ["self_attn"]}),
            half_a,
            full_b,
            "gives both factors of `model.layers.0.self_attn.q_proj` blocks, which PEFT refuses too",
        ),
        (
            "neither has",
            json!({"nblocks": 2}),
            half_a,
            full_b,
            "delta for `model.layers.0.self_attn.q_proj.weight`",
        ),
        (
            "no blocks",
            json!({"nblocks": 0, "target_modules_bd_a": ["q_proj"]}),
            half_a,
            full_b,
            "needs a whole number above zero as its `nblocks`",
        ),
        (
            "a field from the future",
            json!({"nblocks": 2, "overlap": 1}),
            half_a,
            full_b,
            "holds `overlap`, a field shardfold does not know",
        ),
        ("a flag alone", json!(true), half_a, full_b, "does not say which factors have blocks"),
    ] {
        refused(what, &adapted(&config(blocks), &[a, b]), &[], 65, &[says]);
    }
    let work = adapted(&config(of_a), &[half_a, full_b]);
    work.configure("use_dora", json!(true));
    refused("DoRA too", &work, &[], 65, &["which PEFT does not combine with `use_dora`"]);
}
