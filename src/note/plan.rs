//! Notes of what all adapters come to.

use crate::error::no_effect::NoEffectReason;
use crate::note::declare::verb;

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
        AdapterFileCopied { file: String, adapter: String } => (
            "`{file}` of `{adapter}` is copied as it is: it belongs beside the model, and no merge changes it"
        ),
    }
}
