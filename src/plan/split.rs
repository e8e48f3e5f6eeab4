//! The shards of a result where a flag says how large they may be (`--max-shard-size`): as huggingface_hub splits a state dict in
//! the order of its keys, whatever shards the base has. Here it is the order in which the base's files have the tensors. Shards of
//! those that change alone (`--changed-only`) are made likewise.

use std::collections::HashMap;

use crate::checkpoint::catalogue::{Catalogue, FileLayout};
use crate::checkpoint::quantized::Weights;
use crate::checkpoint::weights_name::{WeightsName, of_shard, written_as};
use crate::error::request::RequestError;
use crate::error::{Error, Result};
use crate::model::outline::Outline;
use crate::plan::out_form::ShardCut;
use crate::plan::out_tensor::{Content, OutHeader, OutShard, OutTensor};
use crate::plan::planner::Planner;
use crate::plan::shard_file::{listed, new_header, placed};
use crate::tensor::name::Name;

/// The flags that ask for it.
const FLAG: &str = "--max-shard-size";
const CHANGED_ONLY: &str = "--changed-only";
/// The most bytes of a shard of changed tensors where no flag says it: what uploads take well.
const CHANGED_BYTES: u64 = 5_000_000_000;
/// Why it is refused: such a file says all of a model.
const OTHER_LAYOUT: &str = "the result is one file, laid out as the base or the template is";
/// And of a size that holds nothing.
const NOTHING: &str = "a size above zero is accepted";
/// Why a base that is decoded has no tensors that do not change.
const DECODED: &str =
    "a quantized base is decoded, so that all of it changes: with `--keep-quantized` or `--base16` it is not";

impl Planner<'_> {
    /// How tensors are laid into shards.
    ///
    /// # Errors
    /// [`RequestError::Usage`] for a size of nothing, where something else decides shards, and where all tensors change.
    pub(crate) fn shard_cut(&self, weights: &Weights) -> Result<ShardCut> {
        let limit = self.shard_limit()?;
        if !self.changed_only {
            return Ok(limit.map_or(ShardCut::AsBase, ShardCut::Anew));
        }
        let is_one_file = self.is_one_file();
        let is_decoded = weights.any() && !self.keep_quantized;
        let refused = is_one_file.then_some(OTHER_LAYOUT).or(is_decoded.then_some(DECODED));
        match refused {
            Some(accepted) => {
                Err(RequestError::Usage { flag: CHANGED_ONLY, value: String::new(), accepted }.into())
            }
            None => Ok(ShardCut::ChangedOnly(limit.unwrap_or(CHANGED_BYTES))),
        }
    }

    fn is_one_file(&self) -> bool {
        self.base.catalogue.layout() != FileLayout::Library
    }

    /// The bytes of tensors that a shard may have, if a flag says it.
    fn shard_limit(&self) -> Result<Option<u64>> {
        let Some(size) = self.max_shard_size else { return Ok(None) };
        let refused = match size.bytes() {
            0 => Some(NOTHING),
            _ => self.is_one_file().then_some(OTHER_LAYOUT),
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

/// Whether a tensor is no base tensor of its name, byte for byte: a head that was untied has the bytes of another.
pub(crate) fn is_changed(base: &Catalogue, tensor: &OutTensor) -> bool {
    let Content::Copy { from, claim: None } = &tensor.content else { return true };
    base.at(from).is_none_or(|place| *base.stored_name(place) != tensor.name)
}

/// Those tensors of these shards that are written, in others of at most so many bytes. Inside a shard they lie as the safetensors library lays them,
/// by type and name, so that files are those that the libraries write. A shard that comes to what it was keeps its header.
///
/// # Errors
/// As building a header.
pub(crate) fn resplit(
    outline: &Outline<'_>,
    shards: Vec<OutShard>,
    (limit, is_written): (u64, &dyn Fn(&OutTensor) -> bool),
    lists: &[&str],
) -> Result<Vec<OutShard>> {
    let Some(like) = outline.base.catalogue.shards.first() else { return Ok(shards) };
    let gone = listed(like, lists)?;
    let (mut before, mut tensors) = (HashMap::new(), Vec::new());
    for OutShard { name, header, tensors: own, .. } in shards {
        let names: Vec<Name> = own.iter().map(|tensor| tensor.name.clone()).collect();
        before.insert(name, (header, names));
        tensors.extend(own.into_iter().filter(|tensor| is_written(tensor)).map(Some));
    }
    let sizes = tensors.iter().flatten().map(|tensor: &OutTensor| tensor.bytes);
    let places = split(sizes, limit);
    let (weights, count) = (name_of_weights(outline), places.len());
    let mut made = Vec::with_capacity(count);
    let mut errors: Vec<Error> = Vec::new();
    for (i, places) in places.into_iter().enumerate() {
        let name = if count == 1 { weights.single() } else { weights.shard(i + 1, count) };
        let mut own: Vec<OutTensor> = places.into_iter().filter_map(|place| tensors[place].take()).collect();
        own.sort_unstable_by(|a, b| b.dtype.cmp(&a.dtype).then_with(|| a.name.cmp(&b.name)));
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
