//! Whether a snapshot of the cache has what a merge reads, as far as names tell: programs that asked for some files alone, or were
//! interrupted, leave others out.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::Result;
use crate::storage::location::Location;
use crate::storage::store::{EntryKind, Store};

/// How files end that hold weights of some kind.
const WEIGHTS: &[&str] = &[".safetensors", ".bin", ".pt", ".pth", ".gguf"];

/// Whether there are weights in a snapshot, or in a directory of it.
pub(crate) fn holds_weights(snapshot: &Location) -> Result<bool> {
    Ok(snapshot.files(&|_| false)?.iter().any(|file| is_weights(&file.name)))
}

/// Whether there are weights in a snapshot or a directory of it, no shard of them is missing, and something else is beside them:
/// where there are directories alone, one of them was asked for alone.
pub(crate) fn is_whole(snapshot: &Location) -> Result<bool> {
    let is_file = |kind| matches!(kind, EntryKind::File | EntryKind::Dangling);
    if !snapshot.list("")?.iter().any(|entry| is_file(entry.kind)) {
        return Ok(false);
    }
    let files = snapshot.files(&|_| false)?;
    let names: Vec<&str> = files.iter().map(|file| file.name.as_str()).collect();
    Ok(names.iter().any(|name| is_weights(name)) && has_all_shards(&names))
}

fn is_weights(name: &str) -> bool {
    WEIGHTS.iter().any(|ending| name.ends_with(ending))
}

/// Whether of each set of shards, by their names `STEM-00001-of-00003.safetensors`, there are as many as they say.
fn has_all_shards(names: &[&str]) -> bool {
    let mut sets: BTreeMap<(&str, &str), BTreeSet<&str>> = BTreeMap::new();
    for (stem, number, count) in names.iter().filter_map(|name| shard(name)) {
        sets.entry((stem, count)).or_default().insert(number);
    }
    sets.iter().all(|((_, count), numbers)| count.parse() == Ok(numbers.len()))
}

/// The stem, the number and the count in the name of a shard.
fn shard(name: &str) -> Option<(&str, &str, &str)> {
    let stem = name.strip_suffix(".safetensors")?;
    let (stem, count) = stem.rsplit_once("-of-")?;
    let (stem, number) = stem.rsplit_once('-')?;
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    (is_number(number) && is_number(count)).then_some((stem, number, count))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::files::write_small;
    use crate::storage::memory::Memory;

    #[test]
    fn a_snapshot_is_whole_if_no_shard_is_missing() {
        for (names, is) in [
            (&["config.json", "model.safetensors"][..], true),
            (&["config.json"], false),
            (&["config.json", "m-00001-of-00002.safetensors"], false),
            (&["config.json", "m-00001-of-00002.safetensors", "m-00002-of-00002.safetensors"], true),
            (&["config.json", "m-1-of-1.safetensors", "m-1-of-2.safetensors"], false),
            (&["config.json", "one-of-a-kind.safetensors"], true),
            (&["unet/config.json", "unet/model.safetensors"], false),
            (&["model_index.json", "unet/model.safetensors"], true),
            (&["model_index.json", "unet/m-00002-of-00002.safetensors"], false),
        ] {
            let snapshot = Location::new(Memory::new()).join("snapshot");
            names.iter().for_each(|name| write_small(&snapshot, name, b"").unwrap());
            assert_eq!(is_whole(&snapshot).unwrap(), is, "{names:?}");
        }
    }
}
