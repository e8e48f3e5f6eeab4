//! What a shard's file holds: a header, which says all that the base's says beside its tensors, and where tensors lie behind it.

use std::collections::HashSet;
use std::path::Path;

use crate::checkpoint::catalogue::BaseShard;
use crate::checkpoint::header::{alignment_of, build_header, metadata_of};
use crate::error::Result;
use crate::formats::header_bytes::HeaderBytes;
use crate::plan::out_tensor::{OutHeader, OutShard, OutTensor};
use crate::tensor::dtype::Dtype;

/// A shard of that name, with these tensors behind its header in the container that `base` has.
pub(crate) fn placed(
    base: &BaseShard,
    name: &str,
    header: OutHeader,
    mut tensors: Vec<OutTensor>,
) -> Result<OutShard> {
    let (mut offset, alignment) = (header.bytes(), alignment_of(&base.like, Path::new(name))?);
    for tensor in &mut tensors {
        tensor.offset = offset;
        offset = (offset + tensor.bytes).next_multiple_of(alignment);
    }
    Ok(OutShard { name: name.to_owned(), header, tensors, bytes: offset })
}

/// The keys of a shard's header that lists name, and those that these list.
pub(crate) fn listed(base: &BaseShard, lists: &[&str]) -> Result<HashSet<String>> {
    let mut found = HashSet::new();
    if lists.is_empty() {
        return Ok(found);
    }
    for (key, value) in metadata_of(&base.like, Path::new(&base.name))? {
        if lists.contains(&key.as_str()) {
            // A list that cannot be read has nothing that a reader could follow.
            found.extend(serde_json::from_str::<Vec<String>>(&value).unwrap_or_default());
            found.insert(key);
        }
    }
    Ok(found)
}

/// A header for other tensors, with all else that the base's says, without the keys that are gone.
pub(crate) fn new_header(
    base: &BaseShard,
    gone: &HashSet<String>,
    tensors: &[OutTensor],
) -> Result<HeaderBytes> {
    let entries: Vec<(&str, Dtype, &[u64])> =
        tensors.iter().map(|tensor| (&*tensor.name, tensor.dtype, tensor.shape.axes())).collect();
    build_header(&base.like, &|key| !gone.contains(key), Path::new(&base.written_as), &entries)
}
