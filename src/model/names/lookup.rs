//! The names of one checkpoint as one adapter means them.

use std::rc::Rc;
use std::sync::Arc;

use crate::checkpoint::config::Config;
use crate::error::Result;
use crate::error::claim::ClaimError;
use crate::error::path_reading::{PathChange, PathReading};
use crate::model::heads::{is_added_head, is_head};

use crate::model::names::class_rules::class_rules;
use crate::model::names::disk::Disk;
use crate::model::names::geometry::Geometry;
use crate::model::names::inferred::{Fits, inferred};
use crate::model::names::interpretation::{NameMapping, PathMatches, choose, tower};
use crate::model::names::name_table::NameTable;
use crate::model::names::name_tables::NameTables;
use crate::model::names::parameter::Parameter;
use crate::model::names::rules::Rules;
use crate::model::names::table;
use crate::model::names::table::Class;

/// What an adapter says of its paths beside their names.
#[derive(Clone, Copy)]
pub(crate) struct PathFacts<'f> {
    /// Which weights a path may be for, where only shapes tell.
    pub fits: Fits<'f>,
    /// Whether a path is of a module that the adapter may add to the model: it is placed if it can be, and need not be.
    pub may_be_new: &'f dyn Fn(&str) -> bool,
}

/// Names of a checkpoint, read as one adapter's paths are to be read.
pub struct Names<'a> {
    disk: &'a dyn Disk,
    config: &'a Config,
    class: Option<Class>,
    /// Whether linear layers are stored as `[in, out]`.
    conv1d: bool,
    /// The interpretations in use, the first first; one, but for adapters that mix.
    interpretations: Vec<(Rc<NameTable<'a>>, NameMapping)>,
    /// Every interpretation that places all that must be; where there is none, those in use.
    pub(crate) possible: Vec<(Arc<Rules>, NameMapping)>,
    readings: Vec<PathReading>,
}

impl<'a> Names<'a> {
    /// Decides how `paths` are read: an adapter's module and parameter paths, without `base_model.model.`.
    ///
    /// Paths that no interpretation places are not an error here; [`Names::parameter`] does not find them.
    ///
    /// # Errors
    /// [`ClaimError::Readings`] if two interpretations place all paths and do not mean the same tensors.
    pub(crate) fn new(
        name_tables: &NameTables<'a>,
        paths: &[&str],
        facts: PathFacts<'_>,
    ) -> Result<Names<'a>> {
        let (disk, config) = (name_tables.disk, name_tables.config);
        let class = config.class().and_then(table::class);
        let ties: Vec<String> =
            class.as_ref().map(Class::ties).unwrap_or_default().into_iter().map(|(head, _)| head).collect();
        let (path_matches, required) = all_matches(name_tables, paths, &ties, facts);
        let chosen = choose(&path_matches, paths, &required).map_err(|(first, second, path)| {
            let meant = |i: usize| {
                let (matches, table) = (&path_matches[i], name_tables.get(path_matches[i].table));
                let name = table.meant(&matches.mapping.read(paths[path], table.rules()));
                (name, described(name_tables, matches.table, &matches.mapping))
            };
            let ((first, by_first), (second, by_second)) = (meant(first), meant(second));
            ClaimError::Readings { path: paths[path].to_owned(), first, by_first, second, by_second }
        })?;
        let whole = path_matches.iter().filter(|matches| matches.places_all(&required));
        let possible =
            whole.map(|matches| (name_tables.list()[matches.table].rules.clone(), matches.mapping.clone()));
        let possible = possible.collect();
        let conv1d = config.model_type().is_some_and(table::conv1d);
        let mut names = Names {
            disk,
            config,
            class,
            conv1d,
            interpretations: Vec::new(),
            possible,
            readings: Vec::new(),
        };
        for i in chosen {
            let PathMatches { table, mapping, .. } = &path_matches[i];
            if *table != 0 || *mapping != NameMapping::Same {
                names.readings.push(described(name_tables, *table, mapping));
            }
            names.interpretations.push((name_tables.get(*table), mapping.clone()));
        }
        if names.interpretations.is_empty() {
            names.interpretations.push((name_tables.get(0), NameMapping::Same));
        }
        if names.possible.is_empty() {
            names.possible = names
                .interpretations
                .iter()
                .map(|(table, mapping)| (table.shared_rules(), mapping.clone()))
                .collect();
        }
        Ok(names)
    }

    /// A parameter by its runtime name as the adapter spells it: `path.weight`, `path.bias`, or a parameter's own path.
    ///
    /// A fused parameter is found where its parts are on disk, and the other way round: one expert of a stack, one of
    /// queries, keys and values. Then its shape is what the parameter would have.
    pub fn parameter(&self, runtime: &str) -> Option<Parameter> {
        let module = runtime.rsplit_once('.').map_or("", |(module, _)| module);
        for (name_table, mapping) in &self.interpretations {
            let name = mapping.read(runtime, name_table.rules());
            let in_module = || name_table.fits(&mapping.read(module, name_table.rules())).is_some();
            if name_table.fits(&name).is_some() || !module.is_empty() && in_module() {
                return name_table.parameter(&name);
            }
        }
        None
    }

    /// The runtime names that can be tied in this class, each with what it is tied to, as transformers 5 calls them.
    pub fn ties(&self) -> Vec<(String, String)> {
        self.class.as_ref().map(Class::ties).unwrap_or_default()
    }

    /// The name on disk that a head's tensor would have, which the base has not; `embedding` is that of what it is tied to.
    pub fn head_on_disk(&self, head: &str, embedding: &str) -> String {
        let first = embedding.split('.').next().unwrap_or(embedding);
        let candidates = class_rules(self.config);
        let mut before = candidates[0].all.before(head);
        before.find(|name| name.split('.').next() == Some(first)).unwrap_or_else(|| head.to_owned())
    }

    /// How many experts each layer has, by the config.
    pub fn expert_count(&self) -> Option<u64> {
        Geometry::of(self.config).experts
    }

    /// Whether linear layers are stored as `[in, out]`.
    pub fn conv1d(&self) -> bool {
        self.conv1d
    }

    /// The interpretations in use, the first first.
    pub(crate) fn interpretations(&self) -> impl Iterator<Item = (&NameTable<'a>, &NameMapping)> {
        self.interpretations.iter().map(|(name_table, mapping)| (&**name_table, mapping))
    }

    /// The weights that the names are of.
    pub fn disk(&self) -> &'a dyn Disk {
        self.disk
    }

    /// What is worth saying: how paths are read, where it is not as they stand.
    pub fn readings(&self) -> &[PathReading] {
        &self.readings
    }
}

/// Tied heads and additions need not be placed.
pub(crate) fn is_optional(path: &str, ties: &[String]) -> bool {
    let weight = format!("{path}.weight");
    // Heads stand outside stacks of layers; the same words inside are ordinary projections.
    let is_outside = tower(path) == path;
    ties.iter().any(|tie| *tie == weight || tie == path)
        || is_outside && (is_head(&weight) || is_added_head(path))
}

/// Every interpretation that places something, the likeliest first, and an inferred one where none places all that must be;
/// and which paths must be placed.
fn all_matches(
    name_tables: &NameTables<'_>,
    paths: &[&str],
    ties: &[String],
    facts: PathFacts<'_>,
) -> (Vec<PathMatches>, Vec<bool>) {
    let mut required: Vec<bool> = paths.iter().map(|path| !is_optional(path, ties)).collect();
    let mut found = path_matches(name_tables, paths, &required);
    if !found.iter().any(|matches| matches.places_all(&required)) {
        required.iter_mut().zip(paths).for_each(|(required, path)| *required &= !(facts.may_be_new)(path));
    }
    if !found.iter().any(|matches| matches.places_all(&required)) {
        let mapping = inferred(name_tables.disk, paths, &required, facts.fits);
        let placed = |mapping| PathMatches::of(&name_tables.get(0), (0, mapping), paths, &required, false);
        found.extend(mapping.and_then(placed));
    }
    (found, required)
}

/// Every interpretation that places something, the likeliest first.
fn path_matches(name_tables: &NameTables<'_>, paths: &[&str], required: &[bool]) -> Vec<PathMatches> {
    let (mut found, mut has_whole) = (Vec::new(), false);
    for (i, table) in name_tables.list().iter().enumerate() {
        let name_table = name_tables.get(i);
        let is_new = name_tables.is_first(i);
        for (rank, mapping) in
            NameMapping::all(name_tables.base(i), name_tables.geometry()).into_iter().enumerate()
        {
            let changes = |path: &&str| *mapping.read(path, name_table.rules()) != **path;
            // Mappings that need all rules are for one table of each class, even if no name on disk changes there.
            let is_due = if mapping.needs_all_rules() { table.is_all } else { is_new };
            if is_due && (mapping == NameMapping::Same || paths.iter().any(changes)) {
                let matches = PathMatches::of(&name_table, (i, mapping), paths, required, has_whole);
                has_whole |= matches.as_ref().is_some_and(|matches| matches.places_all(required));
                found.extend(matches.map(|matches| ((table.candidate, rank, i), matches)));
            }
        }
    }
    found.sort_unstable_by_key(|(order, _)| *order);
    found.into_iter().map(|(_, matches)| matches).collect()
}

/// An interpretation, for a note or an error.
fn described(name_tables: &NameTables<'_>, table: usize, mapping: &NameMapping) -> PathReading {
    let class = Some(name_tables.label(table)).filter(|label| !label.is_empty()).map(str::to_owned);
    let version = || name_tables.library(table).version(name_tables.list()[table].is_all);
    let change = match mapping {
        NameMapping::Same => PathChange::None,
        NameMapping::WithBase(base) => PathChange::Prepended { prefix: base.clone() },
        NameMapping::WithoutBase(base) => PathChange::Dropped { prefix: base.clone() },
        NameMapping::Older => PathChange::Older,
        NameMapping::Language(prefix) => {
            PathChange::Written { pairs: vec![((*prefix).to_owned(), "model.".to_owned())] }
        }
        NameMapping::Spelt(spellings) => {
            let pairs = spellings.iter().map(|one| (one.models.to_owned(), one.theirs.to_owned()));
            PathChange::Written { pairs: pairs.collect() }
        }
        NameMapping::Inferred(prefixes) => {
            let pairs = prefixes.iter().map(|(tower, prefix)| (prefix.clone(), tower.clone()));
            PathChange::Inferred { prefixes: pairs.collect() }
        }
    };
    PathReading { change, library: class.is_some().then(version), class }
}
