//! [`NameIndex`]: places of names that are kept elsewhere, found by name.

use std::hash::{DefaultHasher, Hasher};

/// The places of a list's names: hashes in order, each with its place in the bits below. Eight bytes a name, as there may be
/// 100,000 of them, and names of one checkpoint have long beginnings in common, so that comparing them is slow.
#[derive(Debug, Default)]
pub(crate) struct NameIndex(Vec<u64>);

/// The bits that are a place.
const PLACE: u64 = u32::MAX as u64;

/// A number for a name, in the bits above a place.
fn hash(name: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(name.as_bytes());
    hasher.finish() & !PLACE
}

impl NameIndex {
    /// The index of names by their place in the list.
    pub(crate) fn new<'n>(names: impl Iterator<Item = &'n str>) -> NameIndex {
        let mut entries: Vec<u64> =
            names.zip(0..).map(|(name, place): (_, u64)| hash(name) | place).collect();
        entries.sort_unstable();
        NameIndex(entries)
    }

    /// The first place of `name`; `name_at` is the name at a place.
    pub(crate) fn find<'n>(&self, name: &str, name_at: impl Fn(usize) -> &'n str) -> Option<usize> {
        let hash = hash(name);
        let start = self.0.partition_point(|&entry| entry < hash);
        let same = self.0[start..].iter().take_while(|&&entry| entry & !PLACE == hash);
        let mut places = same.map(|&entry| (entry & PLACE) as usize);
        places.find(|&place| name_at(place) == name)
    }

    /// The pairs of places that share a name, by name: each with the next of that name.
    pub(crate) fn twice<'n>(&self, name_at: impl Fn(usize) -> &'n str) -> Vec<(usize, usize)> {
        let pairs = |group: &[u64]| -> Vec<(usize, usize)> {
            let places: Vec<usize> = group.iter().map(|entry| (entry & PLACE) as usize).collect();
            let next = |(n, &i): (usize, &usize)| {
                places[n + 1..].iter().find(|&&j| name_at(i) == name_at(j)).map(|&j| (i, j))
            };
            places.iter().enumerate().filter_map(next).collect()
        };
        let groups = self.0.chunk_by(|one, other| one & !PLACE == other & !PLACE);
        let mut found: Vec<(usize, usize)> = groups.filter(|group| group.len() > 1).flat_map(pairs).collect();
        found.sort_unstable_by_key(|&(i, _)| (name_at(i), i));
        found
    }
}
