//! The two ends of a language model, where no golden case shows it: heads of other tasks, and what resized ends start from.

use serde_json::{Value, json};
use shardfold::testing::Dtype;

use super::refusals::refused;
use super::work::{Work, edit, edit_json};

const EMBEDDING: &str = "model.embed_tokens.weight";
const HEAD: &str = "lm_head.weight";

/// A tied model of three tokens and width 2.
fn tied() -> Work {
    let work = Work::tiny(Dtype::F32, 1.0);
    work.rebase(&[(EMBEDDING, &[3, 2], vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0])]);
    edit_json(&work.base.join("config.json"), |config| {
        config.insert("tie_word_embeddings".into(), true.into());
        config.insert("vocab_size".into(), 3.into());
    });
    work
}

fn names(work: &Work) -> Vec<String> {
    let mut names = Vec::new();
    edit(&work.output.join("model.safetensors"), |tensors| {
        names = tensors.iter().map(|tensor| tensor.name.clone()).collect();
    });
    names
}

fn config(work: &Work) -> Value {
    let text = std::fs::read_to_string(work.output.join("config.json")).expect("a config");
    serde_json::from_str(&text).expect("JSON")
}

#[test]
fn a_classifier_has_no_head_to_part_from_its_embedding() {
    let work = tied();
    let lora = json!({"peft_type": "LORA", "r": 1, "lora_alpha": 1, "task_type": "SEQ_CLS"});
    let score: (&str, &[u64], _) = ("score.weight", &[1, 2], vec![7.0, 8.0]);
    let a: (&str, &[u64], _) = ("model.embed_tokens.lora_embedding_A", &[1, 3], vec![1.0, 0.0, 0.0]);
    let b: (&str, &[u64], _) = ("model.embed_tokens.lora_embedding_B", &[2, 1], vec![10.0, 20.0]);
    work.adapt_by(&lora, &[a, b, score.clone()]);
    work.succeeds(&[]);
    assert_eq!(names(&work), [EMBEDDING, "score.weight"]);
    assert_eq!(work.merged(EMBEDDING), [11.0, 22.0, 3.0, 4.0, 5.0, 6.0]);
    assert_eq!(config(&work)["architectures"], json!(["LlamaForSequenceClassification"]));
    assert_eq!(config(&work)["tie_word_embeddings"], json!(true));
}

#[test]
fn a_classifier_may_have_more_tokens_than_the_head_that_it_does_not_use() {
    let work = tied();
    let head: (&str, &[u64], _) = (HEAD, &[3, 2], vec![1.0; 6]);
    work.rebase(&[(EMBEDDING, &[3, 2], vec![1.0; 6]), head]);
    let lora = json!({"peft_type": "LORA", "r": 1, "lora_alpha": 1, "task_type": "SEQ_CLS"});
    let score: (&str, &[u64], _) = ("score.weight", &[1, 2], vec![7.0, 8.0]);
    work.adapt_by(&lora, &[("model.embed_tokens.weight", &[4, 2], vec![9.0; 8]), score]);
    work.succeeds(&[]);
    assert_eq!(names(&work), [EMBEDDING, HEAD, "score.weight"]);
    assert_eq!(config(&work)["vocab_size"], json!(4));
}

#[test]
fn what_one_resized_tied_end_started_from_is_what_the_other_did() {
    let grown: Vec<f32> = (1..=8_u8).map(f32::from).collect();
    let start = |module: &str| format!("{module}.base_layer.weight");
    let lora = json!({"peft_type": "LORA", "r": 1, "lora_alpha": 1});
    let changed = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 17.0, 28.0];
    let work = tied();
    let (of_head, of_embedding) = (start("lm_head"), start("model.embed_tokens"));
    let on_head: [(&str, &[u64], Vec<f32>); 3] = [
        ("lm_head.lora_A.weight", &[1, 2], vec![10.0, 20.0]),
        ("lm_head.lora_B.weight", &[4, 1], vec![0.0, 0.0, 0.0, 1.0]),
        (&of_head, &[4, 2], grown.clone()),
    ];
    work.adapt_by(&lora, &on_head);
    work.succeeds(&[]);
    assert_eq!((work.merged(HEAD), work.merged(EMBEDDING)), (changed.to_vec(), grown.clone()));
    assert_eq!(config(&work)["vocab_size"], json!(4));

    let work = tied();
    work.adapt_by(&lora, &on_head);
    work.succeeds(&["--tied", "fold"]);
    assert_eq!((names(&work), work.merged(EMBEDDING)), (vec![EMBEDDING.to_owned()], changed.to_vec()));

    let work = tied();
    let on_embedding: [(&str, &[u64], Vec<f32>); 3] = [
        ("model.embed_tokens.lora_embedding_A", &[1, 4], vec![0.0, 0.0, 0.0, 1.0]),
        ("model.embed_tokens.lora_embedding_B", &[2, 1], vec![10.0, 20.0]),
        (&of_embedding, &[4, 2], grown.clone()),
    ];
    work.adapt_by(&lora, &on_embedding);
    work.succeeds(&[]);
    assert_eq!((work.merged(HEAD), work.merged(EMBEDDING)), (grown, changed.to_vec()));
}

#[test]
fn a_tied_head_follows_rows_of_a_resized_embedding() {
    let work = tied();
    let lora = json!({"peft_type": "LORA", "r": 1, "lora_alpha": 1, "trainable_token_indices": [3]});
    let keys = ["model.embed_tokens", "lm_head"].map(|module| {
        ["trainable_tokens_delta", "base_layer.weight"].map(|leaf| format!("{module}.token_adapter.{leaf}"))
    });
    let [[rows, start], [other_rows, other_start]] = &keys;
    let (row, all): (&[u64], &[u64]) = (&[1, 2], &[4, 2]);
    work.adapt_by(
        &lora,
        &[
            (rows, row, vec![-1.0, -2.0]),
            (start, all, vec![1.0; 8]),
            (other_rows, row, vec![-1.0, -2.0]),
            (other_start, all, vec![1.0; 8]),
        ],
    );
    work.succeeds(&[]);
    assert_eq!(names(&work), [EMBEDDING]);
    assert_eq!(work.merged(EMBEDDING), [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, -1.0, -2.0]);
}

#[test]
fn a_square_head_is_stored_as_any_head_where_other_layers_are_transposed() {
    for (flags, tensor) in [(&[][..], HEAD), (&["--tied", "fold"], "transformer.wte.weight")] {
        let work = tied();
        work.rebase(&[("transformer.wte.weight", &[2, 2], vec![0.0; 4])]);
        edit_json(&work.base.join("config.json"), |config| {
            config.insert("model_type".into(), "gpt2".into());
            config.insert("architectures".into(), json!(["GPT2LMHeadModel"]));
        });
        work.adapt_by(
            &json!({"peft_type": "LORA", "r": 1, "lora_alpha": 1}),
            &[
                ("lm_head.lora_A.weight", &[1, 2], vec![1.0, 2.0]),
                ("lm_head.lora_B.weight", &[2, 1], vec![1.0, 10.0]),
            ],
        );
        work.succeeds(flags);
        assert_eq!(work.merged(tensor), [1.0, 2.0, 10.0, 20.0]);
    }
}

/// A model whose config ties its ends and whose base stores both, the head's last value as given.
fn stored_twice(last: f32) -> Work {
    let work = tied();
    let values = |last: f32| vec![1.0, 2.0, 3.0, 4.0, 5.0, last];
    work.rebase(&[
        (EMBEDDING, &[3, 2], values(6.0)),
        (HEAD, &[3, 2], values(last)),
        ("model.norm.weight", &[2], vec![1.0; 2]),
    ]);
    edit_json(&work.base.join("config.json"), |config| {
        config.insert("text_config".into(), json!({"tie_word_embeddings": true}));
    });
    work
}

#[test]
fn ends_that_are_stored_twice_are_tied_no_more_once_one_changes() {
    // transformers 4.57 loads the embedding in the head's place while the flag is true (measured), 5.23 if both are equal.
    let lora = json!({"peft_type": "LORA", "r": 1, "lora_alpha": 1});
    let head: [(&str, &[u64], Vec<f32>); 2] = [
        ("lm_head.lora_A.weight", &[1, 2], vec![10.0, 20.0]),
        ("lm_head.lora_B.weight", &[3, 1], vec![0.0, 0.0, 1.0]),
    ];
    let embedding: [(&str, &[u64], Vec<f32>); 2] = [
        ("model.embed_tokens.lora_embedding_A", &[1, 3], vec![0.0, 0.0, 1.0]),
        ("model.embed_tokens.lora_embedding_B", &[2, 1], vec![10.0, 20.0]),
    ];
    let (still, changed) = (vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0], vec![1.0, 2.0, 3.0, 4.0, 15.0, 26.0]);
    for (adapter, of_head, of_embedding) in [(&head, &changed, &still), (&embedding, &still, &changed)] {
        let work = stored_twice(6.0);
        work.adapt_by(&lora, adapter);
        let ran = work.succeeds(&[]);
        assert!(
            ran.err.contains("`lm_head.weight` is stored beside `model.embed_tokens.weight`"),
            "{}",
            ran.err
        );
        assert_eq!((work.merged(HEAD), work.merged(EMBEDDING)), (of_head.clone(), of_embedding.clone()));
        assert_eq!(config(&work)["tie_word_embeddings"], json!(false));
        assert_eq!(config(&work)["text_config"]["tie_word_embeddings"], json!(false));
        // Both would have to change as one.
        let why = "is tied, and embedding and LM head cannot be untied: `lm_head.weight` is stored beside it";
        let again = stored_twice(6.0);
        again.adapt_by(&lora, adapter);
        refused(
            "fold",
            &again,
            &["--tied", "fold"],
            65,
            &[why, "hint: take the head's tensor out of the base"],
        );
    }
    let rows = json!({"peft_type": "TRAINABLE_TOKENS", "token_indices": [1]});
    let row: (&str, &[u64], Vec<f32>) = ("model.embed_tokens.trainable_tokens_delta", &[1, 2], vec![7.0; 2]);
    let work = stored_twice(6.0);
    work.adapt_by(&rows, &[row]);
    refused(
        "tokens",
        &work,
        &[],
        65,
        &["`lm_head.weight` is stored beside it, and both would have to change as one"],
    );
    // The same by the config, where only the embedding has factors.
    let mut as_one = lora.clone();
    as_one["ensure_weight_tying"] = json!(true);
    let work = stored_twice(6.0);
    work.adapt_by(&as_one, &embedding);
    refused(
        "as one",
        &work,
        &[],
        65,
        &["`lm_head.weight` is stored beside it, and both would have to change"],
    );
    let work = stored_twice(7.0);
    work.adapt_by(&lora, &head);
    let ran = work.succeeds(&[]);
    assert!(ran.err.contains("with other values: transformers 4 ignores it"), "{}", ran.err);
    assert_eq!(config(&work)["tie_word_embeddings"], json!(false));
    // Where the config leaves it to the class, ends that hold the same may be tied, and others are not.
    for (last, parts) in [(6.0, true), (7.0, false)] {
        let work = stored_twice(last);
        edit_json(&work.base.join("config.json"), |config| {
            config.shift_remove("tie_word_embeddings");
            config.shift_remove("text_config");
        });
        work.adapt_by(&lora, &head);
        let ran = work.succeeds(&[]);
        assert_eq!(ran.err.contains("stored beside"), parts, "{}", ran.err);
        assert_eq!(config(&work).get("tie_word_embeddings").is_some(), parts);
    }
    // Where neither end changes, nothing is.
    let work = stored_twice(6.0);
    work.adapt_by(&lora, &[("model.norm.weight", &[2], vec![2.0; 2])]);
    let ran = work.succeeds(&[]);
    assert!(!ran.err.contains("stored beside"), "{}", ran.err);
    assert_eq!(config(&work)["tie_word_embeddings"], json!(true));
}

#[test]
fn what_a_folded_heads_delta_is_added_to_is_the_embedding() {
    let lora = json!({"peft_type": "LORA", "r": 1, "lora_alpha": 1});
    let on = |start: Vec<f32>| -> Work {
        let work = tied();
        work.adapt_by(
            &lora,
            &[
                ("lm_head.lora_A.weight", &[1, 2], vec![10.0, 20.0]),
                ("lm_head.lora_B.weight", &[3, 1], vec![0.0, 0.0, 1.0]),
                ("lm_head.base_layer.weight", &[3, 2], start),
            ],
        );
        work
    };
    let (own, changed) = (vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0], vec![1.0, 2.0, 3.0, 4.0, 15.0, 26.0]);
    let work = on(own.clone());
    work.succeeds(&["--tied", "fold"]);
    assert_eq!(work.merged(EMBEDDING), changed);
    let others = vec![0.0, 2.0, 3.0, 4.0, 5.0, 6.0];
    let says = [
        "lm_head.base_layer.weight`, to which the head's delta is added, holds other values",
        "hint: without `--tied fold`",
    ];
    refused("others", &on(others.clone()), &["--tied", "fold"], 65, &says);
    // A head of its own starts from them.
    let work = on(others);
    work.succeeds(&[]);
    assert_eq!((work.merged(EMBEDDING), work.merged(HEAD)[0]), (own, 0.0));
}

#[test]
fn fewer_tokens_are_told_and_a_value_head_is_no_head_of_a_task() {
    let work = tied();
    let lora = json!({"peft_type": "LORA", "r": 1, "lora_alpha": 1});
    work.adapt_by(&lora, &[(EMBEDDING, &[2, 2], vec![9.0; 4]), (HEAD, &[2, 2], vec![9.0; 4])]);
    let ran = work.succeeds(&[]);
    assert!(ran.err.contains("`model.embed_tokens.weight` has fewer rows, [2, 2] for [3, 2]"), "{}", ran.err);
    let lora = json!({"peft_type": "LORA", "r": 1, "lora_alpha": 1, "task_type": "TOKEN_CLS"});
    work.adapt_by(
        &lora,
        &[(EMBEDDING, &[3, 2], vec![9.0; 6]), ("v_head.summary.weight", &[1, 2], vec![1.0; 2])],
    );
    std::fs::remove_dir_all(&work.output).expect("it was there");
    refused(
        "a value head",
        &work,
        &[],
        65,
        &["1 adapter tensor matches no base tensor", "v_head.summary.weight"],
    );
}

/// A tied model of that class, whose embedding has that name.
fn tied_as(class: &str, model_type: &str, embedding: &str) -> Work {
    let work = tied();
    work.rebase(&[(embedding, &[3, 2], vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0])]);
    edit_json(&work.base.join("config.json"), |config| {
        config.insert("architectures".into(), json!([class]));
        config.insert("model_type".into(), model_type.into());
    });
    work
}

#[test]
fn a_head_is_parted_from_an_embedding_that_only_its_class_names() {
    let embedding = "backbone.embeddings.weight";
    let work = tied_as("MambaForCausalLM", "mamba", embedding);
    work.adapt_by(&json!({"peft_type": "LORA", "r": 1}), &[(embedding, &[3, 2], vec![9.0; 6])]);
    work.succeeds(&[]);
    assert_eq!(work.merged(embedding), [9.0; 6]);
    assert_eq!(work.merged(HEAD), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], "the head is what it was");
    assert_eq!(config(&work)["tie_word_embeddings"], json!(false));
}

#[test]
fn a_parted_head_is_called_as_its_class_calls_it() {
    let embedding = "text_model.model.embed_tokens.weight";
    let work = tied_as("Kosmos2ForConditionalGeneration", "kosmos-2", embedding);
    work.adapt_by(&json!({"peft_type": "LORA", "r": 1}), &[(embedding, &[3, 2], vec![9.0; 6])]);
    work.succeeds(&[]);
    assert_eq!(work.merged(embedding), [9.0; 6]);
    assert_eq!(work.merged("text_model.lm_head.weight"), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
}

#[test]
fn ends_that_no_flag_parts_alone_are_refused() {
    let lora = json!({"peft_type": "LORA", "r": 1, "lora_alpha": 1});
    let untouched = vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
    // Without the flag the encoder and the decoder lose their embeddings, which are `shared` too.
    let shared = "model.shared.weight";
    let others =
        ["`model.shared.weight` is tied", "ties other embeddings of the model too", "hint: `--tied fold`"];
    let bart = || tied_as("BartForConditionalGeneration", "bart", shared);
    let work = bart();
    work.adapt_by(&lora, &[(shared, &[3, 2], vec![9.0; 6])]);
    refused("shared", &work, &[], 65, &others);
    work.succeeds(&["--tied", "fold"]);
    assert_eq!((names(&work), work.merged(shared)), (vec![shared.to_owned()], vec![9.0; 6]));
    // The same with a head that is stored beside it.
    let work = bart();
    work.rebase(&[(shared, &[3, 2], untouched.clone()), (HEAD, &[3, 2], untouched)]);
    work.adapt_by(&lora, &[(HEAD, &[3, 2], vec![9.0; 6])]);
    refused(
        "stored",
        &work,
        &[],
        65,
        &[others[0], others[1], "hint: if transformers loads this base as tied"],
    );
    // A class whose name does not say that it has a head.
    let work = tied_as("MarianMTModel", "marian", shared);
    work.adapt_by(&lora, &[(shared, &[3, 2], vec![9.0; 6])]);
    refused("marian", &work, &[], 65, &others);
    // A head of a name that is not known would be written where no loader looks.
    let embedding = "biogpt.embed_tokens.weight";
    let work = tied_as("BioGptForCausalLM", "biogpt", embedding);
    work.adapt_by(&lora, &[(embedding, &[3, 2], vec![9.0; 6])]);
    refused("biogpt", &work, &[], 65, &["the name of a head of its own is not known for this class"]);
}

#[test]
fn rows_of_tokens_are_refused_where_the_tied_head_has_a_delta_besides() {
    let work = tied();
    let lora = json!({"peft_type": "LORA", "r": 1, "lora_alpha": 1, "trainable_token_indices": [1]});
    let rows: (&str, &[u64], _) =
        ("model.embed_tokens.token_adapter.trainable_tokens_delta", &[1, 2], vec![-1.0, -2.0]);
    let a: (&str, &[u64], _) = ("lm_head.lora_A.weight", &[1, 2], vec![10.0, 20.0]);
    let b: (&str, &[u64], _) = ("lm_head.lora_B.weight", &[3, 1], vec![0.0, 0.0, 1.0]);
    work.adapt_by(&lora, &[rows.clone(), a, b]);
    let says =
        ["trainable_tokens_delta", "are the tied head's too", "more in `lm_head`", "hint: PEFT cannot merge"];
    refused("rows and a delta", &work, &[], 65, &says);
    work.adapt_by(&lora, &[rows]);
    work.succeeds(&[]);
    assert_eq!(names(&work), [EMBEDDING], "by themselves they are both ends'");
}

/// Places where the config of a text part may be.
const NESTED: [&[&str]; 6] = [
    &["text_config"],
    &["llm_config"],
    &["language_config"],
    &["thinker_config", "text_config"],
    &["decoder"],
    &["llm_config", "text_config"],
];

/// LoRA of the embedding that adds to its last token.
fn adapt_embedding(work: &Work) {
    let lora = json!({"peft_type": "LORA", "r": 1, "lora_alpha": 1});
    let a: (&str, &[u64], _) = ("model.embed_tokens.lora_embedding_A", &[1, 3], vec![0.0, 0.0, 1.0]);
    let b: (&str, &[u64], _) = ("model.embed_tokens.lora_embedding_B", &[2, 1], vec![10.0, 20.0]);
    work.adapt_by(&lora, &[a, b]);
}

/// Puts an object in a config at a path, and returns what is there in the output's.
fn nest(work: &Work, path: &[&str], fields: &Value) {
    let nested = path.iter().skip(1).rev().fold(fields.clone(), |inner, key| json!({ *key: inner }));
    edit_json(&work.base.join("config.json"), |config| {
        config.insert(path[0].into(), nested);
    });
}

fn at(config: &Value, path: &[&str], key: &str) -> Value {
    path.iter().fold(config, |value, key| &value[key])[key].clone()
}

#[test]
fn after_untying_every_flag_is_false_wherever_it_stands() {
    for path in NESTED {
        let work = tied();
        nest(&work, path, &json!({"tie_word_embeddings": true, "vocab_size": 3}));
        adapt_embedding(&work);
        work.succeeds(&[]);
        assert_eq!(names(&work), [EMBEDDING, HEAD], "{path:?}");
        assert_eq!(work.merged(HEAD), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], "{path:?}");
        let config = config(&work);
        assert_eq!(config["tie_word_embeddings"], json!(false), "{path:?}");
        for outer in 1..=path.len() {
            assert_eq!(at(&config, &path[..outer], "tie_word_embeddings"), json!(false), "{path:?}");
        }
    }
}

#[test]
fn a_tie_that_only_the_inner_config_says_is_seen() {
    for path in NESTED {
        for inner in [
            json!({"tie_word_embeddings": true}),
            json!({"architectures": ["Qwen2ForCausalLM"], "tie_word_embeddings": true}),
            json!({"architectures": ["Qwen2ForCausalLM"]}),
        ] {
            let work = tied();
            edit_json(&work.base.join("config.json"), |config| {
                config.insert("architectures".into(), json!(["InternVLChatModel"]));
                config.insert("model_type".into(), "internvl_chat".into());
                config.shift_remove("tie_word_embeddings");
            });
            nest(&work, path, &inner);
            adapt_embedding(&work);
            work.succeeds(&[]);
            assert_eq!(names(&work), [EMBEDDING, HEAD], "{path:?}: {inner}");
            assert_eq!(work.merged(HEAD), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], "{path:?}: {inner}");
            assert_eq!(at(&config(&work), path, "tie_word_embeddings"), json!(false), "{path:?}: {inner}");
        }
    }
}

#[test]
fn the_head_of_a_model_inside_another_stands_beside_its_layers() {
    let work = tied();
    work.rebase(&[("language_model.model.embed_tokens.weight", &[3, 2], vec![1.0; 6])]);
    edit_json(&work.base.join("config.json"), |config| {
        config.insert("architectures".into(), json!(["InternVLChatModel"]));
        config.insert("llm_config".into(), json!({"tie_word_embeddings": true}));
        config.shift_remove("tie_word_embeddings");
    });
    let lora = json!({"peft_type": "LORA", "r": 1, "lora_alpha": 1});
    let a: (&str, &[u64], _) = ("language_model.lm_head.lora_A.weight", &[1, 2], vec![1.0; 2]);
    let b: (&str, &[u64], _) = ("language_model.lm_head.lora_B.weight", &[3, 1], vec![1.0; 3]);
    work.adapt_by(&lora, &[a, b]);
    work.succeeds(&[]);
    assert_eq!(work.merged("language_model.lm_head.weight"), [2.0; 6]);
    assert_eq!(work.merged("language_model.model.embed_tokens.weight"), [1.0; 6]);
}

#[test]
fn a_vocabulary_that_grew_is_written_wherever_its_size_stands() {
    for path in NESTED {
        let work = tied();
        nest(&work, path, &json!({"vocab_size": 3, "tie_word_embeddings": true}));
        let lora = json!({"peft_type": "LORA", "r": 1, "lora_alpha": 1});
        work.adapt_by(&lora, &[("model.embed_tokens.weight", &[4, 2], vec![9.0; 8])]);
        work.succeeds(&["--tied", "fold"]);
        let config = config(&work);
        assert_eq!(config["vocab_size"], json!(4), "{path:?}");
        assert_eq!(at(&config, path, "vocab_size"), json!(4), "{path:?}");
        assert_eq!(at(&config, path, "tie_word_embeddings"), json!(true), "{path:?}");
    }
}

#[test]
fn a_config_keeps_every_byte_that_need_not_change() {
    let text = "\u{feff}{\n\t\"architectures\":[\"LlamaForCausalLM\"] , \"model_type\": \"llama\",\r\n \
        \"tie_word_embeddings\" :false, \"rms_norm_eps\": 1e-06, \"big\": 1000000000000000019884624838656,\n\
        \"time_step_limit\": [0.0, Infinity, -Infinity, NaN, 1e400], \"nz\": -0.0, \"s\": \"a/b \\u00e9\",\n\
        \"text_config\": {\"vocab_size\":3,\"tie_word_embeddings\":true}, \"tie_word_embeddings\":  true}";
    let work = tied();
    std::fs::write(work.base.join("config.json"), text).expect("written");
    adapt_embedding(&work);
    work.succeeds(&[]);
    let after = std::fs::read_to_string(work.output.join("config.json")).expect("a config");
    // Of a key that is there twice the last counts, and the other stays as it is.
    assert_eq!(after, text.replace("true", "false"));
}

#[test]
fn a_head_of_so_many_labels_is_not_counted() {
    let work = tied();
    let lora = json!({"peft_type": "LORA", "r": 1, "lora_alpha": 1, "task_type": "SEQ_CLS"});
    let score: (&str, &[u64], Vec<f32>) = ("score.weight", &[1_000_000_000_000, 0], Vec::new());
    let norm: (&str, &[u64], _) = ("model.embed_tokens.weight", &[3, 2], vec![2.0; 6]);
    work.adapt_by(&lora, &[score, norm]);
    work.merge(&[]);
}
