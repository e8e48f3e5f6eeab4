//! The index of the output's shards, where the weights force it to change.

use std::collections::HashSet;

use crate::checkpoint::listing::Listing;
use crate::checkpoint::weights_name::written_as;
use crate::formats::index::{About, build_index};
use crate::tensor::name_index::NameIndex;

use crate::model::outline::Outline;
use crate::plan::out_tensor::{CopiedFile, OutShard, OutTensor, Role, SideFile};
use crate::plan::split::name_of_weights;

/// The index of the output's shards.
pub(crate) enum OutIndex {
    /// The base's: it says the same of them.
    Same(CopiedFile),
    /// The base's, with what changed.
    Made(SideFile),
}

/// The output's tensors that the index lists, by the positions of their shards and in them.
struct ListedTensors<'s> {
    shards: &'s [OutShard],
    places: Vec<(u32, u32)>,
}

impl<'s> ListedTensors<'s> {
    fn of(shards: &'s [OutShard], is_listed: impl Fn(&OutTensor) -> bool) -> ListedTensors<'s> {
        let mut places = Vec::with_capacity(shards.iter().map(|shard| shard.tensors.len()).sum());
        for (i, shard) in (0..).zip(shards) {
            let listed = (0..).zip(&shard.tensors).filter(|(_, tensor)| is_listed(tensor));
            places.extend(listed.map(|(j, _)| (i, j)));
        }
        ListedTensors { shards, places }
    }

    fn tensor(&self, place: usize) -> &'s OutTensor {
        let (shard, tensor) = self.places[place];
        &self.shards[shard as usize].tensors[tensor as usize]
    }

    /// The name of a tensor and that of its shard.
    fn entry(&self, place: usize) -> (&'s str, &'s str) {
        (&self.tensor(place).name, &self.shards[self.places[place].0 as usize].name)
    }
}

/// The index of shards that were split anew: none beside one alone, else with all tensors by name, as transformers writes it.
pub(crate) fn split_index(
    outline: &Outline<'_>,
    shards: &[OutShard],
    keep_quantized: bool,
) -> Option<OutIndex> {
    if shards.len() < 2 {
        return None;
    }
    let mut about = outline.base.index.as_ref().map_or_else(About::default, |listing| listing.about.clone());
    // Codes are no parameters, of which several may share an element.
    let is_plain = !keep_quantized || !outline.weights.any();
    if outline.base.index.is_none() && is_plain && outline.base.config.library().counts_parameters {
        let tensors = shards.iter().flat_map(|shard| &shard.tensors);
        let count: u64 = tensors.map(|tensor| tensor.shape.elements()).sum();
        about.metadata.insert(PARAMETERS.to_owned(), count.into());
    }
    Some(index_by_name(outline, shards, &about))
}

/// The index of the tensors that change alone, also beside one shard: it says what there is.
pub(crate) fn changed_index(outline: &Outline<'_>, shards: &[OutShard]) -> OutIndex {
    index_by_name(outline, shards, &About::default())
}

/// An index of all tensors by name.
fn index_by_name(outline: &Outline<'_>, shards: &[OutShard], about: &About) -> OutIndex {
    let listed = ListedTensors::of(shards, |_| true);
    let tensors = || (0..listed.places.len()).map(|place| listed.tensor(place));
    let mut entries: Vec<_> = (0..listed.places.len()).map(|place| listed.entry(place)).collect();
    entries.sort_unstable();
    let total = tensors().map(|tensor| tensor.bytes).sum();
    let name = name_of_weights(outline).index();
    OutIndex::Made(SideFile { name, content: build_index(&entries, about, total) })
}

/// What transformers' indices say beside the size of all tensors.
const PARAMETERS: &str = "total_parameters";

/// The index of the output's shards, if the base has one.
pub(crate) fn index(outline: &Outline<'_>, shards: &[OutShard]) -> Option<OutIndex> {
    let Listing { name, bytes, order, unlisted, about } = outline.base.index.as_ref()?;
    let is_same_name = written_as(name) == *name;
    let name = written_as(name);
    let base = &outline.base.catalogue;
    let unlisted: HashSet<&str> = unlisted.iter().map(|&place| &*base.tensors[place as usize].name).collect();
    let listed = ListedTensors::of(shards, |tensor| !unlisted.contains(&*tensor.name));
    let all = 0..listed.places.len();
    let total: u64 = all.clone().map(|place| listed.tensor(place).bytes).sum();
    let by_name = NameIndex::new(all.clone().map(|place| &*listed.tensor(place).name));
    let place_of =
        |&place: &u32| by_name.find(&base.tensors[place as usize].name, |i| &listed.tensor(i).name);
    let kept: Vec<usize> = order.iter().filter_map(place_of).collect();
    // No name is listed twice, so that the numbers tell whether all are kept and none is new.
    if is_same_name && kept.len() == order.len() && kept.len() == all.len() && about.total_size == Some(total)
    {
        return Some(OutIndex::Same(CopiedFile { name, bytes: *bytes, beside: Role::Base }));
    }
    let mut is_new = vec![true; all.len()];
    kept.iter().for_each(|&place| is_new[place] = false);
    // A tensor keeps its shard, so that what is left is new; the order of the shards' bytes is theirs.
    let new = all.filter(|&place| is_new[place]);
    let listed: Vec<_> = kept.iter().copied().chain(new).map(|place| listed.entry(place)).collect();
    Some(OutIndex::Made(SideFile { name, content: build_index(&listed, about, total) }))
}
