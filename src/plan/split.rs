//! The shards of a result where a flag says how large they may be (`--max-shard-size`): as huggingface_hub splits a state dict in
//! the order of its keys, whatever shards the base has. Here it is the order in which the base's files have the tensors.

use std::collections::HashMap;

use crate::checkpoint::weights_name::{WeightsName, of_shard, written_as};
use crate::error::request::RequestError;
use crate::error::{Error, Result};
use crate::model::outline::Outline;
use crate::plan::out_tensor::{OutHeader, OutShard, OutTensor};
use crate::plan::planner::Planner;
use crate::plan::shard_file::{listed, new_header, placed};
use crate::tensor::name::Name;

/// The flag that asks for it.
const FLAG: &str = "--max-shard-size";
/// Why it is refused: one file of llama.cpp says all of a model.
const OTHER_LAYOUT: &str =
    "the result is a file of llama.cpp, and is laid out as the base or the template is";
/// And of a size that holds nothing.
const NOTHING: &str = "a size above zero is accepted";

impl Planner<'_> {
    /// The bytes of tensors that a shard may have, if a flag says it.
    ///
    /// # Errors
    /// [`RequestError::Usage`] for a size of nothing, and where something else decides shards.
    pub(crate) fn shard_limit(&self) -> Result<Option<u64>> {
        let Some(size) = self.max_shard_size else { return Ok(None) };
        let refused = match size.bytes() {
            0 => Some(NOTHING),
            _ => self.base.catalogue.has_own_names().then_some(OTHER_LAYOUT),
        };
        let Some(accepted) = refused else { return Ok(Some(size.bytes())) };
        let value = size.as_typed().map_or_else(|| size.bytes().to_string(), str::to_owned);
        Err(RequestError::Usage { flag: FLAG, value, accepted }.into())
    }
}

/// The places of tensors of these sizes by shards. One that is larger than the limit stands alone, before the shard that is not
/// full yet, to which what follows is added.
fn split(sizes: impl Iterator<Item = u64>, limit: u64) -> Vec<Vec<usize>> {
    let (mut shards, mut open, mut bytes) = (Vec::new(), Vec::new(), 0);
    for (place, size) in sizes.enumerate() {
        if size > limit {
            shards.push(vec![place]);
            continue;
        }
        // What the open shard has is never more than the limit, so that this does not wrap where a sum would.
        if size > limit - bytes {
            shards.push(std::mem::take(&mut open));
            bytes = 0;
        }
        open.push(place);
        bytes += size;
    }
    if !open.is_empty() {
        shards.push(open);
    }
    shards
}

/// What the files of a result are called whose shards are split anew: as the base's.
pub(crate) fn name_of_weights(outline: &Outline<'_>) -> WeightsName {
    let of_index = outline.base.index.as_ref().map(|listing| written_as(&listing.name));
    let first = || outline.base.catalogue.shards.first().map(|shard| shard.written_as.clone());
    let named = of_index.or_else(first).unwrap_or_default();
    let known = WeightsName::of(&named).or_else(|| of_shard(&named));
    known.unwrap_or_else(|| WeightsName::plain(outline.base.config.library().stem))
}

/// The tensors of these shards in others of at most so many bytes. Inside a shard they lie as the safetensors library lays them,
/// by type and name, so that files are those that the libraries write. A shard that comes to what it was keeps its header.
///
/// # Errors
/// As building a header.
pub(crate) fn resplit(
    outline: &Outline<'_>,
    shards: Vec<OutShard>,
    limit: u64,
    lists: &[&str],
) -> Result<Vec<OutShard>> {
    let Some(like) = outline.base.catalogue.shards.first() else { return Ok(shards) };
    let gone = listed(like, lists)?;
    let (mut before, mut tensors) = (HashMap::new(), Vec::new());
    for OutShard { name, header, tensors: own, .. } in shards {
        let names: Vec<Name> = own.iter().map(|tensor| tensor.name.clone()).collect();
        before.insert(name, (header, names));
        tensors.extend(own.into_iter().map(Some));
    }
    let sizes = tensors.iter().flatten().map(|tensor: &OutTensor| tensor.bytes);
    let places = split(sizes, limit);
    let (weights, count) = (name_of_weights(outline), places.len());
    let mut made = Vec::with_capacity(count);
    let mut errors: Vec<Error> = Vec::new();
    for (i, places) in places.into_iter().enumerate() {
        let name = if count == 1 { weights.single() } else { weights.shard(i + 1, count) };
        let mut own: Vec<OutTensor> = places.into_iter().filter_map(|place| tensors[place].take()).collect();
        own.sort_by(|a, b| b.dtype.cmp(&a.dtype).then_with(|| a.name.cmp(&b.name)));
        let is_same = |names: &[Name]| names.iter().eq(own.iter().map(|tensor| &tensor.name));
        let header = match before.remove(&name) {
            Some((header, names)) if is_same(&names) => Ok(header),
            _ => new_header(like, &gone, &own).map(OutHeader::Made),
        };
        match header.and_then(|header| placed(like, &name, header, own)) {
            Ok(shard) => made.push(shard),
            Err(error) => errors.push(error),
        }
    }
    Error::all(errors)?;
    Ok(made)
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn a_larger_tensor_stands_alone_before_the_shard_that_is_not_full() {
        let split = |sizes: &[u64], limit| split(sizes.iter().copied(), limit);
        // The example of huggingface_hub's documentation.
        assert_eq!(split(&[6, 6, 2, 6, 2, 2], 10), [vec![0], vec![1, 2], vec![3, 4, 5]]);
        assert_eq!(split(&[4, 11, 6, 1], 10), [vec![1], vec![0, 2], vec![3]]);
        assert_eq!(split(&[5, 5, 0, 10], 10), [vec![0, 1, 2], vec![3]]);
        assert_eq!(split(&[u64::MAX, 3], u64::MAX), [vec![0], vec![1]]);
        assert_eq!(split(&[3, 4], 1), [vec![0], vec![1]]);
        assert!(split(&[], 1).is_empty());
    }
}
