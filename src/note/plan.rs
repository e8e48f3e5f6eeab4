//! Notes of what all adapters come to.

use crate::error::no_effect::NoEffectReason;
use crate::note::declare::{first_of, verb};

notes! {
    /// A note of what all adapters come to.
    PlanNote {
        HeadTrainedApart { head: String, embedding: String } => (
            "`{head}` is stored beside `{embedding}`, to which the config ties it; each is what its own training made it, and \
             `tie_word_embeddings` becomes false"
        ),
        HeadStoredDiffers { head: String, embedding: String } => (
            "`{head}` is stored beside `{embedding}`, to which the config ties it, with other values: transformers 4 ignores it \
             and transformers 5 does not. It is taken as it is stored, and `tie_word_embeddings` becomes false: make sure that \
             the adapter was trained so"
        ),
        ReplacedTwice { tensor: String, earlier: String, later: String } =>
            ("`{tensor}` is replaced by `{earlier}` and again by `{later}`; the last wins"),
        NoEffectAllowed { adapter: String, why: NoEffectReason } =>
            ("`{adapter}` has no effect, allowed by `--allow-noop`: {why}"),
        PartlyNoEffect { adapter: String, count: usize, of: usize, module: String, why: &'static str } => (
            "{count} of {of} deltas of `{adapter}` {} zero, such as that of `{module}`: {why}",
            verb(*count, ["is", "are"])
        ),
        HeadUntied { head: String, shared: String } => (
            "`{head}` has a tensor of its own; in the base it shares `{shared}`: `tie_word_embeddings` becomes false, and a loader \
             that knows the tied form only would ignore the head"
        ),
        TensorAdded { tensor: String } =>
            ("`{tensor}` is new: the base does not have it"),
        VocabularyResized { tokens: u64, base: u64 } =>
            ("the vocabulary has {tokens} tokens, in the base {base}"),
        EncodedAgain { by: String, fresh: bool } => (
            "changed weights of the quantized base are encoded again ({by}) {}",
            if *fresh { "with new scales" } else { "with the scales they had, and new ones where a value would not fit" }
        ),
        QuantizedKept { by: String } =>
            ("the quantized weights of the base are kept as they are ({by}): no adapter changes them"),
        BaseInTraining { scheme: String, count: usize, skipped: usize } => (
            "{count} {} taken as training saw {}: {scheme}{} (--base-as)",
            verb(*count, ["weight of a linear layer is", "weights of linear layers are"]),
            verb(*count, ["it", "them"]),
            left_plain(*skipped)
        ),
        BaseDecoded { dtype: String, base: String, output: String } => (
            "the quantized base is decoded to {dtype}: {base} of weights become {output}; `--keep-quantized` keeps them quantized"
        ),
        ChangedDecoded { count: usize, dtype: String, base: String, output: String } => (
            "{count} quantized {} written in {dtype} as adapters change {}, the others stay as they are: {base} become {output}; \
             `--keep-quantized` keeps all quantized",
            verb(*count, ["weight is", "weights are"]),
            verb(*count, ["it", "them"])
        ),
        LaidOut { template: String, dtype: String } => (
            "the result is laid out as `{template}`, with its header and its order of tensors, mostly in {dtype}"
        ),
        Cast { dtype: String } =>
            ("all floating tensors are written in {dtype} (--dtype)"),
        Split { count: usize, limit: u64 } => (
            "the tensors are laid into {count} {} of at most {limit} bytes, or of one tensor that is larger (--max-shard-size)",
            verb(*count, ["shard", "shards"])
        ),
        ChangedOnly { count: usize, of: usize } => (
            "only the {count} {} that {} are written, of {of}: they are laid over the base (--changed-only)",
            verb(*count, ["tensor", "tensors"]),
            verb(*count, ["changes", "change"])
        ),
        ConfigEntriesDropped { entries: Vec<String> } => (
            "{} {} dropped from config.json: no tensor is quantized any more",
            first_of(entries),
            verb(entries.len(), ["is", "are"])
        ),
        AdapterFileCopied { file: String, adapter: String } => (
            "`{file}` of `{adapter}` is copied as it is: it belongs beside the model, and no merge changes it"
        ),
    }
}

/// How many weights are left as they are, if any is.
fn left_plain(count: usize) -> String {
    match count {
        0 => String::new(),
        count => format!("; {count} {} skipped", verb(count, ["is", "are"])),
    }
}
