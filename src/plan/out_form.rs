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
    /// The most bytes of tensors in a shard, where shards are not the base's.
    pub(crate) shard_limit: Option<u64>,
}

impl Planner<'_> {
    /// What is asked for; whatever is wrong with it goes to `errors`.
    pub(crate) fn out_form(&self, of_original: Option<&Weights>, errors: &mut Vec<Error>) -> OutForm {
        let types = self.written_types(of_original, errors);
        let (cast, limit) = (self.cast_type(), self.shard_limit());
        let cast = cast.map_err(|error| errors.push(error)).unwrap_or_default();
        OutForm { types, cast, shard_limit: limit.map_err(|error| errors.push(error)).unwrap_or_default() }
    }
}
