//! Prefixes that are inferred from names on disk: for adapters of a part of a model that no rule knows to be one.
//!
//! An adapter of the thinker of an omni model calls its layers `model.layers.0.…`, and the checkpoint has them twice, as
//! `thinker.model.layers.0.…` and `talker.model.layers.0.…`. A prefix is taken only if it is the only one under which every
//! path is there and every shape is right.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::model::names::disk::Disk;
use crate::model::names::interpretation::{NameMapping, tower};
use crate::tensor::shape::Shape;

/// Whether a weight of that shape may be the one that a path of the adapter is for.
pub(crate) type Fits<'f> = &'f dyn Fn(&str, &Shape) -> bool;

/// The prefixes that one path may have: those of weights that fit, and of all that end in it.
#[derive(Default)]
struct Prefixes {
    fitting: BTreeSet<String>,
    any: BTreeSet<String>,
}

impl Prefixes {
    /// Those of weights that fit, unless none does: what is wrong with its shape is said where it is looked at.
    fn best(&self) -> &BTreeSet<String> {
        if self.fitting.is_empty() { &self.any } else { &self.fitting }
    }
}

/// The prefixes, by tower, with which the paths that must be placed are tensors: all of a tower the same prefix, and no
/// other would do. Paths that need not be placed have one of these if that makes them tensors.
pub(crate) fn inferred(
    disk: &dyn Disk,
    paths: &[&str],
    required: &[bool],
    fits: Fits<'_>,
) -> Option<NameMapping> {
    let found = prefixes(disk, paths, fits);
    let must: Vec<&str> =
        paths.iter().zip(required).filter(|(_, must)| **must).map(|(path, _)| *path).collect();
    let mut towers: Vec<&str> = must.iter().map(|path| tower(path)).collect();
    towers.sort_unstable();
    towers.dedup();
    let of_all = common(&found, &must);
    let of_tower = |name: &&str| {
        let own: Vec<&str> = must.iter().copied().filter(|path| tower(path) == *name).collect();
        Some((name.to_string(), of_all.clone().or_else(|| common(&found, &own))?))
    };
    let (mut chosen, mut used) = (BTreeMap::new(), BTreeSet::new());
    chosen.extend(towers.iter().filter_map(of_tower));
    used.extend(chosen.values().cloned());
    for (path, _) in paths.iter().zip(required).filter(|(_, must)| !**must) {
        let mut own = found[path].best().intersection(&used);
        if let (Some(prefix), None) = (own.next(), own.next()) {
            chosen.entry(tower(path).to_owned()).or_insert_with(|| prefix.clone());
        }
    }
    (!used.is_empty()).then_some(NameMapping::Inferred(chosen))
}

/// The only prefix that all of `paths` have in common.
fn common(found: &HashMap<&str, Prefixes>, paths: &[&str]) -> Option<String> {
    let sets = paths.iter().map(|path| found[path].best().clone());
    let common = sets.reduce(|a, b| a.intersection(&b).cloned().collect())?;
    let mut common = common.into_iter();
    common.next().filter(|_| common.next().is_none())
}

/// What stands before each path in the names that end in it.
fn prefixes<'p>(disk: &dyn Disk, paths: &[&'p str], fits: Fits<'_>) -> HashMap<&'p str, Prefixes> {
    let mut found: HashMap<&str, Prefixes> = paths.iter().map(|&path| (path, Prefixes::default())).collect();
    for (name, shape) in (0..disk.count()).filter_map(|place| disk.weight(place)) {
        let module = name.strip_suffix(".weight");
        for whole in module.into_iter().chain([&*name]) {
            for (at, _) in whole.match_indices('.') {
                let path = &whole[at + 1..];
                let Some(prefixes) = found.get_mut(path) else { continue };
                if fits(path, shape) {
                    prefixes.fitting.insert(whole[..=at].to_owned());
                }
                prefixes.any.insert(whole[..=at].to_owned());
            }
        }
    }
    found
}
