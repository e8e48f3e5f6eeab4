//! Adapters of OFT, LoHa and LoKr that are refused, and of methods with deltas of their own, each with what it says; and what is said of some
//! that are not.

use serde_json::{Value, json};
use shardfold::testing::Dtype;

use super::refusals::refused;
use super::work::{MODULE, Work, edit};

/// Tensors of the module by what follows its path, or of all modules by what follows `/`, and their shapes; every value is 0.25.
pub(super) type Tensors<'t> = &'t [(&'t str, &'t [u64])];

/// A base of one tensor, a plain one or of a GPT-2, and an adapter of that config with those tensors.
pub(super) fn adapted(
    model_type: &str,
    name: &str,
    shape: &[u64],
    config: Value,
    tensors: Tensors<'_>,
) -> Work {
    let work = Work::tiny(Dtype::F32, 1.0);
    let values = |shape: &[u64]| vec![0.25; shape.iter().product::<u64>() as usize];
    work.rebase(&[(&format!("{name}.weight"), shape, values(shape))]);
    let base = json!({"model_type": model_type}).to_string();
    std::fs::write(work.base.join("config.json"), base).expect("a small file");
    let key = |leaf: &str| if leaf.starts_with('/') { leaf.to_owned() } else { format!("{name}.{leaf}") };
    let keys: Vec<String> = tensors.iter().map(|(leaf, _)| key(leaf)).collect();
    let tensors: Vec<(&str, &[u64], Vec<f32>)> =
        keys.iter().zip(tensors).map(|(key, (_, shape))| (key.as_str(), *shape, values(shape))).collect();
    work.adapt_by(&config, &tensors);
    // What all modules share lies beside the model.
    edit(&work.weights(), |tensors| {
        tensors.iter_mut().for_each(|tensor| tensor.name = tensor.name.replace("model./", ""));
    });
    work
}

/// One config with some fields changed; null takes one away.
pub(super) fn with(mut config: Value, fields: &Value) -> Value {
    for (name, value) in fields.as_object().expect("an object") {
        let all = config.as_object_mut().expect("an object");
        match value {
            Value::Null => drop(all.remove(name)),
            _ => drop(all.insert(name.clone(), value.clone())),
        }
    }
    config
}

/// What is refused: what it is, shape of the base, fields of the config, the adapter's tensors, what is said.
pub(super) type Wrong<'w> = (&'w str, &'w [u64], Value, Tensors<'w>, &'w [&'w str]);

pub(super) fn all_are_refused(config: &Value, wrongs: &[Wrong<'_>]) {
    for (what, shape, fields, tensors, says) in wrongs {
        let work = adapted("llama", MODULE, shape, with(config.clone(), fields), tensors);
        refused(what, &work, &[], 65, says);
    }
}

fn oft() -> Value {
    json!({
        "peft_type": "OFT", "peft_version": "0.21.2", "oft_block_size": 2, "r": 0, "use_cayley_neumann": true,
        "target_modules": ["q_proj"]
    })
}

#[test]
fn oft_that_does_not_fit() {
    let r: Tensors<'_> = &[("oft_R.weight", &[2, 1])];
    let none = || json!({});
    let key = format!("adapter tensor `base_model.model.{MODULE}.oft_R.weight`");
    all_are_refused(
        &oft(),
        &[
            (
                "of PEFT before 0.14",
                &[4, 4],
                json!({"oft_block_size": null}),
                r,
                &[
                    "adapter `adapter` has `peft_type` `OFT`, which without `oft_block_size` in the config is OFT as PEFT before \
                     0.14 had it",
                    "hint: no later PEFT reads it",
                ],
            ),
            (
                "of PEFT up to 0.15",
                &[4, 4],
                none(),
                &[("oft_r", &[2, 2, 2])],
                &["q_proj.oft_r`: it is of OFT as PEFT up to 0.15 had it", "hint: no later"],
            ),
            (
                "of PEFT up to 0.15, as a dump",
                &[4, 4],
                none(),
                &[("oft_r.default", &[2, 2, 2]), ("k.oft_r.weight", &[2])],
                &["it and 1 more are of OFT as PEFT up to 0.15 had it"],
            ),
            (
                "a vector",
                &[4, 4],
                none(),
                &[("oft_R.weight", &[2])],
                &[&key, "has shape [2], expected [blocks, b·(b - 1)/2] for blocks of b · b"],
            ),
            (
                "no triangle",
                &[4, 4],
                none(),
                &[("oft_R.weight", &[2, 2])],
                &[&key, "has shape [2, 2], expected [blocks, "],
            ),
            (
                "too few blocks",
                &[6, 8],
                none(),
                r,
                &[
                    &key,
                    "expected blocks that make up rows of 8, as `",
                    "is [6, 8]",
                    "hint: 2 of 2 · 2 make up 4",
                ],
            ),
            (
                "one block that nobody shares",
                &[4, 4],
                none(),
                &[("oft_R.weight", &[1, 1])],
                &[&key, "hint: 1 of 2 · 2 make up 2"],
            ),
            (
                "a shared block that does not divide",
                &[4, 4],
                json!({"block_share": true}),
                &[("oft_R.weight", &[1, 3])],
                &[&key, "expected blocks that make up rows of 4"],
            ),
            (
                "several that are shared",
                &[4, 4],
                json!({"block_share": true}),
                r,
                &[&key, "has shape [2, 1], expected [1, 1], as the config sets `block_share`"],
            ),
            (
                "a layer stored the other way",
                &[4, 6],
                none(),
                r,
                &[&key, "q_proj.weight` is stored as [in, out], which PEFT's OFT does not fit"],
            ),
            (
                "a convolution of one dimension",
                &[3, 2, 2],
                none(),
                r,
                &[
                    &key,
                    "is neither a linear layer nor a convolution of two dimensions, which PEFT's OFT does not fit",
                ],
            ),
            (
                "an oblong kernel",
                &[3, 2, 1, 2],
                none(),
                r,
                &[&key, "is a convolution whose kernel is not square"],
            ),
            (
                "one output",
                &[1, 4, 1, 1],
                none(),
                r,
                &[&key, "is a convolution of one output without a kernel"],
            ),
            (
                "no embedding",
                &[3, 4, 1, 1],
                none(),
                &[("oft_embedding_R.weight", &[2, 1])],
                &["oft_embedding_R.weight`", "is no embedding, which PEFT's OFT does not fit"],
            ),
            (
                "half a term",
                &[4, 4],
                json!({"num_cayley_neumann_terms": 4.5}),
                r,
                &["sets `num_cayley_neumann_terms` to `4.5`, which is not a whole number up to 1000"],
            ),
            (
                "too many terms",
                &[4, 4],
                json!({"num_cayley_neumann_terms": 1e9}),
                r,
                &["sets `num_cayley_neumann_terms` to", "which is not a whole number up to 1000"],
            ),
            (
                "an eps of text",
                &[4, 4],
                json!({"eps": "6e-5"}),
                r,
                &["sets `eps` to `6e-5`, which is not a number"],
            ),
            (
                "a flag of text",
                &[4, 4],
                json!({"use_cayley_neumann": "yes"}),
                r,
                &["sets `use_cayley_neumann` to `yes`, which is neither true nor false"],
            ),
            (
                "a flag of numbers",
                &[4, 4],
                json!({"coft": 1}),
                r,
                &["sets `coft` to `1`, which is neither true nor false"],
            ),
            (
                "another bias",
                &[4, 4],
                json!({"bias": "lora_only"}),
                r,
                &["sets `bias` to `lora_only`, which is none of"],
            ),
            (
                "an unknown field",
                &[4, 4],
                json!({"alpha": 2}),
                r,
                &["sets `alpha` to `2`, which is a field shardfold does not know"],
            ),
        ],
    );
}

#[test]
fn blocks_of_one_change_nothing() {
    for (shape, blocks, fits) in [([4, 4], 4, true), ([4, 3], 4, false)] {
        let tensors = [("oft_R.weight", &[blocks, 0][..]), ("base_layer.bias", &[4])];
        let work = adapted("llama", MODULE, &shape, oft(), &tensors);
        work.rebase(&[
            (&format!("{MODULE}.weight"), &shape, vec![0.25; (shape[0] * shape[1]) as usize]),
            (&format!("{MODULE}.bias"), &[4], vec![0.5; 4]),
        ]);
        let ran = work.merge(&[]);
        let told = "q_proj.weight` has blocks of one element, which rotate nothing";
        assert_eq!((ran.code, ran.err.contains(told)), (if fits { 0 } else { 65 }, fits), "{}", ran.err);
    }
}

#[test]
fn oft_has_no_weight() {
    let work = adapted("llama", MODULE, &[4, 4], oft(), &[("oft_R.weight", &[2, 1])]);
    let ran = work.merge_scaled("0.5");
    assert_eq!(ran.code, 65, "{}", ran.err);
    for says in [
        "q_proj` cannot have weight 0.5: OFT rotates, and a rotation has no scale",
        "hint: use weight 1 for this adapter",
    ] {
        assert!(ran.err.contains(says), "{}", ran.err);
    }
    assert_eq!(work.merge_scaled("1").code, 0);
}

#[test]
fn oft_of_older_versions_is_told() {
    let old = "trained with PEFT before 0.18, which made rotations from a slightly different series";
    let few = "sets `num_cayley_neumann_terms` below 2, so that it rotates nothing";
    for (fields, says_old, says_few) in [
        (json!({}), false, false),
        (json!({"peft_version": null}), true, false),
        (json!({"peft_version": "0.17.0"}), true, false),
        (json!({"peft_version": null, "use_cayley_neumann": false}), false, false),
        (json!({"num_cayley_neumann_terms": 1}), false, true),
    ] {
        let r: Tensors<'_> = &[("oft_R.weight", &[2, 1])];
        let ran = adapted("llama", MODULE, &[4, 4], with(oft(), &fields), r).merge(&["--dry-run"]);
        assert_eq!(ran.code, 0, "{fields}: {}", ran.err);
        assert_eq!(
            (ran.err.contains(old), ran.err.contains(few)),
            (says_old, says_few),
            "{fields}: {}",
            ran.err
        );
    }
}

#[test]
fn layers_of_gpt2_are_stored_the_other_way() {
    let loha = with(lycoris("LOHA"), &json!({"target_modules": null}));
    let lokr = with(lycoris("LOKR"), &json!({"target_modules": null}));
    let oft = with(oft(), &json!({"target_modules": null}));
    let hada: Tensors<'_> =
        &[("hada_w1_a", &[4, 2]), ("hada_w1_b", &[2, 4]), ("hada_w2_a", &[4, 2]), ("hada_w2_b", &[2, 4])];
    for (config, tensors, what) in [
        (&oft, &[("oft_R.weight", &[2, 1][..])][..], "OFT"),
        (&loha, hada, "LoHa"),
        (&lokr, &[("lokr_w1", &[2, 2]), ("lokr_w2", &[2, 2])], "LoKr"),
    ] {
        let says = format!("c_proj.weight` is stored as [in, out], which PEFT's {what} does not fit");
        let work = adapted("gpt2", "h.0.attn.c_proj", &[4, 4], config.clone(), tensors);
        refused(what, &work, &[], 65, &[&says]);
        // Its head is a linear layer.
        let ran = adapted("gpt2", "lm_head", &[4, 4], config.clone(), tensors).merge(&[]);
        assert_eq!(ran.code, 0, "{what}: {}", ran.err);
    }
    // A shared block tells nothing of the length of rows.
    let shared = with(oft, &json!({"block_share": true}));
    let work = adapted("gpt2", "h.0.mlp.c_fc", &[4, 16], shared, &[("oft_R.weight", &[1, 1])]);
    refused(
        "shared",
        &work,
        &[],
        65,
        &["c_fc.weight` is stored as [in, out], which PEFT's OFT does not fit"],
    );
}

fn lycoris(peft_type: &str) -> Value {
    json!({"peft_type": peft_type, "r": 2, "alpha": 2, "target_modules": ["q_proj"]})
}

#[test]
fn loha_that_does_not_fit() {
    let none = || json!({});
    let good: Tensors<'_> =
        &[("hada_w1_a", &[4, 2]), ("hada_w1_b", &[2, 6]), ("hada_w2_a", &[4, 2]), ("hada_w2_b", &[2, 6])];
    let cores: Tensors<'_> = &[
        ("hada_w1_a", &[2, 4]),
        ("hada_w1_b", &[2, 6]),
        ("hada_t1", &[2, 2, 3, 1]),
        ("hada_w2_a", &[2, 4]),
        ("hada_w2_b", &[2, 6]),
        ("hada_t2", &[2, 2, 3, 1]),
    ];
    let but = |all: Tensors<'static>, slot: usize, shape: &'static [u64]| {
        let mut all = all.to_vec();
        all[slot].1 = shape;
        all
    };
    let less = |all: Tensors<'static>, slot: usize| {
        let mut all = all.to_vec();
        all.remove(slot);
        all
    };
    let hint = "hint: the adapter was not saved whole";
    all_are_refused(
        &lycoris("LOHA"),
        &[
            (
                "no w1_a",
                &[4, 6],
                none(),
                &less(good, 0),
                &["hada_w1_b` has no partner `", "hada_w1_a`", hint],
            ),
            ("no w1_b", &[4, 6], none(), &less(good, 1), &["has no partner `", "hada_w1_b`", hint]),
            ("no w2_a", &[4, 6], none(), &less(good, 2), &["has no partner `", "hada_w2_a`", hint]),
            ("no w2_b", &[4, 6], none(), &less(good, 3), &["has no partner `", "hada_w2_b`", hint]),
            ("one core", &[4, 6, 3], none(), &less(cores, 2), &["has no partner `", "hada_t1`", hint]),
            ("the other core", &[4, 6, 3], none(), &less(cores, 5), &["has no partner `", "hada_t2`", hint]),
            (
                "a vector",
                &[4, 6],
                none(),
                &but(good, 0, &[8]),
                &["hada_w1_a` has shape [8], expected [out, rank], both above zero"],
            ),
            (
                "another rank",
                &[4, 6],
                none(),
                &but(good, 1, &[3, 6]),
                &["hada_w1_b` has shape [3, 6], expected [2, 6], as `", "hada_w1_a` is [4, 2]"],
            ),
            (
                "another out",
                &[4, 6],
                none(),
                &but(good, 2, &[5, 2]),
                &["hada_w2_a` has shape [5, 2], expected [4, 2], as `"],
            ),
            (
                "another in",
                &[4, 6],
                none(),
                &but(good, 3, &[2, 5]),
                &["hada_w2_b` has shape [2, 5], expected [2, 6], as `"],
            ),
            (
                "another rank in the config",
                &[4, 6],
                json!({"r": 3}),
                good,
                &[
                    "`model.layers.0.self_attn.q_proj` has rank 2 in the adapter's tensors, but 3 by its config",
                ],
            ),
            (
                "another rank by a pattern",
                &[4, 6],
                json!({"rank_pattern": {"q_proj": 4}}),
                good,
                &["has rank 2", "but 4 by its config"],
            ),
            (
                "an alpha of text",
                &[4, 6],
                json!({"alpha": "a"}),
                good,
                &["sets `alpha` to `a`, which is not a number"],
            ),
            (
                "an endless alpha",
                &[4, 6],
                json!({"alpha": 1e300}),
                good,
                &["sets `alpha` to `1e+300`, which gives a scale that is not a finite number"],
            ),
            (
                "another base",
                &[4, 7],
                none(),
                good,
                &[
                    "delta for `model.layers.0.self_attn.q_proj.weight` has shape [4, 6], base tensor has [4, 7]",
                    "hint: the adapter was trained on a model with other sizes",
                ],
            ),
            (
                "stored the other way",
                &[6, 4],
                none(),
                good,
                &["is stored as [in, out], which PEFT's LoHa does not fit"],
            ),
            (
                "too many dimensions",
                &[4, 6, 1, 1, 1],
                none(),
                good,
                &["is neither a linear layer nor a convolution of one or two dimensions, which PEFT's LoHa"],
            ),
            (
                "cores of a linear layer",
                &[4, 6],
                none(),
                cores,
                &["hada_t1` has shape [2, 2, 3, 1], expected none at all, as `", "has no kernel"],
            ),
            (
                "another kernel",
                &[4, 6, 5],
                none(),
                cores,
                &["hada_t1` has shape [2, 2, 3, 1], expected [2, 2, 5, 1], by the rank"],
            ),
            (
                "the other's kernel",
                &[4, 6, 3],
                none(),
                &but(cores, 5, &[2, 2, 1, 3]),
                &["hada_t2` has shape [2, 2, 1, 3], expected [2, 2, 3, 1]"],
            ),
            (
                "cores and another base",
                &[4, 5, 3],
                none(),
                cores,
                &["has shape [4, 18], base tensor has [4, 5, 3]"],
            ),
        ],
    );
    let config = with(lycoris("LOHA"), &json!({"target_modules": ["embed_tokens"]}));
    let work = adapted("llama", "model.embed_tokens", &[4, 6], config, good);
    refused(
        "an embedding",
        &work,
        &[],
        65,
        &["`model.embed_tokens.weight` is an embedding, which PEFT's LoHa does not fit"],
    );
    let fine = adapted("llama", MODULE, &[4, 6, 3], lycoris("LOHA"), cores).merge(&[]);
    assert_eq!(fine.code, 0, "{}", fine.err);
}

#[test]
fn lokr_that_does_not_fit() {
    let none = || json!({});
    let w1 = ("lokr_w1", &[2, 3][..]);
    let w2 = ("lokr_w2", &[2, 2][..]);
    let (a, b) = (("lokr_w2_a", &[2, 2][..]), ("lokr_w2_b", &[2, 2][..]));
    let (a1, b1) = (("lokr_w1_a", &[2, 2][..]), ("lokr_w1_b", &[2, 3][..]));
    let t = ("lokr_t2", &[2, 2, 3, 1][..]);
    let hint = "hint: the adapter was not saved whole";
    all_are_refused(
        &lycoris("LOKR"),
        &[
            ("no w1", &[4, 6], none(), &[w2], &["lokr_w2` has no partner `", "lokr_w1`", hint]),
            ("no w2", &[4, 6], none(), &[w1], &["lokr_w1` has no partner `", "lokr_w2`", hint]),
            ("no w1_b", &[4, 6], none(), &[a1, w2], &["has no partner `", "lokr_w1_b`", hint]),
            ("no w2_a", &[4, 6], none(), &[w1, b], &["has no partner `", "lokr_w2_a`", hint]),
            ("only a core", &[4, 6, 3], none(), &[w1, t], &["has no partner `", "lokr_w2_a`", hint]),
            (
                "both w1",
                &[4, 6],
                none(),
                &[w1, a1, b1, w2],
                &[
                    "unsupported adapter tensor `",
                    "lokr_w1_a`: `",
                    "lokr_w1` is there too, and only one of them can be meant",
                ],
            ),
            ("both w2", &[4, 6], none(), &[w1, w2, a, b], &["lokr_w2_a`: ", "lokr_w2` is there too"]),
            (
                "a vector",
                &[4, 6],
                none(),
                &[("lokr_w1", &[6]), w2],
                &["lokr_w1` has shape [6], expected [outs, ins], both above zero"],
            ),
            (
                "w1 of two ranks",
                &[4, 6],
                none(),
                &[a1, ("lokr_w1_b", &[3, 3]), w2],
                &["lokr_w1_b` has shape [3, 3], expected [2, 3], as `"],
            ),
            (
                "w2 of two ranks",
                &[4, 6],
                none(),
                &[w1, a, ("lokr_w2_b", &[1, 2])],
                &["lokr_w2_b` has shape [1, 2], expected [2, 2], as `"],
            ),
            (
                "w1 and w2 of two ranks",
                &[4, 6],
                none(),
                &[a1, b1, ("lokr_w2_a", &[2, 1]), ("lokr_w2_b", &[1, 2])],
                &["has rank 1 in the adapter's tensors, but 2 by its config"],
            ),
            (
                "another rank in the config",
                &[4, 6],
                json!({"r": 3}),
                &[w1, a, b],
                &["has rank 2 in the adapter's tensors, but 3"],
            ),
            (
                "no rank at all",
                &[4, 6],
                json!({"r": 0}),
                &[w1, w2],
                &["sets `r` to `0`, which is not a whole number above zero"],
            ),
            (
                "another base",
                &[4, 7],
                none(),
                &[w1, w2],
                &[
                    "delta for `model.layers.0.self_attn.q_proj.weight` has shape [4, 6], base tensor has [4, 7]",
                ],
            ),
            (
                "stored the other way",
                &[6, 4],
                none(),
                &[w1, w2],
                &["is stored as [in, out], which PEFT's LoKr does not fit"],
            ),
            (
                "w2 without its kernel",
                &[4, 6, 3],
                none(),
                &[w1, w2],
                &["lokr_w2` has shape [2, 2], expected [outs, ins, 3], both above zero"],
            ),
            (
                "w2 with a kernel",
                &[4, 6],
                none(),
                &[w1, ("lokr_w2", &[2, 2, 3])],
                &["lokr_w2` has shape [2, 2, 3], expected [outs, ins], both"],
            ),
            (
                "a core of a linear layer",
                &[4, 6],
                none(),
                &[w1, a, b, t],
                &["lokr_t2` has shape [2, 2, 3, 1], expected none at all, as `"],
            ),
            (
                "a core of another kernel",
                &[4, 6, 2],
                none(),
                &[w1, a, b, t],
                &["lokr_t2` has shape [2, 2, 3, 1], expected [2, 2, 2, 1], by"],
            ),
            (
                "a core that PEFT fails on",
                &[4, 6, 3],
                json!({"r": 1}),
                &[w1, ("lokr_w2_a", &[1, 2]), ("lokr_w2_b", &[1, 2]), ("lokr_t2", &[1, 1, 3, 1])],
                &["lokr_t2`: PEFT fails on a core of rank 1 of such a convolution of one dimension"],
            ),
        ],
    );
    let fine = adapted("llama", MODULE, &[4, 6, 3], lycoris("LOKR"), &[w1, a, b, t]).merge(&[]);
    assert_eq!(fine.code, 0, "{}", fine.err);
    // With one input of `w2` it is the same matrix in memory either way, and PEFT merges it.
    let one = [
        ("lokr_w1", &[2, 6][..]),
        ("lokr_w2_a", &[1, 2]),
        ("lokr_w2_b", &[1, 1]),
        ("lokr_t2", &[1, 1, 3, 1]),
    ];
    let config = with(lycoris("LOKR"), &json!({"r": 1}));
    let fine = adapted("llama", MODULE, &[4, 6, 3], config, &one).merge(&[]);
    assert_eq!(fine.code, 0, "{}", fine.err);
}

/// A config of a method.
pub(super) fn of_type(kind: &str, fields: &Value) -> Value {
    let config = json!({"peft_type": kind, "peft_version": "0.21.2", "target_modules": ["q_proj"]});
    with(config, fields)
}

#[test]
fn values_that_repeat_and_do_not_fit() {
    let none = || json!({});
    let block: Tensors<'_> = &[("miss_block", &[2, 4])];
    all_are_refused(
        &of_type("MISS", &none()),
        &[
            (
                "other outputs",
                &[5, 6],
                none(),
                block,
                &["delta for `", "has shape [4, 6], base tensor has [5, 6]"],
            ),
            (
                "a convolution",
                &[4, 6, 1, 1],
                none(),
                block,
                &["is a convolution, which PEFT's MiSS does not fit"],
            ),
            (
                "more rows than inputs",
                &[4, 1],
                none(),
                block,
                &["expected no more rows than its layer's 1 inputs"],
            ),
            (
                "a form that nobody has",
                &[4, 6],
                json!({"init_weights": "maxi"}),
                block,
                &["sets `init_weights` to `maxi`, which is no value that PEFT has for it"],
            ),
            (
                "a mini that does not divide",
                &[7, 6],
                json!({"init_weights": "mini"}),
                block,
                &["expected [r, mini_r] with a mini_r that divides 7 outputs"],
            ),
            (
                "a bat of two axes",
                &[4, 6],
                json!({"init_weights": "bat"}),
                block,
                &["expected [4 / r, r, r] with an r that divides 4 outputs and 6 inputs"],
            ),
            (
                "a bias of others",
                &[4, 6],
                json!({"bias": "lora_only"}),
                block,
                &["is none of `none`, `all`, `MiSS_only`"],
            ),
        ],
    );
    all_are_refused(
        &of_type("C3A", &none()),
        &[
            (
                "blocks that do not divide",
                &[4, 6],
                none(),
                &[("c3a_kernel", &[1, 1, 4])],
                &["expected [4 / b, 6 / b, b] with a b that divides 4 outputs and 6 inputs"],
            ),
            (
                "no blocks",
                &[4, 6],
                none(),
                &[("c3a_kernel", &[4, 6])],
                &["c3a_kernel` has shape [4, 6], expected [4 / b"],
            ),
        ],
    );
    let vector: Tensors<'_> = &[("beft_bias", &[1, 4])];
    all_are_refused(
        &of_type("BEFT", &none()),
        &[
            (
                "no bias",
                &[4, 6],
                none(),
                vector,
                &[
                    "has no bias of its own to add `beft_bias` to",
                    "hint: the base layer was made without a bias",
                ],
            ),
            ("other outputs", &[5, 6], none(), vector, &["expected [1, 5], one value for every output"]),
        ],
    );
    // What multiplies has no part.
    let bat = of_type("MISS", &json!({"init_weights": "bat"}));
    let weighted = adapted("llama", MODULE, &[4, 6], bat, &[("miss_block", &[2, 2, 2])]);
    refused_with_weight(&weighted, "with `bat` it multiplies what it finds");
}

/// Holds what a merge at half the weight says against a text.
fn refused_with_weight(work: &Work, says: &str) {
    let run = work.merge_scaled("0.5");
    assert_eq!(run.code, 65, "{}", run.err);
    for says in [says, "cannot have weight 0.5", "hint: use weight 1 for this adapter"] {
        assert!(run.err.contains(says), "{says}: {}", run.err);
    }
}

#[test]
fn entries_that_do_not_fit() {
    let none = || json!({});
    let entries: Tensors<'_> = &[("shira_indices", &[2, 3]), ("shira_weight", &[3])];
    all_are_refused(
        &of_type("SHIRA", &none()),
        &[
            (
                "places that are no numbers of rows",
                &[4, 6],
                none(),
                entries,
                &["shira_indices` has an entry at [0.25, 0.25], and its layer is [4, 6]"],
            ),
            (
                "fewer places",
                &[4, 6],
                none(),
                &[("shira_indices", &[2, 2]), ("shira_weight", &[3])],
                &["shira_indices` has shape [2, 2], expected [2, 3], as `"],
            ),
            (
                "no places",
                &[4, 6],
                none(),
                &entries[1..],
                &["shira_weight` has no partner `", "shira_indices`"],
            ),
            (
                "a convolution",
                &[4, 6, 1],
                none(),
                entries,
                &["is a convolution, which PEFT's SHiRA does not fit"],
            ),
        ],
    );
    let values: Tensors<'_> = &[("supertuning_values", &[3])];
    all_are_refused(
        &of_type("SUPERTUNING", &none()),
        &[
            (
                "places that were not saved",
                &[4, 6],
                none(),
                values,
                &[
                    "which elements it is for was not saved, and the base does not tell it for sure",
                    "hint: load the adapter in PEFT onto the base that it was trained on, and save it with \
                     `save_precomputed_indices=True`",
                ],
            ),
            (
                "half a product",
                &[4, 6],
                none(),
                &[("supertuning_lora_A.weight", &[2, 6])],
                &["supertuning_lora_A.weight` has no partner `", "supertuning_values`"],
            ),
        ],
    );
}

#[test]
fn rotations_that_do_not_fit() {
    let none = || json!({});
    let vectors: Tensors<'_> = &[("hra_u", &[6, 2])];
    all_are_refused(
        &of_type("HRA", &none()),
        &[
            ("other inputs", &[4, 5], none(), vectors, &["has shape [4, 6], base tensor has [4, 5]"]),
            (
                "one dimension",
                &[4, 2, 3],
                none(),
                vectors,
                &["is a convolution of one dimension, which PEFT's HRA"],
            ),
            (
                "no square",
                &[4, 1, 2, 3],
                none(),
                vectors,
                &["is a convolution whose kernel is not square, which"],
            ),
            (
                "single elements",
                &[1, 6, 1, 1],
                none(),
                vectors,
                &["is a convolution of one output without a kernel"],
            ),
            (
                "too many",
                &[4, 2],
                none(),
                &[("hra_u", &[2, 3])],
                &["expected no more vectors than the 2 elements"],
            ),
            (
                "no flag",
                &[4, 6],
                json!({"apply_GS": "yes"}),
                vectors,
                &["sets `apply_GS` to `yes`, which is neither true nor"],
            ),
        ],
    );
    let multipliers = ("boft_s", &[4, 1][..]);
    all_are_refused(
        &of_type("BOFT", &none()),
        &[
            (
                "too few blocks",
                &[4, 6],
                none(),
                &[("boft_R", &[1, 2, 2, 2]), multipliers],
                &[
                    "expected [m, blocks, b, b] of blocks that make up rows of 6, and of several stages an even b",
                ],
            ),
            (
                "stages of odd blocks",
                &[4, 6],
                none(),
                &[("boft_R", &[2, 2, 3, 3]), multipliers],
                &["expected [m, blocks, b, b] of blocks that make up rows of 6"],
            ),
            (
                "stages without blocks to pair",
                &[4, 6],
                none(),
                &[("boft_R", &[2, 3, 2, 2]), multipliers],
                &["expected [m, blocks, b, b] of blocks that make up rows of 6"],
            ),
            (
                "other outputs",
                &[5, 6],
                none(),
                &[("boft_R", &[1, 3, 2, 2]), multipliers],
                &["boft_s` has shape [4, 1], expected 5 values, one for every output"],
            ),
            (
                "no multipliers",
                &[4, 6],
                none(),
                &[("boft_R", &[1, 3, 2, 2])],
                &["has no partner `", "boft_s`"],
            ),
        ],
    );
    let pairs: Tensors<'_> = &[("road_theta", &[2]), ("road_alpha", &[2])];
    all_are_refused(
        &of_type("ROAD", &none()),
        &[
            (
                "groups of 64",
                &[4, 6],
                none(),
                pairs,
                &["expected [2], by the config's `variant` and 4 outputs, in whole groups of 64"],
            ),
            ("odd groups", &[3, 6], json!({"group_size": 3}), pairs, &["in whole groups of 3"]),
            (
                "another variant",
                &[4, 6],
                json!({"group_size": 4, "variant": "road_4"}),
                pairs,
                &["expected [8], by the"],
            ),
            (
                "no variant",
                &[4, 6],
                json!({"variant": "road_3"}),
                pairs,
                &["which is no value that PEFT has for it"],
            ),
            (
                "no group",
                &[4, 6],
                json!({"group_size": 0}),
                pairs,
                &["`0`, which is not a whole number above zero"],
            ),
        ],
    );
    let road = of_type("ROAD", &json!({"group_size": 4}));
    refused_with_weight(
        &adapted("llama", MODULE, &[4, 6], road, pairs),
        "RoAd rotates, and a rotation has no scale",
    );
    let hra = of_type("HRA", &none());
    refused_with_weight(
        &adapted("llama", MODULE, &[4, 6], hra, vectors),
        "HRA reflects, and a reflection has no scale",
    );
    let boft: Tensors<'_> = &[("boft_R", &[1, 3, 2, 2]), multipliers];
    let work = adapted("llama", MODULE, &[4, 6], of_type("BOFT", &none()), boft);
    refused_with_weight(&work, "BOFT rotates, and a rotation has no scale");
}

#[test]
fn spectra_that_do_not_fit() {
    let none = || json!({});
    let spectrum: Tensors<'_> = &[("fourierft_spectrum", &[3])];
    all_are_refused(
        &of_type("FOURIERFT", &none()),
        &[
            ("more than there are", &[1, 2], none(), spectrum, &["and no more than [1, 2] has"]),
            (
                "no list",
                &[4, 6],
                none(),
                &[("fourierft_spectrum", &[3, 1])],
                &["expected [n] with an n above zero"],
            ),
            (
                "a convolution",
                &[4, 6, 1],
                none(),
                spectrum,
                &["is no linear layer, which PEFT's FourierFT does not fit"],
            ),
            (
                "no seed",
                &[4, 6],
                json!({"random_loc_seed": 1.5}),
                spectrum,
                &["which is no whole number of 53 bits"],
            ),
            (
                "no scale",
                &[4, 6],
                json!({"scaling": "x"}),
                spectrum,
                &["sets `scaling` to `x`, which is not a number"],
            ),
        ],
    );
    let spectrum: Tensors<'_> = &[("waveft_spectrum", &[3])];
    all_are_refused(
        &of_type("WAVEFT", &none()),
        &[
            (
                "a wavelet that PEFT has no filter for",
                &[4, 6],
                json!({"wavelet_family": "db11"}),
                spectrum,
                &["sets `wavelet_family` to `db11`, which is no value that PEFT has for it"],
            ),
            (
                "no flag",
                &[4, 6],
                json!({"use_idwt": 1}),
                spectrum,
                &["sets `use_idwt` to `1`, which is neither true nor"],
            ),
        ],
    );
    // Without a wavelet none is asked for.
    let direct = of_type("WAVEFT", &json!({"use_idwt": false, "wavelet_family": "db11"}));
    let fine = adapted("llama", MODULE, &[4, 6], direct, spectrum).merge(&[]);
    assert_eq!(fine.code, 0, "{}", fine.err);
}
