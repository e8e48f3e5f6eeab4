//! The index of the output's shards, where the weights force it to change.

use std::collections::{HashMap, HashSet};

use crate::checkpoint::listing::Listing;
use crate::formats::index::build_index;

use crate::model::outline::Outline;
use crate::plan::out_tensor::{CopiedFile, OutShard, OutTensor, Role, SideFile};

/// The index of the output's shards.
pub(crate) enum OutIndex {
    /// The base's: it says the same of them.
    Same(CopiedFile),
    /// The base's, with what changed.
    Made(SideFile),
}

/// The index of the output's shards, if the base has one.
pub(crate) fn index(outline: &Outline<'_>, shards: &[OutShard]) -> Option<OutIndex> {
    let Listing { name, bytes, order, unlisted, about } = outline.base.index.as_ref()?;
    let name = name.clone();
    let base = &outline.base.catalogue;
    let unlisted: HashSet<&str> = unlisted.iter().map(|&place| &*base.tensors[place as usize].name).collect();
    let is_listed = |tensor: &&OutTensor| !unlisted.contains(&*tensor.name);
    let all = || shards.iter().flat_map(|shard| &shard.tensors);
    let total: u64 = all().filter(is_listed).map(|tensor| tensor.bytes).sum();
    let mut written: HashMap<&str, &str> = HashMap::new();
    for shard in shards {
        let tensors = shard.tensors.iter().filter(is_listed);
        written.extend(tensors.map(|tensor| (&*tensor.name, shard.name.as_str())));
    }
    let mut listed = Vec::with_capacity(written.len());
    let in_order = order.iter().map(|&place| &*base.tensors[place as usize].name);
    listed.extend(in_order.filter_map(|name| written.remove_entry(name)));
    // A tensor keeps its shard, so that what is left is new; the order of the shards' bytes is theirs.
    let is_same = listed.len() == order.len() && written.is_empty() && about.total_size == Some(total);
    if is_same {
        return Some(OutIndex::Same(CopiedFile { name, bytes: *bytes, beside: Role::Base }));
    }
    for shard in shards {
        let new = shard.tensors.iter().filter_map(|tensor| written.get_key_value(&*tensor.name));
        listed.extend(new.map(|(name, shard)| (*name, *shard)));
    }
    Some(OutIndex::Made(SideFile { name, content: build_index(&listed, about, total) }))
}
