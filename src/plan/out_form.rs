//! What flags ask of the types and the shards of a result.

use crate::checkpoint::quantized::Weights;
use crate::error::Error;
use crate::plan::cast::CastType;
use crate::plan::planner::Planner;
use crate::plan::template::WrittenTypes;

/// What flags ask of the types and the shards of a result.
#[derive(Clone, Copy)]
pub(crate) struct OutForm {
    /// The types of a result that lies as a template does; none for all others.
    pub(crate) types: Option<WrittenTypes>,
    /// The type that all other results are cast to, if one is asked for.
    pub(crate) cast: CastType,
    /// How tensors are laid into shards.
    pub(crate) cut: ShardCut,
}

/// How tensors are laid into shards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum ShardCut {
    /// As the base has them.
    #[default]
    AsBase,
    /// All anew, in shards of at most so many bytes of tensors.
    Anew(u64),
    /// Likewise, but only those that are not the base's.
    ChangedOnly(u64),
}

impl Planner<'_> {
    /// What is asked for; whatever is wrong with it goes to `errors`.
    pub(crate) fn out_form(
        &self,
        (weights, of_original): (&Weights, Option<&Weights>),
        errors: &mut Vec<Error>,
    ) -> OutForm {
        let types = self.written_types(of_original, errors);
        let cast = self.cast_type().map_err(|error| errors.push(error)).unwrap_or_default();
        let cut = self.shard_cut(weights).map_err(|error| errors.push(error)).unwrap_or_default();
        OutForm { types, cast, cut }
    }
}
