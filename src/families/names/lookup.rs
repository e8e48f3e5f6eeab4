//! The names of one checkpoint as one adapter means them.

use std::sync::Arc;

use crate::checkpoint::Config;
use crate::error::{ErrorKind, Result};
use crate::families::is_head;

use super::candidates::{Candidate, candidates};
use super::disk::Disk;
use super::geometry::Geometry;
use super::namespace::{Namespace, Parameter};
use super::reading::{Placing, Way, choose, inferred, tower};
use super::rules::Rules;
use super::table::{self, Class, Experts};

/// Segments of paths of heads that an adapter may bring along, and no base need have.
const ADDITIONS: &[&str] = &["score", "classifier", "qa_outputs", "classification_head", "v_head"];

/// Names of a checkpoint, read as one adapter's paths are to be read.
pub struct Names<'a> {
    disk: &'a dyn Disk,
    config: &'a Config,
    class: Option<Class>,
    /// The readings in use, the first first; one, but for adapters that mix.
    readings: Vec<(Namespace<'a>, Way)>,
    /// Every reading that places all that must be; where there is none, those in use.
    pub(super) possible: Vec<(Arc<Rules>, Way)>,
    notices: Vec<String>,
}

/// A set of names to read paths against.
struct Space {
    rules: Arc<Rules>,
    label: String,
    candidate: usize,
    is_all: bool,
}

impl<'a> Names<'a> {
    /// Decides how `paths` are read: an adapter's module and parameter paths, without `base_model.model.`.
    ///
    /// Paths that no reading places are not an error here; [`Names::parameter`] does not find them.
    ///
    /// # Errors
    /// [`ErrorKind::Readings`] if two readings place all paths and do not mean the same tensors.
    pub fn new(disk: &'a dyn Disk, config: &'a Config, paths: &[&str]) -> Result<Names<'a>> {
        let class = config.class().and_then(table::class);
        let ties: Vec<String> =
            class.as_ref().map(Class::ties).unwrap_or_default().into_iter().map(|(head, _)| head).collect();
        let required: Vec<bool> = paths.iter().map(|path| !is_optional(path, &ties)).collect();
        let geometry = Arc::new(Geometry::of(config));
        let candidates = candidates(config);
        let spaces = spaces(&candidates);
        let mut placings = placings(disk, &geometry, (&candidates, &spaces), (paths, &required));
        if !placings.iter().any(|placing| placing.places_all(&required)) {
            let namespace = Namespace::new(disk, spaces[0].rules.clone(), geometry.clone());
            let must: Vec<&str> =
                paths.iter().zip(&required).filter(|(_, must)| **must).map(|(path, _)| *path).collect();
            let way = inferred(disk, &must);
            placings.extend(way.and_then(|way| Placing::of(&namespace, (0, way), paths, &required, false)));
        }
        let namespace = |space: usize| Namespace::new(disk, spaces[space].rules.clone(), geometry.clone());
        let chosen = choose(&placings, paths, &required).map_err(|(first, second, path)| {
            let meant = |i: usize| {
                let (placing, space) = (&placings[i], namespace(placings[i].space));
                let name = space.meant(&placing.way.read(paths[path], space.rules()));
                (name, described(&spaces[placing.space], &placing.way))
            };
            let ((first, by_first), (second, by_second)) = (meant(first), meant(second));
            ErrorKind::Readings { path: paths[path].to_owned(), first, by_first, second, by_second }
        })?;
        let whole = placings.iter().filter(|placing| placing.places_all(&required));
        let possible = whole.map(|placing| (spaces[placing.space].rules.clone(), placing.way.clone()));
        let possible = possible.collect();
        let mut names = Names { disk, config, class, readings: Vec::new(), possible, notices: Vec::new() };
        for i in chosen {
            let Placing { space, way, .. } = &placings[i];
            if *space != 0 || *way != Way::Same {
                names.notices.push(format!("names are read {}", described(&spaces[*space], way)));
            }
            names.readings.push((namespace(*space), way.clone()));
        }
        if names.readings.is_empty() {
            names.readings.push((namespace(0), Way::Same));
        }
        if names.possible.is_empty() {
            names.possible =
                names.readings.iter().map(|(space, way)| (space.shared_rules(), way.clone())).collect();
        }
        Ok(names)
    }

    /// A parameter by its runtime name as the adapter spells it: `path.weight`, `path.bias`, or a parameter's own path.
    ///
    /// A joined parameter is found where its parts are on disk, and the other way round: one expert of a stack, one of
    /// queries, keys and values. Then its shape is what the parameter would have.
    pub fn parameter(&self, runtime: &str) -> Option<Parameter> {
        let module = runtime.rsplit_once('.').map_or("", |(module, _)| module);
        for (namespace, way) in &self.readings {
            let name = way.read(runtime, namespace.rules());
            let in_module = || namespace.fits(&way.read(module, namespace.rules())).is_some();
            if namespace.fits(&name).is_some() || !module.is_empty() && in_module() {
                return namespace.parameter(&name);
            }
        }
        None
    }

    /// Whether a path is a module with a parameter, or a parameter, as [`Names::parameter`] finds them.
    pub fn has(&self, path: &str) -> bool {
        self.readings
            .iter()
            .any(|(namespace, way)| namespace.fits(&way.read(path, namespace.rules())).is_some())
    }

    /// The runtime names that can be tied in this class, each with what it is tied to, as transformers 5 calls them.
    pub fn ties(&self) -> Vec<(String, String)> {
        self.class.as_ref().map(Class::ties).unwrap_or_default()
    }

    /// The name on disk that a head's tensor would have, which the base has not; `embedding` is that of what it is tied to.
    pub fn head_on_disk(&self, head: &str, embedding: &str) -> String {
        let first = embedding.split('.').next().unwrap_or(embedding);
        let candidates = candidates(self.config);
        let mut before = candidates[0].all.before(head);
        before.find(|name| name.split('.').next() == Some(first)).unwrap_or_else(|| head.to_owned())
    }

    /// The experts modules of the model, or of its language part.
    pub fn experts(&self) -> Vec<Experts> {
        let types = Geometry::of(self.config).model_types;
        types
            .iter()
            .map(|model_type| table::experts(model_type))
            .find(|found| !found.is_empty())
            .unwrap_or_default()
    }

    /// How many experts each layer has, by the config.
    pub fn expert_count(&self) -> Option<u64> {
        Geometry::of(self.config).experts
    }

    /// Whether linear layers are stored as `[in, out]`.
    pub fn conv1d(&self) -> bool {
        self.config.model_type().is_some_and(table::conv1d)
    }

    /// The weights that the names are of.
    pub fn disk(&self) -> &'a dyn Disk {
        self.disk
    }

    /// What is worth saying: how paths are read, where it is not as they stand.
    pub fn notices(&self) -> &[String] {
        &self.notices
    }
}

/// Tied heads and additions need not be placed.
pub(super) fn is_optional(path: &str, ties: &[String]) -> bool {
    let weight = format!("{path}.weight");
    // Heads stand outside stacks of layers; the same words inside are ordinary projections.
    let is_outside = tower(path) == path;
    let is_addition = || path.split('.').any(|segment| ADDITIONS.contains(&segment));
    ties.iter().any(|tie| *tie == weight || tie == path) || is_outside && (is_head(&weight) || is_addition())
}

/// The names as they are, then after some and after all rules of every candidate.
fn spaces(candidates: &[Candidate]) -> Vec<Space> {
    let plain = Space { rules: Arc::default(), label: String::new(), candidate: 0, is_all: false };
    let mut spaces = vec![plain];
    for (i, candidate) in candidates.iter().enumerate() {
        for (rules, is_all) in [(&candidate.unscoped, false), (&candidate.all, true)] {
            spaces.push(Space { rules: rules.clone(), label: candidate.label.clone(), candidate: i, is_all });
        }
    }
    spaces
}

/// Every reading that places something, the likeliest first. Names are held for one space at a time.
fn placings(
    disk: &dyn Disk,
    geometry: &Arc<Geometry>,
    (candidates, spaces): (&[Candidate], &[Space]),
    (paths, required): (&[&str], &[bool]),
) -> Vec<Placing> {
    let (mut found, mut has_whole) = (Vec::new(), false);
    let mut seen = Vec::new();
    for (i, space) in spaces.iter().enumerate() {
        let namespace = Namespace::new(disk, space.rules.clone(), geometry.clone());
        let fingerprint = namespace.fingerprint();
        let is_new = !seen.contains(&fingerprint);
        seen.push(fingerprint);
        for (rank, way) in Way::all(&candidates[space.candidate].base, geometry).into_iter().enumerate() {
            let changes = |path: &&str| *way.read(path, namespace.rules()) != **path;
            // Ways that need all rules are for one space of each candidate, even if no name on disk changes there.
            let is_due = if way.needs_all_rules() { space.is_all } else { is_new };
            if is_due && (way == Way::Same || paths.iter().any(changes)) {
                let placing = Placing::of(&namespace, (i, way), paths, required, has_whole);
                has_whole |= placing.as_ref().is_some_and(|placing| placing.places_all(required));
                found.extend(placing.map(|placing| ((space.candidate, rank, i), placing)));
            }
        }
    }
    found.sort_by_key(|(order, _)| *order);
    found.into_iter().map(|(_, placing)| placing).collect()
}

/// How a reading is told.
fn described(space: &Space, way: &Way) -> String {
    let names = match (space.label.as_str(), space.is_all) {
        ("", _) => "against the names on disk".to_owned(),
        (label, false) => format!("against the names that transformers 4.52 has for {label}"),
        (label, true) => format!("against the names that transformers 5 has for {label}"),
    };
    match way {
        Way::Same => names,
        Way::WithBase(base) => format!("with `{base}` in front, {names}"),
        Way::WithoutBase(base) => format!("without `{base}`, {names}"),
        Way::Carried => format!("as older names, {names}"),
        Way::Language(prefix) => format!("with `{prefix}` for `model.`, {names}"),
        Way::Spelt(spelling) => {
            let (theirs, models) = (spelling.theirs.trim_matches('.'), spelling.models.trim_matches('.'));
            format!("with `{models}` for `{theirs}`, {names}")
        }
        Way::Inferred(prefixes) => {
            let each = prefixes.iter().map(|(tower, prefix)| format!("`{prefix}` before `{tower}`"));
            format!(
                "with {}, which is inferred from names that end alike",
                each.collect::<Vec<_>>().join(", ")
            )
        }
    }
}
