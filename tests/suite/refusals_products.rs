//! Adapters of methods whose factors are made of what they hold, each refused with what it says: tensors that are missing or have other
//! shapes, settings that PEFT does not have, bases whose values are not at hand, and values that only the run sees.

use serde_json::{Value, json};

use super::refusals::refused;
use super::refusals_methods::{Tensors, adapted, all_are_refused, of_type, with};
use super::work::{MODULE, Work, edit};

const WHOLE: &str = "hint: the adapter was not saved whole: save it again, or get the whole file";
const OTHER_SIZES: &str = "hint: the adapter was trained on a model with other sizes: is it for this base?";
const SAVE_PROJECTION: &str = "hint: save the adapter again with `save_projection=True` in its config";
const NOT_FINITE: &str = "which gives a scale that is not a finite number";
/// What is said of a product of 4 outputs and 6 inputs on a weight of 7 inputs.
const MISFIT: &str =
    "delta for `model.layers.0.self_attn.q_proj.weight` has shape [4, 6], base tensor has [4, 7]";

fn none() -> Value {
    json!({})
}

/// Puts one whole number in place of all values of the adapter's tensor whose key ends so.
fn fill(work: &Work, key: &str, number: i64) {
    edit(&work.weights(), |tensors| {
        let found = tensors.iter_mut().find(|tensor| tensor.name.ends_with(key));
        let tensor = found.expect("a tensor whose key ends so");
        let count = tensor.shape.iter().product::<u64>() as usize;
        (tensor.dtype, tensor.data) = ("I64".to_owned(), number.to_le_bytes().repeat(count));
    });
}

/// A base whose singular values are all the same.
fn identity(work: &Work) {
    let values = (0..16).map(|i| f32::from(u8::from(i % 5 == 0))).collect();
    work.rebase(&[(&format!("{MODULE}.weight"), &[4, 4], values)]);
}

#[test]
fn adalora_that_does_not_fit() {
    let (a, b, e) = (("lora_A", &[2, 6][..]), ("lora_B", &[4, 2][..]), ("lora_E", &[2, 1][..]));
    let all: Tensors<'_> = &[a, b, e];
    all_are_refused(
        &of_type("ADALORA", &none()),
        &[
            (
                "no diagonal",
                &[4, 6],
                none(),
                &[a, b],
                &["q_proj.lora_A` has no partner `model.layers.0.self_attn.q_proj.lora_E`", WHOLE],
            ),
            (
                "no input factor",
                &[4, 6],
                none(),
                &[b, e],
                &["q_proj.lora_B` has no partner `model.layers.0.self_attn.q_proj.lora_A`", WHOLE],
            ),
            (
                "no output factor",
                &[4, 6],
                none(),
                &[a, e],
                &["q_proj.lora_A` has no partner `model.layers.0.self_attn.q_proj.lora_B`", WHOLE],
            ),
            (
                "a vector for inputs",
                &[4, 6],
                none(),
                &[("lora_A", &[6]), b, e],
                &["q_proj.lora_A` has shape [6], expected [rank, in], both above zero"],
            ),
            (
                "a vector for outputs",
                &[4, 6],
                none(),
                &[a, ("lora_B", &[4]), e],
                &["q_proj.lora_B` has shape [4], expected [out, rank], both above zero"],
            ),
            (
                "two ranks",
                &[4, 6],
                none(),
                &[a, ("lora_B", &[4, 3]), e],
                &["q_proj.lora_B` has shape [4, 3], expected [4, 2], as `", "q_proj.lora_A` is [2, 6]"],
            ),
            (
                "a diagonal of another rank",
                &[4, 6],
                none(),
                &[a, b, ("lora_E", &[3, 1])],
                &["q_proj.lora_E` has shape [3, 1], expected [2, 1], as `", "q_proj.lora_A` is [2, 6]"],
            ),
            (
                "a diagonal of one axis",
                &[4, 6],
                none(),
                &[a, b, ("lora_E", &[2])],
                &["q_proj.lora_E` has shape [2], expected [2, 1], as `"],
            ),
            ("another base", &[4, 7], none(), all, &[MISFIT, OTHER_SIZES]),
            (
                "no rank to begin with",
                &[4, 6],
                json!({"init_r": 0}),
                all,
                &["sets `init_r` to `0`, which is not a number above zero"],
            ),
            (
                "an alpha of text",
                &[4, 6],
                json!({"lora_alpha": "x"}),
                all,
                &["sets `lora_alpha` to `x`, which is not a number"],
            ),
            (
                "an alpha without bounds",
                &[4, 6],
                json!({"lora_alpha": 1e300}),
                all,
                &["sets `lora_alpha` to `1e", NOT_FINITE],
            ),
            (
                "a bias of others",
                &[4, 6],
                json!({"bias": "adalora_only"}),
                all,
                &["sets `bias` to `adalora_only`, which is none of `none`, `all`, `lora_only`"],
            ),
            (
                "a flag of text",
                &[4, 6],
                json!({"fan_in_fan_out": "yes"}),
                all,
                &["sets `fan_in_fan_out` to `yes`, which is neither true nor false"],
            ),
        ],
    );
    // Options that it has from LoRA's config.
    for field in [
        "use_dora",
        "use_rslora",
        "alpha_pattern",
        "trainable_token_indices",
        "ensure_weight_tying",
        "target_parameters",
        "layer_replication",
        "lora_bias",
        "use_bdlora",
        "velora_config",
        "monteclora_config",
        "kasa_config",
        "arrow_config",
        "use_qalora",
        "alora_invocation_tokens",
        "eva_config",
        "corda_config",
        "lora_ga_config",
        "loftq_config",
        "megatron_config",
    ] {
        let work = adapted("llama", MODULE, &[4, 6], of_type("ADALORA", &json!({field: true})), all);
        let says =
            format!("sets `{field}` to `true`, which is an option of LoRA that PEFT's AdaLoRA does not have");
        refused(field, &work, &[], 65, &[&says]);
    }
    let started = of_type("ADALORA", &json!({"init_lora_weights": "gaussian"}));
    let says = ["sets `init_lora_weights` to `gaussian`, which is an option of LoRA that PEFT's AdaLoRA"];
    refused("another start", &adapted("llama", MODULE, &[4, 6], started, all), &[], 65, &says);
}

#[test]
fn vera_that_does_not_fit() {
    let (d, b) = (("vera_lambda_d", &[2][..]), ("vera_lambda_b", &[4][..]));
    let (of_a, of_b) = (("/vera_A", &[2, 8][..]), ("/vera_B", &[5, 2][..]));
    let all: Tensors<'_> = &[d, b, of_a, of_b];
    all_are_refused(
        &of_type("VERA", &none()),
        &[
            (
                "no vector of outputs",
                &[4, 6],
                none(),
                &[d, of_a, of_b],
                &["vera_lambda_d` has no partner `model.layers.0.self_attn.q_proj.vera_lambda_b`", WHOLE],
            ),
            (
                "no vector of ranks",
                &[4, 6],
                none(),
                &[b, of_a, of_b],
                &["vera_lambda_b` has no partner `model.layers.0.self_attn.q_proj.vera_lambda_d`", WHOLE],
            ),
            (
                "no projection of inputs",
                &[4, 6],
                none(),
                &[d, b, of_b],
                &[
                    "vera_lambda_d`: the projection that it is multiplied by is not in the file",
                    SAVE_PROJECTION,
                ],
            ),
            (
                "no projection of outputs",
                &[4, 6],
                none(),
                &[d, b, of_a],
                &[
                    "vera_lambda_b`: the projection that it is multiplied by is not in the file",
                    SAVE_PROJECTION,
                ],
            ),
            (
                "no projections that are said to be there",
                &[4, 6],
                json!({"save_projection": true}),
                &[d, b],
                &[
                    "vera_lambda_d`: the projection that it is multiplied by is not in the file",
                    SAVE_PROJECTION,
                ],
            ),
            (
                "a vector of outputs of two axes",
                &[4, 6],
                none(),
                &[d, ("vera_lambda_b", &[4, 1]), of_a, of_b],
                &["vera_lambda_b` has shape [4, 1], expected [out], all above zero"],
            ),
            (
                "other outputs",
                &[4, 6],
                none(),
                &[d, ("vera_lambda_b", &[5]), of_a, of_b],
                &["vera_lambda_b` has shape [5], expected a value for every output of a linear layer, and \
                     `model.layers.0.self_attn.q_proj.weight` is [4, 6]"],
            ),
            (
                "a convolution",
                &[4, 6, 1],
                none(),
                all,
                &["vera_lambda_b` has shape [4], expected a value for every output of a linear layer, and `"],
            ),
            (
                "a vector of ranks of two axes",
                &[4, 6],
                none(),
                &[("vera_lambda_d", &[2, 1]), b, of_a, of_b],
                &["vera_lambda_d` has shape [2, 1], expected [rank], all above zero"],
            ),
            (
                "more ranks than are drawn",
                &[4, 6],
                json!({"save_projection": false}),
                &[("vera_lambda_d", &[65537]), b],
                &["vera_lambda_d` has shape [65537], expected 1 values for each of up to 65536 ranks"],
            ),
            (
                "a projection of other ranks",
                &[4, 6],
                none(),
                &[d, b, ("/vera_A", &[3, 8]), of_b],
                &[
                    "`base_model.vera_A` has shape [3, 8], expected 2 on axis 0, by `",
                    "q_proj.vera_lambda_d`, and at least 6 on the other",
                ],
            ),
            (
                "a projection of fewer inputs",
                &[4, 6],
                none(),
                &[d, b, ("/vera_A", &[2, 5]), of_b],
                &["`base_model.vera_A` has shape [2, 5], expected 2 on axis 0", "at least 6 on the other"],
            ),
            (
                "a projection of one axis",
                &[4, 6],
                none(),
                &[d, b, ("/vera_A", &[2]), of_b],
                &["`base_model.vera_A` has shape [2], expected a matrix, all above zero"],
            ),
            (
                "a projection of outputs of other ranks",
                &[4, 6],
                none(),
                &[d, b, of_a, ("/vera_B", &[5, 3])],
                &[
                    "`base_model.vera_B` has shape [5, 3], expected 2 on axis 1, by `",
                    "q_proj.vera_lambda_d`, and at least 4 on the other",
                ],
            ),
            (
                "a projection of fewer outputs",
                &[4, 6],
                none(),
                &[d, b, of_a, ("/vera_B", &[3, 2])],
                &["`base_model.vera_B` has shape [3, 2], expected 2 on axis 1", "at least 4 on the other"],
            ),
            (
                "half a seed",
                &[4, 6],
                json!({"projection_prng_key": 0.5}),
                all,
                &["sets `projection_prng_key` to `0.5`, which is no whole number of 53 bits"],
            ),
            (
                "no flag",
                &[4, 6],
                json!({"save_projection": "yes"}),
                &[d, b],
                &["sets `save_projection` to `yes`, which is no value that PEFT has for it"],
            ),
            (
                "a bias of others",
                &[4, 6],
                json!({"bias": "lora_only"}),
                all,
                &["sets `bias` to `lora_only`, which is none of `none`, `all`, `vera_only`"],
            ),
        ],
    );
}

#[test]
fn pvera_that_does_not_fit() {
    let (d, b) = (("pvera_lambda_d", &[4][..]), ("pvera_lambda_b", &[4][..]));
    let (of_a, of_b) = (("/pvera_A", &[4, 8][..]), ("/pvera_B", &[5, 2][..]));
    all_are_refused(
        &of_type("PVERA", &none()),
        &[
            (
                "means without the rest",
                &[4, 6],
                none(),
                &[("pvera_lambda_d", &[3]), b, of_a, of_b],
                &["pvera_lambda_d` has shape [3], expected 2 values for each of up to 65536 ranks"],
            ),
            (
                "a projection of the means alone",
                &[4, 6],
                none(),
                &[d, b, ("/pvera_A", &[2, 8]), of_b],
                &["`base_model.pvera_A` has shape [2, 8], expected 4 on axis 0, by `", "pvera_lambda_d`"],
            ),
            (
                "a projection of outputs for twice the ranks",
                &[4, 6],
                none(),
                &[d, b, of_a, ("/pvera_B", &[5, 4])],
                &["`base_model.pvera_B` has shape [5, 4], expected 2 on axis 1, by `", "pvera_lambda_d`"],
            ),
            (
                "no projection",
                &[4, 6],
                none(),
                &[d, b],
                &[
                    "pvera_lambda_d`: the projection that it is multiplied by is not in the file",
                    SAVE_PROJECTION,
                ],
            ),
            (
                "no vector",
                &[4, 6],
                none(),
                &[d, of_a, of_b],
                &["pvera_lambda_d` has no partner `model.layers.0.self_attn.q_proj.pvera_lambda_b`", WHOLE],
            ),
            (
                "no seed",
                &[4, 6],
                json!({"projection_prng_key": "x"}),
                &[d, b, of_a, of_b],
                &["sets `projection_prng_key` to `x`, which is no whole number of 53 bits"],
            ),
        ],
    );
}

#[test]
fn randlora_that_does_not_fit() {
    let (lambda, gamma) = (("randlora_lambda", &[2, 2][..]), ("randlora_gamma", &[2, 4][..]));
    let (a, b) = (("/randlora_A", &[2, 1, 4][..]), ("/randlora_B", &[6, 2, 2][..]));
    let all: Tensors<'_> = &[lambda, gamma, a, b];
    let of = "as a layer of 4 outputs and 6 inputs has 2 bases of rank 2";
    let missing = "randlora_lambda`: the projections that it scales are not in the file, and how they were drawn depends on \
                   the machine and its torch";
    all_are_refused(
        &of_type("RANDLORA", &none()),
        &[
            (
                "no gamma",
                &[4, 6],
                none(),
                &[lambda, a, b],
                &["randlora_lambda` has no partner `model.layers.0.self_attn.q_proj.randlora_gamma`", WHOLE],
            ),
            ("no A", &[4, 6], none(), &[lambda, gamma, b], &[missing, SAVE_PROJECTION]),
            ("no B", &[4, 6], none(), &[lambda, gamma, a], &[missing, SAVE_PROJECTION]),
            (
                "a convolution",
                &[4, 6, 1],
                none(),
                all,
                &["randlora_lambda` has shape [2, 2], expected those of a linear layer, which \
                     `model.layers.0.self_attn.q_proj.weight` is not"],
            ),
            (
                "a lambda of one axis",
                &[4, 6],
                none(),
                &[("randlora_lambda", &[4]), gamma, a, b],
                &["randlora_lambda` has shape [4], expected [rank, bases], all above zero"],
            ),
            (
                "more bases than there are",
                &[4, 6],
                none(),
                &[("randlora_lambda", &[2, 3]), gamma, a, b],
                &["randlora_lambda` has shape [2, 3], expected [2, 2], ", of],
            ),
            (
                "a gamma of one axis",
                &[4, 6],
                none(),
                &[lambda, ("randlora_gamma", &[8]), a, b],
                &["randlora_gamma` has shape [8], expected [bases, width], all above zero"],
            ),
            (
                "a gamma of other bases",
                &[4, 6],
                none(),
                &[lambda, ("randlora_gamma", &[3, 4]), a, b],
                &["randlora_gamma` has shape [3, 4], expected [2, 4], ", of],
            ),
            (
                "a gamma along the other side",
                &[4, 6],
                none(),
                &[lambda, ("randlora_gamma", &[2, 6]), a, b],
                &["randlora_gamma` has shape [2, 6], expected [2, 4], ", of],
            ),
            (
                "an A of two axes",
                &[4, 6],
                none(),
                &[lambda, gamma, ("/randlora_A", &[2, 4]), b],
                &["`base_model.randlora_A` has shape [2, 4], expected [rank, 1, width], all above zero"],
            ),
            (
                "an A of other ranks",
                &[4, 6],
                none(),
                &[lambda, gamma, ("/randlora_A", &[3, 1, 4]), b],
                &["`base_model.randlora_A` has shape [3, 1, 4], expected [2, 1, 4 or more], ", of],
            ),
            (
                "an A for narrower layers",
                &[4, 6],
                none(),
                &[lambda, gamma, ("/randlora_A", &[2, 1, 3]), b],
                &["`base_model.randlora_A` has shape [2, 1, 3], expected [2, 1, 4 or more], ", of],
            ),
            (
                "a B of two axes",
                &[4, 6],
                none(),
                &[lambda, gamma, a, ("/randlora_B", &[6, 4])],
                &["`base_model.randlora_B` has shape [6, 4], expected [height, bases, rank], all above zero"],
            ),
            (
                "a B for smaller layers",
                &[4, 6],
                none(),
                &[lambda, gamma, a, ("/randlora_B", &[5, 2, 2])],
                &["`base_model.randlora_B` has shape [5, 2, 2], expected [6 or more, 2 or more, 2], ", of],
            ),
            (
                "a B of fewer bases",
                &[4, 6],
                none(),
                &[lambda, gamma, a, ("/randlora_B", &[6, 1, 2])],
                &["`base_model.randlora_B` has shape [6, 1, 2], expected [6 or more, 2 or more, 2], ", of],
            ),
            (
                "a B of other ranks",
                &[4, 6],
                none(),
                &[lambda, gamma, a, ("/randlora_B", &[6, 2, 3])],
                &["`base_model.randlora_B` has shape [6, 2, 3], expected [6 or more, 2 or more, 2], ", of],
            ),
            (
                "an alpha of text",
                &[4, 6],
                json!({"randlora_alpha": "x"}),
                all,
                &["sets `randlora_alpha` to `x`, which is not a number"],
            ),
            (
                "an alpha without bounds",
                &[4, 6],
                json!({"randlora_alpha": 1e300}),
                all,
                &["sets `randlora_alpha` to `1e", NOT_FINITE],
            ),
            (
                "a bias of others",
                &[4, 6],
                json!({"bias": "vera_only"}),
                all,
                &["sets `bias` to `vera_only`, which is none of `none`, `all`, `randlora_only`"],
            ),
        ],
    );
}

#[test]
fn delora_that_does_not_fit() {
    let (a, b) = (("delora_A", &[2, 6][..]), ("delora_B", &[4, 2][..]));
    let (lambda, widths) = (("delora_lambda", &[1][..]), ("delora_w_norm", &[6][..]));
    let all: Tensors<'_> = &[a, b, lambda, widths];
    all_are_refused(
        &of_type("DELORA", &none()),
        &[
            (
                "no input factor",
                &[4, 6],
                none(),
                &all[1..],
                &["delora_B` has no partner `model.layers.0.self_attn.q_proj.delora_A`", WHOLE],
            ),
            (
                "no output factor",
                &[4, 6],
                none(),
                &[a, lambda, widths],
                &["delora_A` has no partner `model.layers.0.self_attn.q_proj.delora_B`", WHOLE],
            ),
            (
                "no number",
                &[4, 6],
                none(),
                &[a, b, widths],
                &["delora_A` has no partner `model.layers.0.self_attn.q_proj.delora_lambda`", WHOLE],
            ),
            (
                "no lengths of the base",
                &[4, 6],
                none(),
                &all[..3],
                &["delora_A` has no partner `model.layers.0.self_attn.q_proj.delora_w_norm`", WHOLE],
            ),
            (
                "a vector for inputs",
                &[4, 6],
                none(),
                &[("delora_A", &[6]), b, lambda, widths],
                &["delora_A` has shape [6], expected [rank, in], all above zero"],
            ),
            (
                "a vector for outputs",
                &[4, 6],
                none(),
                &[a, ("delora_B", &[4]), lambda, widths],
                &["delora_B` has shape [4], expected [out, rank], all above zero"],
            ),
            (
                "two ranks",
                &[4, 6],
                none(),
                &[a, ("delora_B", &[4, 3]), lambda, widths],
                &["delora_B` has shape [4, 3], expected [4, 2], as `", "delora_A` is [2, 6]"],
            ),
            (
                "two numbers",
                &[4, 6],
                none(),
                &[a, b, ("delora_lambda", &[2]), widths],
                &["delora_lambda` has shape [2], expected [1], as `"],
            ),
            (
                "lengths of rows",
                &[4, 6],
                none(),
                &[a, b, lambda, ("delora_w_norm", &[4])],
                &["delora_w_norm` has shape [4], expected [6], as `", "delora_A` is [2, 6]"],
            ),
            ("another base", &[4, 7], none(), all, &[MISFIT, OTHER_SIZES]),
            (
                "a bias of others",
                &[4, 6],
                json!({"bias": "lora_only"}),
                all,
                &["sets `bias` to `lora_only`, which is none of `none`, `all`, `delora_only`"],
            ),
        ],
    );
}

#[test]
fn vblora_that_does_not_fit() {
    let (a, b) = (("vblora_logits_A", &[2, 3, 5][..]), ("vblora_logits_B", &[2, 2, 5][..]));
    let bank = ("/vblora_vector_bank", &[5, 2][..]);
    let numbers =
        [("vblora_logits_A_topk_indices", &[2, 3, 2][..]), ("vblora_logits_B_topk_indices", &[2, 2, 2])];
    let weights =
        [("vblora_logits_A_topk_weights", &[2, 3, 1][..]), ("vblora_logits_B_topk_weights", &[2, 2, 1])];
    let all: Tensors<'_> = &[a, b, bank];
    let by_bank = "[2, 3, 5] by the bank of 5 vectors and `topk` 2, and whole numbers if they are chosen";
    all_are_refused(
        &of_type("VBLORA", &none()),
        &[
            (
                "no bank",
                &[4, 6],
                none(),
                &[a, b],
                &[
                    "vblora_logits_A`: the bank of vectors that it chooses from is not in the file",
                    "hint: save the adapter again, or get the whole file",
                ],
            ),
            (
                "logits of inputs alone",
                &[4, 6],
                none(),
                &[a, bank],
                &["vblora_logits_A` has no partner `model.layers.0.self_attn.q_proj.vblora_logits_B`", WHOLE],
            ),
            (
                "numbers without weights",
                &[4, 6],
                none(),
                &[numbers[0], numbers[1], weights[0], bank],
                &[
                    "vblora_logits_A_topk_indices` has no partner \
                     `model.layers.0.self_attn.q_proj.vblora_logits_B_topk_weights`",
                    WHOLE,
                ],
            ),
            (
                "logits and numbers",
                &[4, 6],
                none(),
                &[a, b, numbers[0], bank],
                &[
                    "vblora_logits_A`: logits and chosen weights exclude each other",
                    "vblora_logits_A_topk_indices`: logits and chosen weights exclude each other",
                ],
            ),
            (
                "a bank of one axis",
                &[4, 6],
                none(),
                &[a, b, ("/vblora_vector_bank", &[10])],
                &[
                    "`base_model.vblora_vector_bank` has shape [10], expected [vectors, length], all above zero",
                ],
            ),
            (
                "logits of two axes",
                &[4, 6],
                none(),
                &[("vblora_logits_A", &[2, 15]), b, bank],
                &["vblora_logits_A` has shape [2, 15], expected three axes, all above zero"],
            ),
            (
                "logits of another bank",
                &[4, 6],
                none(),
                &[("vblora_logits_A", &[2, 3, 4]), b, bank],
                &["vblora_logits_A` has shape [2, 3, 4], expected ", by_bank],
            ),
            (
                "two ranks",
                &[4, 6],
                none(),
                &[a, ("vblora_logits_B", &[2, 3, 5]), bank],
                &[
                    "vblora_logits_B` has shape [2, 3, 5], expected rank 2 on its second axis, as `",
                    "vblora_logits_A` has",
                ],
            ),
            (
                "more of the bank than there is",
                &[4, 6],
                json!({"topk": 6}),
                all,
                &["vblora_logits_A` has shape", "by the bank of 5 vectors and `topk` 6"],
            ),
            (
                "nothing of the bank",
                &[4, 6],
                json!({"topk": 0}),
                all,
                &["sets `topk` to `0`, which is not a whole number above zero"],
            ),
            (
                "numbers that are floats",
                &[4, 6],
                none(),
                &[numbers[0], numbers[1], weights[0], weights[1], bank],
                &[
                    "vblora_logits_A_topk_indices` has shape [2, 3, 2], expected [2, 3, 2] by the bank of 5 vectors and \
                     `topk` 2, and whole numbers if they are chosen",
                ],
            ),
            ("another base", &[4, 7], none(), all, &[MISFIT, OTHER_SIZES]),
            (
                "a bias of others",
                &[4, 6],
                json!({"bias": "lora_only"}),
                all,
                &["sets `bias` to `lora_only`, which is none of `none`, `all`, `vblora_only`"],
            ),
        ],
    );
    let chosen = |weights: [(&str, &[u64]); 2], outside: i64| {
        let tensors = [numbers[0], numbers[1], weights[0], weights[1], bank];
        let work = adapted("llama", MODULE, &[4, 6], of_type("VBLORA", &none()), &tensors);
        fill(&work, "A_topk_indices", 4);
        fill(&work, "B_topk_indices", outside);
        work
    };
    chosen(weights, 4).succeeds(&[]);
    for outside in [5, -1] {
        let says = ["of `adapter`, [2, 2, 2], has a number that is no vector of the bank"];
        refused("a vector that the bank does not have", &chosen(weights, outside), &[], 65, &says);
    }
    let all_weights = [("vblora_logits_A_topk_weights", &[2, 3, 2][..]), weights[1]];
    let says = ["vblora_logits_A_topk_weights` has shape [2, 3, 2], expected [2, 3, 1]"];
    refused("weights of all that is chosen", &chosen(all_weights, 0), &[], 65, &says);
}

#[test]
fn unilora_that_does_not_fit() {
    let (at_a, at_b) = (("unilora_indices_A", &[2, 6][..]), ("unilora_indices_B", &[4, 2][..]));
    let (by_a, by_b) = (("unilora_scales_A", &[2, 6][..]), ("unilora_scales_B", &[4, 2][..]));
    let theta = ("/unilora_theta_d", &[3][..]);
    let all: Tensors<'_> = &[at_a, at_b, by_a, by_b, theta];
    let save = "hint: save the adapter again with `save_indices=True` in its config";
    all_are_refused(
        &of_type("UNILORA", &none()),
        &[
            (
                "no places",
                &[4, 6],
                none(),
                &[theta],
                &[
                    "`base_model.unilora_theta_d`: where its values stand is not in the file, and depends on the order of \
                     the model's modules",
                    save,
                ],
            ),
            (
                "no vector",
                &[4, 6],
                none(),
                &all[..4],
                &[
                    "unilora_indices_A`: the vector that it picks from is not in the file",
                    "hint: save the adapter again, or get the whole file",
                ],
            ),
            (
                "no scales",
                &[4, 6],
                none(),
                &[at_a, at_b, by_a, theta],
                &[
                    "unilora_indices_A` has no partner `model.layers.0.self_attn.q_proj.unilora_scales_B`",
                    WHOLE,
                ],
            ),
            (
                "a vector of two axes",
                &[4, 6],
                none(),
                &[at_a, at_b, by_a, by_b, ("/unilora_theta_d", &[3, 1])],
                &["`base_model.unilora_theta_d` has shape [3, 1], expected [values], all above zero"],
            ),
            (
                "places of one axis",
                &[4, 6],
                none(),
                &[("unilora_indices_A", &[12]), at_b, by_a, by_b, theta],
                &["unilora_indices_A` has shape [12], expected [rank, in], all above zero"],
            ),
            (
                "places of outputs of one axis",
                &[4, 6],
                none(),
                &[at_a, ("unilora_indices_B", &[8]), by_a, by_b, theta],
                &["unilora_indices_B` has shape [8], expected [out, rank], all above zero"],
            ),
            (
                "two ranks",
                &[4, 6],
                none(),
                &[at_a, ("unilora_indices_B", &[4, 3]), by_a, by_b, theta],
                &[
                    "unilora_indices_B` has shape [4, 3], expected [4, 2], as `",
                    "unilora_indices_A` is [2, 6]",
                ],
            ),
            (
                "scales of other inputs",
                &[4, 6],
                none(),
                &[at_a, at_b, ("unilora_scales_A", &[2, 5]), by_b, theta],
                &["unilora_scales_A` has shape [2, 5], expected [2, 6], as `"],
            ),
            (
                "one scale for each output",
                &[4, 6],
                none(),
                &[at_a, at_b, by_a, ("unilora_scales_B", &[4, 1]), theta],
                &["unilora_scales_B` has shape [4, 1], expected [4, 2], as `"],
            ),
            (
                "places between values",
                &[4, 6],
                none(),
                all,
                &["of `adapter`, [2, 6], has a number that is no value of the vector"],
            ),
            ("another base", &[4, 7], none(), all, &[MISFIT, OTHER_SIZES]),
            (
                "no flag",
                &[4, 6],
                json!({"save_indices": "yes"}),
                all,
                &["sets `save_indices` to `yes`, which is no flag", save],
            ),
            (
                "a bias of others",
                &[4, 6],
                json!({"bias": "lora_only"}),
                all,
                &["sets `bias` to `lora_only`, which is none of `none`, `all`, `unilora_only`"],
            ),
        ],
    );
    let picked = |outside: i64| {
        let work = adapted("llama", MODULE, &[4, 6], of_type("UNILORA", &none()), all);
        fill(&work, "unilora_indices_A", 2);
        fill(&work, "unilora_indices_B", outside);
        work
    };
    picked(2).succeeds(&[]);
    for outside in [3, -1] {
        let says = ["of `adapter`, [4, 2], has a number that is no value of the vector"];
        refused("a place that the vector does not have", &picked(outside), &[], 65, &says);
    }
}

#[test]
fn tinylora_that_does_not_fit() {
    let (a, b) = (("tinylora_A", &[2, 6][..]), ("tinylora_B", &[4, 2][..]));
    let (p, v) = (("tinylora_P", &[3, 2, 2][..]), ("/tinylora_v.0", &[3][..]));
    let all: Tensors<'_> = &[a, b, p, v];
    all_are_refused(
        &of_type("TINYLORA", &none()),
        &[
            (
                "several groups",
                &[4, 6],
                none(),
                &[a, b, p, v, ("/tinylora_v.1", &[3])],
                &[
                    "`base_model.tinylora_v.1`: is of one of several groups of modules, and which modules those are depends \
                     on their order in the model",
                    "hint: train with `weight_tying=1.0`, or convert the adapter with PEFT's `save_as_lora`",
                ],
            ),
            (
                "no numbers",
                &[4, 6],
                none(),
                &[a, b, p],
                &[
                    "tinylora_A`: the numbers that it is multiplied by are not in the file",
                    "hint: save the adapter again, or get the whole file",
                ],
            ),
            (
                "no small matrices",
                &[4, 6],
                none(),
                &[a, b, v],
                &["tinylora_A` has no partner `model.layers.0.self_attn.q_proj.tinylora_P`", WHOLE],
            ),
            (
                "no input factor",
                &[4, 6],
                none(),
                &all[1..],
                &["tinylora_B` has no partner `model.layers.0.self_attn.q_proj.tinylora_A`", WHOLE],
            ),
            (
                "a vector for inputs",
                &[4, 6],
                none(),
                &[("tinylora_A", &[6]), b, p, v],
                &["tinylora_A` has shape [6], expected [rank, in], all above zero"],
            ),
            (
                "a vector for outputs",
                &[4, 6],
                none(),
                &[a, ("tinylora_B", &[4]), p, v],
                &["tinylora_B` has shape [4], expected [out, rank], all above zero"],
            ),
            (
                "two ranks",
                &[4, 6],
                none(),
                &[a, ("tinylora_B", &[4, 3]), p, v],
                &["tinylora_B` has shape [4, 3], expected [4, 2], as `", "tinylora_A` is [2, 6]"],
            ),
            (
                "matrices of another rank",
                &[4, 6],
                none(),
                &[a, b, ("tinylora_P", &[3, 2, 3]), v],
                &["tinylora_P` has shape [3, 2, 3], expected [3, 2, 2], as `"],
            ),
            (
                "fewer matrices than numbers",
                &[4, 6],
                none(),
                &[a, b, ("tinylora_P", &[2, 2, 2]), v],
                &["tinylora_P` has shape [2, 2, 2], expected [3, 2, 2], as `"],
            ),
            (
                "numbers of two axes",
                &[4, 6],
                none(),
                &[a, b, p, ("/tinylora_v.0", &[3, 1])],
                &["`base_model.tinylora_v.0` has shape [3, 1], expected [numbers], all above zero"],
            ),
            ("another base", &[4, 7], none(), all, &[MISFIT, OTHER_SIZES]),
            (
                "a bias of others",
                &[4, 6],
                json!({"bias": "lora_only"}),
                all,
                &["sets `bias` to `lora_only`, which is none of `none`, `all`, `tinylora_only`"],
            ),
        ],
    );
}

#[test]
fn gralora_that_does_not_fit() {
    let (a, b) = (("gralora_A", &[2, 3, 2][..]), ("gralora_B", &[2, 2, 2][..]));
    let (of_a, of_b) = (("gralora_A_general.weight", &[2, 6][..]), ("gralora_B_general.weight", &[4, 2][..]));
    let tiles: Tensors<'_> = &[a, b];
    all_are_refused(
        &of_type("GRALORA", &none()),
        &[
            (
                "no output factor",
                &[4, 6],
                none(),
                &[a],
                &["gralora_A` has no partner `model.layers.0.self_attn.q_proj.gralora_B`", WHOLE],
            ),
            (
                "no input factor",
                &[4, 6],
                none(),
                &[b],
                &["gralora_B` has no partner `model.layers.0.self_attn.q_proj.gralora_A`", WHOLE],
            ),
            (
                "half a product for all of it",
                &[4, 6],
                none(),
                &[a, b, of_a],
                &[
                    "gralora_A_general.weight` has no partner \
                     `model.layers.0.self_attn.q_proj.gralora_B_general.weight`",
                    WHOLE,
                ],
            ),
            (
                "the other half",
                &[4, 6],
                none(),
                &[a, b, of_b],
                &[
                    "gralora_B_general.weight` has no partner \
                     `model.layers.0.self_attn.q_proj.gralora_A_general.weight`",
                    WHOLE,
                ],
            ),
            (
                "an input factor without blocks",
                &[4, 6],
                none(),
                &[("gralora_A", &[6, 2]), b],
                &["gralora_A` has shape [6, 2], expected [blocks, in/blocks, rank], all above zero"],
            ),
            (
                "an output factor without blocks",
                &[4, 6],
                none(),
                &[a, ("gralora_B", &[2, 4])],
                &["gralora_B` has shape [2, 4], expected [blocks, rank, out/blocks], all above zero"],
            ),
            (
                "other blocks",
                &[4, 6],
                none(),
                &[a, ("gralora_B", &[1, 2, 4])],
                &["gralora_B` has shape [1, 2, 4], expected [2, 2, 4], as `", "gralora_A` is [2, 3, 2]"],
            ),
            (
                "two ranks",
                &[4, 6],
                none(),
                &[a, ("gralora_B", &[2, 4, 2])],
                &["gralora_B` has shape [2, 4, 2], expected [2, 2, 2], as `"],
            ),
            (
                "a rank that is not for all blocks",
                &[4, 6],
                none(),
                &[("gralora_A", &[2, 3, 3]), ("gralora_B", &[2, 3, 2])],
                &["gralora_A` has shape [2, 3, 3], expected a rank that its 2 blocks divide"],
            ),
            (
                "a product for other inputs",
                &[4, 6],
                none(),
                &[a, b, ("gralora_A_general.weight", &[2, 5]), of_b],
                &["gralora_A_general.weight` has shape [2, 5], expected [2, 6], as `"],
            ),
            (
                "a product of two ranks",
                &[4, 6],
                none(),
                &[a, b, of_a, ("gralora_B_general.weight", &[4, 3])],
                &["gralora_B_general.weight` has shape [4, 3], expected [4, 2], as `"],
            ),
            (
                "a product of one axis",
                &[4, 6],
                none(),
                &[a, b, ("gralora_A_general.weight", &[6]), of_b],
                &["gralora_A_general.weight` has shape [6], expected [rank, in], all above zero"],
            ),
            ("another base", &[4, 7], none(), tiles, &[MISFIT, OTHER_SIZES]),
            (
                "an alpha of text",
                &[4, 6],
                json!({"alpha": "x"}),
                tiles,
                &["sets `alpha` to `x`, which is not a number"],
            ),
            (
                "an alpha without bounds",
                &[4, 6],
                json!({"alpha": 1e300}),
                tiles,
                &["sets `alpha` to `1e", NOT_FINITE],
            ),
            (
                "a bias of others",
                &[4, 6],
                json!({"bias": "lora_only"}),
                tiles,
                &["sets `bias` to `lora_only`, which is none of `none`, `all`, `gralora_only`"],
            ),
        ],
    );
}

#[test]
fn deft_that_does_not_fit() {
    let (p, r) = (("deft_P", &[4, 2][..]), ("deft_R", &[2, 6][..]));
    let both: Tensors<'_> = &[p, r];
    all_are_refused(
        &of_type("DEFT", &none()),
        &[
            (
                "nothing to put in",
                &[4, 6],
                none(),
                &[p],
                &["deft_P` has no partner `model.layers.0.self_attn.q_proj.deft_R`", WHOLE],
            ),
            (
                "nothing to take out",
                &[4, 6],
                none(),
                &[r],
                &["deft_R` has no partner `model.layers.0.self_attn.q_proj.deft_P`", WHOLE],
            ),
            (
                "something to put in where nothing is",
                &[4, 6],
                json!({"para": true}),
                both,
                &["deft_R`: the config says by `para` that nothing is put in"],
            ),
            (
                "directions of one axis",
                &[4, 6],
                none(),
                &[("deft_P", &[4]), r],
                &["deft_P` has shape [4], expected [out, rank], all above zero"],
            ),
            (
                "other outputs",
                &[4, 6],
                none(),
                &[("deft_P", &[5, 2]), r],
                &["deft_P` has shape [5, 2], expected a value for every output of a linear layer, and `"],
            ),
            (
                "a convolution",
                &[4, 6, 1],
                none(),
                both,
                &["deft_P` has shape [4, 2], expected a value for every output of a linear layer, and `"],
            ),
            (
                "other inputs",
                &[4, 6],
                none(),
                &[p, ("deft_R", &[2, 5])],
                &["deft_R` has shape [2, 5], expected [2, 6], as `", "deft_P` is [4, 2]"],
            ),
            (
                "two ranks",
                &[4, 6],
                none(),
                &[p, ("deft_R", &[3, 6])],
                &["deft_R` has shape [3, 6], expected [2, 6], as `"],
            ),
            (
                "more directions than there are",
                &[4, 6],
                none(),
                &[("deft_P", &[4, 5]), ("deft_R", &[5, 6])],
                &["deft_P` has shape [4, 5], expected no more columns than rows"],
            ),
            (
                "a weight that is the adapter's own",
                &[4, 6],
                json!({"modules_to_save": ["q_proj"]}),
                &[p, r, ("weight", &[4, 6])],
                &[PLAIN, PLAIN_HINT],
            ),
            (
                "a way that PEFT does not have",
                &[4, 6],
                json!({"decomposition_method": "svd"}),
                both,
                &["sets `decomposition_method` to `svd`, which is no value that PEFT has for it"],
            ),
            (
                "no flag",
                &[4, 6],
                json!({"para": "yes"}),
                both,
                &["sets `para` to `yes`, which is neither true nor false"],
            ),
            (
                "an alpha of text",
                &[4, 6],
                json!({"alpha": "x"}),
                both,
                &["sets `alpha` to `x`, which is not a number"],
            ),
            (
                "an alpha without bounds",
                &[4, 6],
                json!({"alpha": 1e300}),
                both,
                &["sets `alpha` to `1e", NOT_FINITE],
            ),
            (
                "a bias of others",
                &[4, 6],
                json!({"bias": "lora_only"}),
                both,
                &["sets `bias` to `lora_only`, which is none of `none`, `all`, `deft_only`"],
            ),
        ],
    );
}

#[test]
fn peanut_that_does_not_fit() {
    let (a, b) = (("peanut_A.weight", &[2, 4][..]), ("peanut_B.weight", &[4, 2][..]));
    let (encoder, decoder) =
        (("peanut_encoders.0.weight", &[2, 2][..]), ("peanut_decoders.0.weight", &[2, 2][..]));
    let both: Tensors<'_> = &[a, b];
    let deep = || json!({"depth": 1});
    all_are_refused(
        &of_type("PEANUT", &none()),
        &[
            (
                "no output factor",
                &[4, 6],
                none(),
                &[a],
                &["peanut_A.weight` has no partner `model.layers.0.self_attn.q_proj.peanut_B.weight`", WHOLE],
            ),
            (
                "no input factor",
                &[4, 6],
                none(),
                &[b],
                &["peanut_B.weight` has no partner `model.layers.0.self_attn.q_proj.peanut_A.weight`", WHOLE],
            ),
            (
                "an input factor of one axis",
                &[4, 6],
                none(),
                &[("peanut_A.weight", &[4]), b],
                &["peanut_A.weight` has shape [4], expected [rank, out], all above zero"],
            ),
            (
                "two ranks",
                &[4, 6],
                none(),
                &[a, ("peanut_B.weight", &[4, 3])],
                &["peanut_B.weight` has shape [4, 3], expected [4, 2], as `", "peanut_A.weight` is [2, 4]"],
            ),
            (
                "other outputs",
                &[4, 6],
                none(),
                &[("peanut_A.weight", &[2, 5]), ("peanut_B.weight", &[5, 2])],
                &["peanut_A.weight` has shape [2, 5], expected a value for every output of a linear layer"],
            ),
            (
                "a layer stored the other way",
                &[6, 4],
                none(),
                both,
                &[
                    "peanut_A.weight` has shape [2, 4], expected those of a linear layer that is stored as [out, in], which \
                     `model.layers.0.self_attn.q_proj` is not",
                ],
            ),
            (
                "no encoder",
                &[4, 6],
                deep(),
                &[a, b, decoder],
                &[
                    "peanut_A.weight` has no partner \
                     `model.layers.0.self_attn.q_proj.peanut_encoders.0.weight`",
                    WHOLE,
                ],
            ),
            (
                "no decoder",
                &[4, 6],
                deep(),
                &[a, b, encoder],
                &[
                    "peanut_A.weight` has no partner \
                     `model.layers.0.self_attn.q_proj.peanut_decoders.0.weight`",
                    WHOLE,
                ],
            ),
            (
                "an encoder of another rank",
                &[4, 6],
                deep(),
                &[a, b, ("peanut_encoders.0.weight", &[2, 3]), decoder],
                &["peanut_encoders.0.weight` has shape [2, 3], expected [2, 2], as `"],
            ),
            (
                "a decoder of another rank",
                &[4, 6],
                deep(),
                &[a, b, encoder, ("peanut_decoders.0.weight", &[3, 3])],
                &["peanut_decoders.0.weight` has shape [3, 3], expected [2, 2], as `"],
            ),
            (
                "an encoder that the config does not have",
                &[4, 6],
                none(),
                &[a, b, encoder],
                &["matches no base tensor: `", "q_proj.peanut_encoders.0.weight`"],
            ),
            (
                "half a layer",
                &[4, 6],
                json!({"depth": 1.5}),
                both,
                &["sets `depth` to `1.5`, which is not a whole number up to 1000"],
            ),
            (
                "too many layers",
                &[4, 6],
                json!({"depth": 1001}),
                both,
                &["sets `depth` to `1001`, which is not a whole number up to 1000"],
            ),
            (
                "a function that is not known",
                &[4, 6],
                json!({"act_fn": "mish"}),
                both,
                &["sets `act_fn` to `mish`, which is no value that PEFT has for it"],
            ),
            (
                "a scale of text",
                &[4, 6],
                json!({"scaling": "x"}),
                both,
                &["sets `scaling` to `x`, which is not a number"],
            ),
            (
                "a scale without bounds",
                &[4, 6],
                json!({"scaling": 1e300}),
                both,
                &["sets `scaling` to `1e", NOT_FINITE],
            ),
        ],
    );
    let says =
        ["peanut_A.weight` has shape [2, 4], expected those of a linear layer that is stored as [out, in]"];
    refused("of GPT-2", &of_gpt2("PEANUT", both), &[], 65, &says);
}

/// A square layer of GPT-2, which stores it as `[in, out]`.
fn of_gpt2(kind: &str, tensors: Tensors<'_>) -> Work {
    let config = of_type(kind, &json!({"target_modules": ["c_proj"]}));
    adapted("gpt2", "h.0.attn.c_proj", &[4, 4], config, tensors)
}

/// The values and zeros of the five paths of GLoRA, none but those of `A`.
const PATHS: [(&str, &[u64]); 4] = [
    ("glora_B.zeros", &[4, 6]),
    ("glora_C.zeros", &[6, 1]),
    ("glora_D.zeros", &[4]),
    ("glora_E.zeros", &[4]),
];

#[test]
fn paths_of_glora_that_do_not_fit() {
    let with_a = |a: &[(&'static str, &'static [u64])]| [a, &PATHS].concat();
    let (values, zeros) = (("glora_A.X", &[4][..]), ("glora_A.zeros", &[4, 6][..]));
    let (down, up) = (("glora_A.Xd", &[4, 2][..]), ("glora_A.Xu", &[2, 6][..]));
    let path = "q_proj.glora_A.";
    let exclude = "a product, values and zeros of one path exclude each other";
    all_are_refused(
        &of_type("GLORA", &none()),
        &[
            (
                "a path less",
                &[4, 6],
                none(),
                &with_a(&[values])[..4],
                &["glora_A.X` has no partner `model.layers.0.self_attn.q_proj.glora_E.Xd`", WHOLE],
            ),
            (
                "half a product",
                &[4, 6],
                none(),
                &with_a(&[down]),
                &["glora_A.Xd` has no partner `model.layers.0.self_attn.q_proj.glora_A.Xu`", WHOLE],
            ),
            (
                "the other half",
                &[4, 6],
                none(),
                &with_a(&[up]),
                &["glora_A.Xu` has no partner `model.layers.0.self_attn.q_proj.glora_A.Xd`", WHOLE],
            ),
            (
                "values and zeros",
                &[4, 6],
                none(),
                &with_a(&[values, zeros]),
                &[&format!("{path}X`: {exclude}"), &format!("{path}zeros`: {exclude}")],
            ),
            (
                "a product and values",
                &[4, 6],
                none(),
                &with_a(&[down, up, values]),
                &[&format!("{path}Xd`: {exclude}"), &format!("{path}X`: {exclude}")],
            ),
            (
                "values of other outputs",
                &[4, 6],
                none(),
                &with_a(&[("glora_A.X", &[5])]),
                &["glora_A.X` has shape [5], expected one value, or [4]"],
            ),
            (
                "a factor of one axis",
                &[4, 6],
                none(),
                &with_a(&[("glora_A.Xd", &[4]), up]),
                &["glora_A.Xd` has shape [4], expected [out, rank], all above zero"],
            ),
            (
                "a product of other outputs",
                &[4, 6],
                none(),
                &with_a(&[("glora_A.Xd", &[5, 2]), up]),
                &["glora_A.Xd` has shape [5, 2], expected [4, 2], as `", "glora_A.Xu` is [2, 6]"],
            ),
            (
                "a product of other inputs",
                &[4, 6],
                none(),
                &with_a(&[down, ("glora_A.Xu", &[2, 5])]),
                &["glora_A.Xu` has shape [2, 5], expected [2, 6], as `", "glora_A.Xd` is [4, 2]"],
            ),
            (
                "a convolution",
                &[4, 6, 1],
                none(),
                &with_a(&[values]),
                &["glora_A.X` has shape [4], expected those of a linear layer, which \
                     `model.layers.0.self_attn.q_proj.weight` is not"],
            ),
            (
                "a bias of others",
                &[4, 6],
                json!({"bias": "lora_only"}),
                &with_a(&[values]),
                &["sets `bias` to `lora_only`, which is none of `none`, `all`, `glora_only`"],
            ),
        ],
    );
    let says = ["glora_A.X` has shape [4], expected those of a linear layer stored as [out, in], which `"];
    refused("of GPT-2", &of_gpt2("GLORA", &with_a(&[values])), &[], 65, &says);
}

#[test]
fn paths_of_glora_that_do_not_fit_its_bias() {
    let zeros = |name: &'static str| (name, &[4][..]);
    let (a, b, c) = (zeros("glora_A.zeros"), zeros("glora_B.zeros"), zeros("glora_C.zeros"));
    let (d, e) = (zeros("glora_D.zeros"), ("glora_E.X", &[4][..]));
    let with_bias = |bias: &[u64], tensors: Tensors<'_>| {
        let work = adapted("llama", MODULE, &[4, 6], of_type("GLORA", &none()), tensors);
        let (weight, name) = (format!("{MODULE}.weight"), format!("{MODULE}.bias"));
        let count = bias.iter().product::<u64>() as usize;
        work.rebase(&[(&weight, &[4, 6], vec![0.25; 24]), (&name, bias, vec![0.25; count])]);
        work
    };
    with_bias(&[4], &[a, b, c, d, e]).succeeds(&[]);
    for (what, bias, tensors, says) in [
        (
            "values of outputs",
            &[4][..],
            &[a, b, ("glora_C.X", &[4][..]), d, e][..],
            "glora_C.X` has shape [4], expected [6, 1]",
        ),
        (
            "a product of outputs",
            &[4],
            &[a, b, ("glora_C.Xd", &[4, 2]), ("glora_C.Xu", &[2, 1]), d, e],
            "glora_C.Xd` has shape [4, 2], expected [6, 2], as `",
        ),
        (
            "a product of two columns",
            &[4],
            &[a, b, ("glora_C.Xd", &[6, 2]), ("glora_C.Xu", &[2, 2]), d, e],
            "glora_C.Xu` has shape [2, 2], expected [2, 1], as `",
        ),
        (
            "a factor of one axis",
            &[4],
            &[a, b, ("glora_C.Xd", &[6]), ("glora_C.Xu", &[1, 1]), d, e],
            "glora_C.Xd` has shape [6], expected [in, rank], all above zero",
        ),
        (
            "a share of other outputs",
            &[4],
            &[a, b, c, ("glora_D.X", &[3]), e],
            "glora_D.X` has shape [3], expected one value, or [4]",
        ),
        (
            "a sum of other outputs",
            &[4],
            &[a, b, c, d, ("glora_E.Xd", &[3, 2]), ("glora_E.Xu", &[2, 1])],
            "glora_E.Xd` has shape [3, 2], expected [4, 2], as `",
        ),
        (
            "a shorter bias",
            &[3],
            &[a, b, c, d, e],
            "expected those of a layer with 4 values in its bias, and `model.layers.0.self_attn.q_proj.bias` is [3]",
        ),
        ("a longer bias", &[5], &[a, b, c, d, e], "with 4 values in its bias, and `"),
    ] {
        refused(what, &with_bias(bias, tensors), &[], 65, &[says]);
    }
}

#[test]
fn osf_that_does_not_fit() {
    let u = ("osf_svd_params.U_low", &[4, 2][..]);
    let s = ("osf_svd_params.S_low", &[2][..]);
    let v = ("osf_svd_params.V_low", &[2, 6][..]);
    let all: Tensors<'_> = &[u, s, v];
    let fewer = "expected [out, fewer than all] of a linear layer that is stored as [out, in], and `";
    all_are_refused(
        &of_type("OSF", &none()),
        &[
            (
                "no values",
                &[4, 6],
                none(),
                &[u, v],
                &["U_low` has no partner `model.layers.0.self_attn.q_proj.osf_svd_params.S_low`", WHOLE],
            ),
            (
                "no left vectors",
                &[4, 6],
                none(),
                &[s, v],
                &["S_low` has no partner `model.layers.0.self_attn.q_proj.osf_svd_params.U_low`", WHOLE],
            ),
            (
                "no right vectors",
                &[4, 6],
                none(),
                &[u, s],
                &["U_low` has no partner `model.layers.0.self_attn.q_proj.osf_svd_params.V_low`", WHOLE],
            ),
            (
                "left vectors of one axis",
                &[4, 6],
                none(),
                &[("osf_svd_params.U_low", &[4]), s, v],
                &["U_low` has shape [4], expected [out, rank], both above zero"],
            ),
            (
                "right vectors of one axis",
                &[4, 6],
                none(),
                &[u, s, ("osf_svd_params.V_low", &[6])],
                &["V_low` has shape [6], expected [rank, in], both above zero"],
            ),
            (
                "two ranks",
                &[4, 6],
                none(),
                &[u, s, ("osf_svd_params.V_low", &[3, 6])],
                &["V_low` has shape [3, 6], expected [2, 6], as `", "U_low` is [4, 2]"],
            ),
            (
                "values of another rank",
                &[4, 6],
                none(),
                &[u, ("osf_svd_params.S_low", &[3]), v],
                &["S_low` has shape [3], expected [2], as `", "U_low` is [4, 2]"],
            ),
            (
                "all of the weight",
                &[4, 6],
                none(),
                &[
                    ("osf_svd_params.U_low", &[4, 4]),
                    ("osf_svd_params.S_low", &[4]),
                    ("osf_svd_params.V_low", &[4, 6]),
                ],
                &["U_low` has shape [4, 4], ", fewer, "q_proj` is [4, 6]"],
            ),
            ("a layer stored the other way", &[6, 4], none(), all, &["U_low` has shape [4, 2], ", fewer]),
            ("a convolution", &[4, 6, 1], none(), all, &["U_low` has shape [4, 2], ", fewer]),
            ("another base", &[4, 7], none(), all, &[MISFIT, OTHER_SIZES]),
        ],
    );
    let square: Tensors<'_> = &[u, s, ("osf_svd_params.V_low", &[2, 4])];
    refused("of GPT-2", &of_gpt2("OSF", square), &[], 65, &["U_low` has shape [4, 2], ", fewer]);
    let same = adapted("llama", MODULE, &[4, 4], of_type("OSF", &none()), square);
    identity(&same);
    refused("singular values that are the same", &same, &[], 65, &[NEAR, CONVERT]);
}

/// What is said where singular values cannot be told apart, and what helps.
const NEAR: &str = "of `model.safetensors`, [4, 4], its singular values are too near each other where some of them are \
                    taken and others are not";
const CONVERT: &str = "hint: convert the adapter where it was trained, or merge it with PEFT";

/// Stacks of factors are no plain LoRA's, whose claim takes the part.
#[test]
fn parts_of_experts_that_cannot_be_taken() {
    let config = of_type("LORA", &json!({"r": 2, "lora_alpha": 2, "init_lora_weights": "pissa"}));
    let tensors: Tensors<'_> = &[("lora_A.weight", &[2, 2, 6]), ("lora_B.weight", &[2, 4, 2])];
    let work = adapted("llama", "model.layers.0.mlp.experts.gate_up_proj", &[2, 4, 6], config, tensors);
    let says =
        "sets `init_lora_weights` to `pissa`, which takes part of the base out of plain LoRA's layers alone";
    refused("a stack", &work, &[], 65, &[says]);
}

#[test]
fn parts_of_the_base_that_cannot_be_taken() {
    let (a, b) = (("lora_A.weight", &[2, 6][..]), ("lora_B.weight", &[4, 2][..]));
    let diagonal = ("lora_diag", &[2][..]);
    let kasa = || json!({"r": 2, "lora_alpha": 2, "kasa_config": {"beta": 1e-4}});
    let started = |how: &str| json!({"r": 2, "lora_alpha": 2, "init_lora_weights": how});
    let all = |rank: u64| json!({"r": rank, "lora_alpha": 2});
    let plain = "expected those of a plain LoRA on a linear layer, as `";
    let others =
        "which takes part of the base out of plain LoRA's layers alone, and this adapter is for others, too";
    let magnitude = ("lora_magnitude_vector.weight", &[4][..]);
    all_are_refused(
        &of_type("LORA", &none()),
        &[
            (
                "KaSA without its diagonal",
                &[4, 6],
                kasa(),
                &[a, b],
                &["lora_A.weight` has no partner `model.layers.0.self_attn.q_proj.lora_diag`", WHOLE],
            ),
            (
                "KaSA without an output factor",
                &[4, 6],
                kasa(),
                &[a, diagonal],
                &["lora_A.weight` has no partner `model.layers.0.self_attn.q_proj.lora_B.weight`", WHOLE],
            ),
            (
                "KaSA with a longer diagonal",
                &[4, 6],
                kasa(),
                &[a, b, ("lora_diag", &[3])],
                &["lora_diag` has shape [3], expected [2], as `", "lora_A.weight` is [2, 6]"],
            ),
            (
                "KaSA of two ranks",
                &[4, 6],
                kasa(),
                &[a, ("lora_B.weight", &[4, 3]), diagonal],
                &["lora_B.weight` has shape [4, 3], expected [4, 2], as `", "lora_A.weight` has rank 2"],
            ),
            (
                "KaSA of another rank than its config's",
                &[4, 6],
                with(kasa(), &all(3)),
                &[a, b, diagonal],
                &["has rank 2 in the adapter's tensors, but 3 by its config"],
            ),
            (
                "KaSA in place of all of the weight",
                &[4, 6],
                with(kasa(), &all(4)),
                &[("lora_A.weight", &[4, 6]), ("lora_B.weight", &[4, 4]), ("lora_diag", &[4])],
                &["lora_A.weight` has shape [4, 6], ", plain, "`kasa_config` says"],
            ),
            ("KaSA on another base", &[4, 7], kasa(), &[a, b, diagonal], &[MISFIT, OTHER_SIZES]),
            (
                "KaSA after PiSSA",
                &[4, 6],
                with(kasa(), &started("pissa")),
                &[a, b, diagonal],
                &[
                    "sets `init_lora_weights` to `pissa`, which takes another part out of the base than `kasa_config` does",
                ],
            ),
            (
                "KaSA after OLoRA",
                &[4, 6],
                with(kasa(), &started("olora")),
                &[a, b, diagonal],
                &["sets `init_lora_weights` to `olora`, ", "both at once are not merged"],
            ),
            (
                "KaSA with DoRA",
                &[4, 6],
                with(kasa(), &json!({"use_dora": true})),
                &[a, b, diagonal, magnitude],
                &["sets `kasa_config` to `{…}`, ", others],
            ),
            (
                "PiSSA with DoRA",
                &[4, 6],
                with(started("pissa"), &json!({"use_dora": true})),
                &[a, b, magnitude],
                &["sets `init_lora_weights` to `pissa`, ", others],
            ),
            (
                "OLoRA with parameters",
                &[4, 6],
                with(started("olora"), &json!({"target_parameters": ["experts.down_proj"]})),
                &[a, b],
                &["sets `init_lora_weights` to `olora`, ", others],
            ),
            (
                "PiSSA of more ranks than the weight",
                &[4, 6],
                with(started("pissa"), &all(5)),
                &[("lora_A.weight", &[5, 6]), ("lora_B.weight", &[4, 5])],
                &["lora_A.weight` has shape [5, 6], ", plain, "`init_lora_weights` says"],
            ),
            (
                "PiSSA on a convolution",
                &[4, 6, 1],
                started("pissa"),
                &[("lora_A.weight", &[2, 6, 1]), ("lora_B.weight", &[4, 2, 1])],
                &["lora_A.weight` has shape [2, 6, 1], ", plain, "`init_lora_weights` says"],
            ),
            (
                "OLoRA on a layer stored the other way",
                &[6, 4],
                started("olora"),
                &[a, b],
                &["lora_A.weight` has shape [2, 6], ", plain, "`init_lora_weights` says"],
            ),
        ],
    );
    let tokens = with(started("pissa"), &json!({"target_modules": ["embed_tokens"]}));
    let factors: Tensors<'_> = &[("lora_embedding_A", &[2, 7]), ("lora_embedding_B", &[4, 2])];
    let work = adapted("llama", "model.embed_tokens", &[7, 4], of_type("LORA", &tokens), factors);
    refused("PiSSA on an embedding", &work, &[], 65, &["lora_embedding_A` has shape [2, 7], ", plain]);
    let a = ("lora_A.weight", &[2, 4][..]);
    let same: [(&str, Value, Tensors<'_>); 2] =
        [("KaSA", kasa(), &[a, b, diagonal]), ("PiSSA", started("pissa"), &[a, b])];
    for (what, fields, tensors) in same {
        let work = adapted("llama", MODULE, &[4, 4], of_type("LORA", &fields), tensors);
        identity(&work);
        refused(what, &work, &[], 65, &[NEAR, CONVERT]);
    }
}

#[test]
fn frod_that_does_not_fit() {
    let (diagonal, values) = (("frod_lambda_l", &[6][..]), ("frod_lambda_s_values", &[2][..]));
    let basis = ("/frod_V.self_attn_q_proj", &[6, 6][..]);
    let places = ("/frod_s_indices.self_attn_q_proj", &[2, 2][..]);
    let size = ("/frod_s_size.self_attn_q_proj", &[2][..]);
    let all: Tensors<'_> = &[diagonal, values, basis, places, size];
    let missing = "frod_lambda_l`: the basis that it is for is not in the file";
    all_are_refused(
        &of_type("FROD", &none()),
        &[
            (
                "no entries",
                &[4, 6],
                none(),
                &[diagonal, basis, places, size],
                &[
                    "frod_lambda_l` has no partner `model.layers.0.self_attn.q_proj.frod_lambda_s_values`",
                    WHOLE,
                ],
            ),
            (
                "no diagonal",
                &[4, 6],
                none(),
                &all[1..],
                &[
                    "frod_lambda_s_values` has no partner `model.layers.0.self_attn.q_proj.frod_lambda_l`",
                    WHOLE,
                ],
            ),
            ("no basis", &[4, 6], none(), &[diagonal, values, places, size], &[missing, SAVE_PROJECTION]),
            ("no places", &[4, 6], none(), &[diagonal, values, basis, size], &[missing, SAVE_PROJECTION]),
            ("no size", &[4, 6], none(), &all[..4], &[missing, SAVE_PROJECTION]),
            (
                "a basis of another kind of modules",
                &[4, 6],
                none(),
                &[diagonal, values, ("/frod_V.self_attn_k_proj", &[6, 6]), places, size],
                &[missing, SAVE_PROJECTION],
            ),
            (
                "a diagonal of two axes",
                &[4, 6],
                none(),
                &[("frod_lambda_l", &[6, 1]), values, basis, places, size],
                &["frod_lambda_l` has shape [6, 1], expected [in], all above zero"],
            ),
            (
                "a basis that is not square",
                &[4, 6],
                none(),
                &[diagonal, values, ("/frod_V.self_attn_q_proj", &[6, 5]), places, size],
                &[
                    "`base_model.frod_V.self_attn_q_proj` has shape [6, 5], expected [6, 6], as `",
                    "frod_lambda_l` is [6]",
                ],
            ),
            (
                "entries of two axes",
                &[4, 6],
                none(),
                &[diagonal, ("frod_lambda_s_values", &[2, 1]), basis, places, size],
                &["frod_lambda_s_values` has shape [2, 1], expected [2], as `"],
            ),
            (
                "other places",
                &[4, 6],
                none(),
                &[diagonal, values, basis, ("/frod_s_indices.self_attn_q_proj", &[2, 3]), size],
                &[
                    "`base_model.frod_s_indices.self_attn_q_proj` has shape [2, 3], expected [2, 2], as `",
                    "frod_lambda_s_values` is [2]",
                ],
            ),
            (
                "a convolution",
                &[4, 6, 1],
                none(),
                all,
                &["frod_lambda_l` has shape [6], expected those of a linear layer, and \
                     `model.layers.0.self_attn.q_proj` is [4, 6, 1]"],
            ),
            (
                "another base",
                &[4, 7],
                none(),
                all,
                &[
                    "frod_lambda_l` has shape [6], expected a value for every input of `model.layers.0.self_attn.q_proj`, \
                     which is [4, 7]",
                ],
            ),
            (
                "places between elements",
                &[4, 6],
                none(),
                all,
                &["of `adapter`, [2, 2], it names places that the basis does not have"],
            ),
            (
                "a bias of others",
                &[4, 6],
                json!({"bias": "lora_only"}),
                all,
                &["sets `bias` to `lora_only`, which is none of `none`, `all`, `frod_only`"],
            ),
        ],
    );
    let placed = |place: i64| {
        let work = adapted("llama", MODULE, &[4, 6], of_type("FROD", &none()), all);
        fill(&work, "frod_s_indices.self_attn_q_proj", place);
        work
    };
    for place in [6, -1] {
        let says = ["of `adapter`, [2, 2], it names places that the basis does not have"];
        refused("places outside", &placed(place), &[], 65, &says);
    }
    // Its rows are all the same.
    let says = ["of `adapter`, [6, 6], it is a basis that has no inverse", CONVERT];
    refused("a basis without an inverse", &placed(5), &[], 65, &says);
}

#[test]
fn what_is_beside_a_missing_tensor_is_not_called_another_model_s() {
    let vera: Tensors<'_> = &[("vera_lambda_d", &[2]), ("vera_lambda_b", &[4]), ("/vera_B", &[5, 2])];
    let randlora: Tensors<'_> =
        &[("randlora_lambda", &[2, 2]), ("randlora_gamma", &[2, 4]), ("/randlora_B", &[6, 2, 2])];
    let frod: Tensors<'_> = &[
        ("frod_lambda_l", &[6]),
        ("frod_lambda_s_values", &[2]),
        ("/frod_s_indices.self_attn_q_proj", &[2, 2]),
        ("/frod_s_size.self_attn_q_proj", &[2]),
    ];
    for (kind, tensors) in [("VERA", vera), ("RANDLORA", randlora), ("FROD", frod)] {
        let ran = adapted("llama", MODULE, &[4, 6], of_type(kind, &none()), tensors).merge(&[]);
        assert!(ran.code == 65 && ran.err.contains("not in the file"), "{kind}: {}", ran.err);
        assert!(!ran.err.contains("no base tensor"), "{kind}: {}", ran.err);
    }
}

/// What is said of methods that look at a weight whose values are not at hand, and what helps.
const PLAIN: &str = "its method looks at the values of the weight, which the base does not hold as one tensor of plain numbers";
const PLAIN_HINT: &str = "hint: merge it into a base of BF16, F16 or F32";

#[test]
fn methods_that_look_at_a_quantized_weight() {
    let lora = |fields: Value| with(json!({"r": 2, "lora_alpha": 2}), &fields);
    let (a, b) = (("lora_A.weight", &[2, 24][..]), ("lora_B.weight", &[16, 2][..]));
    let cases: [(&str, Value, Tensors<'_>, &str); 6] = [
        ("DEFT", none(), &[("deft_P", &[16, 2]), ("deft_R", &[2, 24])], "deft_P"),
        (
            "PEANUT",
            none(),
            &[("peanut_A.weight", &[2, 16]), ("peanut_B.weight", &[16, 2])],
            "peanut_A.weight",
        ),
        (
            "OSF",
            none(),
            &[
                ("osf_svd_params.U_low", &[16, 2]),
                ("osf_svd_params.S_low", &[2]),
                ("osf_svd_params.V_low", &[2, 24]),
            ],
            "osf_svd_params.U_low",
        ),
        (
            "FROD",
            none(),
            &[
                ("frod_lambda_l", &[24]),
                ("frod_lambda_s_values", &[1]),
                ("/frod_V.self_attn_q_proj", &[24, 24]),
                ("/frod_s_indices.self_attn_q_proj", &[2, 1]),
                ("/frod_s_size.self_attn_q_proj", &[2]),
            ],
            "frod_V.self_attn_q_proj",
        ),
        ("LORA", lora(json!({"kasa_config": {"beta": 1e-4}})), &[a, b, ("lora_diag", &[2])], "lora_A.weight"),
        ("LORA", lora(json!({"init_lora_weights": "olora"})), &[a, b], "lora_A.weight"),
    ];
    for (kind, fields, tensors, key) in cases {
        let mut work = adapted("llama", MODULE, &[16, 24], of_type(kind, &fields), tensors);
        let quantized = Work::golden("fp8");
        work.base.clone_from(&quantized.base);
        refused(kind, &work, &[], 65, &[&format!("{key}`: {PLAIN}"), PLAIN_HINT]);
    }
}

#[test]
fn weights_that_no_number_of_the_result_holds() {
    let delora: Tensors<'_> =
        &[("delora_A", &[2, 6]), ("delora_B", &[4, 2]), ("delora_lambda", &[1]), ("delora_w_norm", &[6])];
    let vera: Tensors<'_> =
        &[("vera_lambda_d", &[2]), ("vera_lambda_b", &[4]), ("/vera_A", &[2, 6]), ("/vera_B", &[4, 2])];
    for (kind, tensors) in [("DELORA", delora), ("VERA", vera)] {
        let work = adapted("llama", MODULE, &[4, 6], of_type(kind, &none()), tensors);
        let ran = work.merge_scaled("1e39");
        assert_eq!(ran.code, 65, "{kind}: {}", ran.err);
        let says = format!("`{MODULE}` cannot have weight 1");
        assert!(ran.err.contains(&says), "{kind}: {}", ran.err);
        let says = "what it adds is then multiplied by no finite number";
        assert!(ran.err.contains(says), "{kind}: {}", ran.err);
        assert!(!work.output.exists(), "{kind}");
    }
}

#[test]
fn types_that_are_not_merged() {
    let no_weights = "which adds inputs and changes no weights: there is nothing to merge";
    let by_input = "which depends on the input and cannot be merged";
    let merged = "hint: shardfold merges ADALORA, BEFT, ";
    for (kind, why, cure) in [
        ("CARTRIDGE", no_weights, merged),
        ("CPT", no_weights, merged),
        ("P_TUNING", no_weights, merged),
        ("MULTITASK_PROMPT_TUNING", no_weights, merged),
        ("ADAPTION_PROMPT", no_weights, merged),
        ("XLORA", by_input, "hint: its experts are LoRAs by themselves: merge one at a time"),
        ("POLY", by_input, merged),
        ("LILY", by_input, merged),
        ("SHADOW", by_input, merged),
        (
            "PSOFT",
            "which turns singular vectors of the base into each other, by signs that they had where it was trained, which no \
             file holds",
            "hint: convert it with PEFT's `save_as_lora`, which writes a plain LoRA",
        ),
        (
            "ADAMSS",
            "which changes rows that it does not name: PEFT finds them by a clustering that no file holds",
            "hint: merge it with PEFT, on a host that holds the model",
        ),
        (
            "BONE",
            "which was renamed and changed: no PEFT reads it any more",
            "hint: train it again as MISS, or merge it with the PEFT that made it",
        ),
    ] {
        let work = Work::demo();
        work.configure("peft_type", json!(kind));
        let says = format!("adapter `adapter` has `peft_type` `{kind}`, {why}");
        refused(kind, &work, &[], 65, &[&says, cure]);
    }
}
