//! What plans are made from.

use crate::adapters::adapter::Adapter;
use crate::checkpoint::discover::Checkpoint;
use crate::checkpoint::tokenizer::TokenizerChoice;
use crate::model::tied::Tied;
use crate::ops::combination::Combination;
use crate::plan::out_tensor::Role;
use crate::tensor::size::Size;

/// What plans are made from.
pub(crate) struct Planner<'a> {
    /// The base, as whose files the result lies; where the result has the layout of a template, that.
    pub base: &'a Checkpoint,
    /// The adapters, in the order in which they are added.
    pub adapters: &'a [Adapter],
    /// How their deltas are combined, if that was asked for.
    pub combination: Option<Combination>,
    /// Config fields that the user said to pass over.
    pub ignored_fields: &'a [String],
    /// What happens to tied heads.
    pub tied: Tied,
    /// Whose tokenizer goes into the result.
    pub tokenizer: TokenizerChoice,
    /// Whether encoded weights stay encoded.
    pub keep_quantized: bool,
    /// The 16-bit checkpoint that the base was quantized from: what is encoded again starts from it. Where the result has the
    /// layout of a template, the base: all weights do.
    pub original: Option<&'a Checkpoint>,
    /// The types that a result has which has the layout of a template; none for all others.
    pub types: Option<&'a str>,
    /// The type that all floats of the result are written in; none where each keeps its own.
    pub dtype: Option<&'a str>,
    /// The most bytes of tensors in a shard; none where shards are the base's.
    pub max_shard_size: Option<&'a Size>,
    /// Whether only tensors are written that are not the base's.
    pub changed_only: bool,
    /// Whether all scales of what is encoded again are made anew.
    pub fresh_scales: bool,
    /// How training quantized the base in memory, if weights are to be taken so.
    pub base_as: Option<&'a str>,
    /// Weights beside adapters that may be left out.
    pub allow_unmerged_files: &'a [String],
    /// Whether the base may be of another class than the one that an adapter was trained on.
    pub allow_other_base: bool,
    /// Whether links that lead out of their directory are followed.
    pub follow_links: bool,
    /// Whether adapters may change nothing.
    pub allow_noop: bool,
    /// Whether `SHA256SUMS` is written.
    pub sha256: bool,
    /// Whether `shardfold.undo` is written.
    pub keep_undo: bool,
}

impl<'a> Planner<'a> {
    /// The flag by which encoded weights stay encoded, if they do, and whether scales are made anew.
    pub(crate) fn kept_by(&self) -> Option<(&'static str, bool)> {
        let flag = if self.original.is_some() { "--base16" } else { "--keep-quantized" };
        self.keep_quantized.then_some((flag, self.fresh_scales))
    }

    /// The checkpoint whose model it is that is merged into.
    pub(crate) fn model(&self) -> &'a Checkpoint {
        self.original.filter(|_| self.types.is_some()).unwrap_or(self.base)
    }

    /// What files of the base and of the original are.
    pub(crate) fn roles(&self) -> [Role; 2] {
        if self.types.is_some() { [Role::Template, Role::Base] } else { [Role::Base, Role::Original] }
    }
}
