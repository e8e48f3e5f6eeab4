//! The heads and the embeddings of models: what they are called, and in which classes they stand.
//!
//! One table for all that asks whether a name is that of a head: tying (LM heads), claims (heads that a task adds, which no
//! base has), the names that need not be on disk, and the class that the written config gets. Names are the last segments of
//! the paths of modules; facts of key-mapping.md 8 and peft-methods.md 2.3.

/// Kinds of heads, by what they compute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HeadKind {
    /// Tokens. It may share its tensor with the embedding, and then has none on disk.
    Tokens,
    /// The answer of a [`Task`]. It is new when training begins: PEFT saves it whole, and no base need have it.
    Task,
    /// A value for reinforcement learning, which TRL adds. It is no part of the model that a checkpoint loads as.
    Value,
}

/// A head by its name.
struct Head {
    /// Last segment of its module's path.
    name: &'static str,
    /// Its kind.
    kind: HeadKind,
    /// Model types whose head is called so where the table of names does not tell; none for the usual name.
    model_types: &'static [&'static str],
}

/// Every head.
const HEADS: &[Head] = &[
    Head { name: LM_HEAD, kind: HeadKind::Tokens, model_types: &[] },
    Head { name: "embed_out", kind: HeadKind::Tokens, model_types: &["gpt_neox"] },
    Head { name: "proj_out", kind: HeadKind::Tokens, model_types: &["whisper"] },
    // `predictions.decoder` of BERT and its kin.
    Head { name: "decoder", kind: HeadKind::Tokens, model_types: &[] },
    // Decoders (Llama, GPT-2, …): `ForSequenceClassification` and `ForTokenClassification`.
    Head { name: "score", kind: HeadKind::Task, model_types: &[] },
    // Encoders (BERT, RoBERTa, DeBERTa, …), the same classes.
    Head { name: "classifier", kind: HeadKind::Task, model_types: &[] },
    // `ForQuestionAnswering`.
    Head { name: "qa_outputs", kind: HeadKind::Task, model_types: &[] },
    // BART, T5 and their kin, `ForSequenceClassification`.
    Head { name: "classification_head", kind: HeadKind::Task, model_types: &[] },
    // XLM and Flaubert, the same; XLNet has `logits_proj` behind it.
    Head { name: "sequence_summary", kind: HeadKind::Task, model_types: &[] },
    Head { name: "logits_proj", kind: HeadKind::Task, model_types: &[] },
    Head { name: "v_head", kind: HeadKind::Value, model_types: &[] },
];

/// What most classes call the head that predicts tokens.
const LM_HEAD: &str = "lm_head";

/// Embeddings of tokens that heads are tied to.
const EMBEDDINGS: &[&str] = &[
    "embed_tokens",    // Llama and most decoders
    "wte",             // GPT-2, GPT-J
    "word_embeddings", // BERT, BLOOM, Falcon
    "embed_in",        // GPT-NeoX
    "shared",          // T5, BART
    "tok_embeddings",  // ModernBERT, InternLM2
];

/// Endings of the classes that have a head for tokens.
const LM_CLASSES: &[&str] =
    &["ForCausalLM", "LMHeadModel", "ForConditionalGeneration", "ForMaskedLM", "ForPreTraining"];
/// Those of them whose head has more layers than the tied one, so that a tensor of its own has no name that is known.
const DEEP_LM_CLASSES: &[&str] = &["ForMaskedLM", "ForPreTraining"];

/// A task whose head is new when training begins.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Task {
    /// Its `task_type` in an adapter's config; none for tasks that PEFT has no type for.
    pub name: Option<&'static str>,
    /// Ending of the classes of models with its head.
    pub class: &'static str,
    /// What PEFT calls its head, whatever the class does.
    pub heads: &'static [&'static str],
    /// Whether the rows of its head are labels that the config of the model names.
    pub has_labels: bool,
}

const TASKS: &[Task] = &[
    Task::new(Some("SEQ_CLS"), "ForSequenceClassification", &["score", "classifier"], true),
    Task::new(Some("TOKEN_CLS"), "ForTokenClassification", &["classifier", "score"], true),
    Task::new(Some("QUESTION_ANS"), "ForQuestionAnswering", &["qa_outputs"], false),
    Task::new(None, "ForImageClassification", &["classifier"], true),
    Task::new(None, "ForAudioClassification", &["classifier"], true),
    Task::new(None, "ForVideoClassification", &["classifier"], true),
    Task::new(None, "ForMultipleChoice", &["classifier"], false),
];

impl Task {
    const fn new(
        name: Option<&'static str>,
        class: &'static str,
        heads: &'static [&'static str],
        has_labels: bool,
    ) -> Task {
        Task { name, class, heads, has_labels }
    }
}

/// The task of that `task_type`, if it has a head of its own.
pub(crate) fn task(name: &str) -> Option<&'static Task> {
    TASKS.iter().find(|task| task.name == Some(name))
}

/// The task of models of a class, by how it is called.
pub(crate) fn task_of_class(class: &str) -> Option<&'static Task> {
    TASKS.iter().find(|task| class.ends_with(task.class))
}

/// Modules that `ForSequenceClassification` reads before the head, in types of models whose classes for tokens have none: a base
/// need not hold them, and they are new when training begins, as the head is (transformers 5.23, class by class).
const BEFORE_LABELS: &[(&str, &[&str])] = &[
    (
        "pooler",
        &[
            "bert",
            "albert",
            "deberta",
            "deberta-v2",
            "ernie",
            "gte",
            "megatron-bert",
            "mobilebert",
            "nomic_bert",
            "rembert",
            "roc_bert",
            "tapas",
        ],
    ),
    ("pre_classifier", &["distilbert"]),
    ("sequence_summary", &["xlnet"]),
    ("head", &["modernbert", "modernbert-decoder", "modernvbert"]),
    ("dense", &["eurobert"]),
];

/// The module that a task needs beside its head in models of that type.
pub(crate) fn before_head(task: &Task, model_type: &str) -> Option<&'static str> {
    let is_of = |(_, types): &&(&str, &[&str])| types.contains(&model_type);
    BEFORE_LABELS
        .iter()
        .filter(|_| task.class == "ForSequenceClassification")
        .find(is_of)
        .map(|(module, _)| *module)
}

/// The last projections of heads of several layers, where the head is no projection itself.
const LAST_PROJECTIONS: &[&str] = &[
    "out_proj",   // RoBERTa, ELECTRA, ESM, BART, T5
    "linear_out", // Funnel
];

/// The place of the projection to labels among matrices of a new head: `classifier.out_proj.weight` of a head of two layers,
/// `classifier.weight` beside a pooler of its own, else the last.
pub(crate) fn last_projection(names: &[&str]) -> Option<usize> {
    let is_named = |name: &&str| leaf(name).is_some_and(|leaf| LAST_PROJECTIONS.contains(&leaf));
    let is_head = |name: &&str| leaf(name).is_some_and(is_task_head);
    let place = |is_one: &dyn Fn(&&str) -> bool| names.iter().position(is_one);
    place(&is_named).or_else(|| place(&is_head)).or_else(|| names.len().checked_sub(1))
}

/// Whether a tensor's name is that of a head for tokens.
pub(crate) fn is_head(name: &str) -> bool {
    let is_one = |leaf| HEADS.iter().any(|head| head.kind == HeadKind::Tokens && head.name == leaf);
    leaf(name).is_some_and(is_one)
}

/// Whether a tensor's name is that of an embedding of tokens.
pub(crate) fn is_embedding(name: &str) -> bool {
    leaf(name).is_some_and(|leaf| EMBEDDINGS.contains(&leaf))
}

/// Modules besides [`EMBEDDINGS`] that look rows up, where their names do not say `embed`.
const LOOKUPS: &[&str] = &["wpe", "relative_attention_bias", "attention_biases"];

/// Whether a tensor's name is that of a table whose rows are looked up: an embedding of tokens, places, or anything else.
pub(crate) fn is_lookup(name: &str) -> bool {
    let is_one = |leaf: &str| leaf.contains("embed") || LOOKUPS.contains(&leaf);
    is_embedding(name) || leaf(name).is_some_and(is_one)
}

/// Whether the path of a module, or of a parameter, leads through the head of a task.
pub(crate) fn is_task_head(path: &str) -> bool {
    path.split('.')
        .any(|segment| HEADS.iter().any(|head| head.kind == HeadKind::Task && head.name == segment))
}

/// Whether a path leads through a head that no base need have.
pub(crate) fn is_added_head(path: &str) -> bool {
    path.split('.')
        .any(|segment| HEADS.iter().any(|head| head.kind != HeadKind::Tokens && head.name == segment))
}

/// The head for tokens of models of that type, where nothing says what its class calls it.
pub(crate) fn lm_head(model_type: &str) -> &'static str {
    let mut named = HEADS.iter().filter(|head| head.model_types.contains(&model_type));
    named.next().map_or(LM_HEAD, |head| head.name)
}

/// Whether models of a class predict tokens, by how it is called.
pub(crate) fn predicts_tokens(class: &str) -> bool {
    LM_CLASSES.iter().any(|end| class.ends_with(end))
}

/// Whether the head for tokens of a class has more layers than one.
pub(crate) fn has_deep_head(class: &str) -> bool {
    DEEP_LM_CLASSES.iter().any(|end| class.ends_with(end))
}

/// The last segment of the path of the module whose weight it is.
pub(crate) fn leaf(name: &str) -> Option<&str> {
    let stem = name.strip_suffix(".weight")?;
    Some(stem.rsplit('.').next().unwrap_or(stem))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_by_name() {
        for (name, is_lm, is_task, is_added) in [
            ("lm_head.weight", true, false, false),
            ("cls.predictions.decoder.weight", true, false, false),
            ("lm_head.bias", false, false, false),
            ("score.weight", false, true, true),
            ("classifier.dense.weight", false, true, true),
            ("v_head.summary.weight", false, false, true),
            ("model.layers.0.mlp.up_proj.weight", false, false, false),
        ] {
            assert_eq!(
                (is_head(name), is_task_head(name), is_added_head(name)),
                (is_lm, is_task, is_added),
                "{name}"
            );
        }
        assert_eq!(
            [lm_head("gpt_neox"), lm_head("whisper"), lm_head("llama")],
            ["embed_out", "proj_out", "lm_head"]
        );
        assert!(is_embedding("transformer.wte.weight") && !is_embedding("transformer.wpe.weight"));
    }

    #[test]
    fn labels_are_rows_of_the_last_projection() {
        for (names, last) in [
            (&["classifier.dense.weight", "classifier.out_proj.weight"][..], Some(1)),
            (&["classification_head.out_proj.weight", "classification_head.dense.weight"], Some(0)),
            (&["classifier.linear_hidden.weight", "classifier.linear_out.weight"], Some(1)),
            (&["classifier.weight", "pooler.dense.weight"], Some(0)),
            (&["logits_proj.weight", "sequence_summary.summary.weight"], Some(0)),
            (&["classifier.dense.weight"], Some(0)),
            (&["classifier.1.weight"], Some(0)),
            (&[], None),
        ] {
            assert_eq!(last_projection(names), last, "{names:?}");
        }
    }

    #[test]
    fn tasks_and_classes() {
        assert_eq!(task("TOKEN_CLS").map(|task| task.class), Some("ForTokenClassification"));
        assert!(task("CAUSAL_LM").is_none() && !task("QUESTION_ANS").expect("it is one").has_labels);
        assert!(predicts_tokens("BertForMaskedLM") && has_deep_head("BertForMaskedLM"));
        assert!(
            predicts_tokens("GPT2LMHeadModel")
                && !has_deep_head("GPT2LMHeadModel")
                && !predicts_tokens("BertModel")
        );
    }
}
