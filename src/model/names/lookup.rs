//! The names of one checkpoint as one adapter means them.

use std::rc::Rc;
use std::sync::Arc;

use crate::checkpoint::config::Config;
use crate::error::Result;
use crate::error::kind::ErrorKind;
use crate::model::tied::is_head;

use crate::model::names::candidates::candidates;
use crate::model::names::disk::Disk;
use crate::model::names::geometry::Geometry;
use crate::model::names::interpretation::{Placing, Way, choose, inferred, tower};
use crate::model::names::name_tables::Spaces;
use crate::model::names::namespace::{Namespace, Parameter};
use crate::model::names::rules::Rules;
use crate::model::names::table;
use crate::model::names::table::{Class, Experts};

/// Segments of paths of heads that an adapter may bring along, and no base need have.
const ADDITIONS: &[&str] = &["score", "classifier", "qa_outputs", "classification_head", "v_head"];

/// Names of a checkpoint, read as one adapter's paths are to be read.
pub struct Names<'a> {
    disk: &'a dyn Disk,
    config: &'a Config,
    class: Option<Class>,
    /// Whether linear layers are stored as `[in, out]`.
    conv1d: bool,
    /// The readings in use, the first first; one, but for adapters that mix.
    readings: Vec<(Rc<Namespace<'a>>, Way)>,
    /// Every reading that places all that must be; where there is none, those in use.
    pub(crate) possible: Vec<(Arc<Rules>, Way)>,
    notices: Vec<String>,
}

impl<'a> Names<'a> {
    /// Decides how `paths` are read: an adapter's module and parameter paths, without `base_model.model.`.
    ///
    /// Paths that no reading places are not an error here; [`Names::parameter`] does not find them.
    ///
    /// # Errors
    /// [`ErrorKind::Readings`] if two readings place all paths and do not mean the same tensors.
    pub fn new(spaces: &Spaces<'a>, paths: &[&str]) -> Result<Names<'a>> {
        let (disk, config) = (spaces.disk, spaces.config);
        let class = config.class().and_then(table::class);
        let ties: Vec<String> =
            class.as_ref().map(Class::ties).unwrap_or_default().into_iter().map(|(head, _)| head).collect();
        let required: Vec<bool> = paths.iter().map(|path| !is_optional(path, &ties)).collect();
        let mut placings = placings(spaces, paths, &required);
        if !placings.iter().any(|placing| placing.places_all(&required)) {
            let must: Vec<&str> =
                paths.iter().zip(&required).filter(|(_, must)| **must).map(|(path, _)| *path).collect();
            let way = inferred(disk, &must);
            let placed = |way| Placing::of(&spaces.get(0), (0, way), paths, &required, false);
            placings.extend(way.and_then(placed));
        }
        let chosen = choose(&placings, paths, &required).map_err(|(first, second, path)| {
            let meant = |i: usize| {
                let (placing, space) = (&placings[i], spaces.get(placings[i].space));
                let name = space.meant(&placing.way.read(paths[path], space.rules()));
                (name, described(spaces, placing.space, &placing.way))
            };
            let ((first, by_first), (second, by_second)) = (meant(first), meant(second));
            ErrorKind::Readings { path: paths[path].to_owned(), first, by_first, second, by_second }
        })?;
        let whole = placings.iter().filter(|placing| placing.places_all(&required));
        let possible = whole.map(|placing| (spaces.list()[placing.space].rules.clone(), placing.way.clone()));
        let possible = possible.collect();
        let conv1d = config.model_type().is_some_and(table::conv1d);
        let mut names =
            Names { disk, config, class, conv1d, readings: Vec::new(), possible, notices: Vec::new() };
        for i in chosen {
            let Placing { space, way, .. } = &placings[i];
            if *space != 0 || *way != Way::Same {
                names.notices.push(format!("adapter keys resolved {}", described(spaces, *space, way)));
            }
            names.readings.push((spaces.get(*space), way.clone()));
        }
        if names.readings.is_empty() {
            names.readings.push((spaces.get(0), Way::Same));
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
        self.conv1d
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
pub(crate) fn is_optional(path: &str, ties: &[String]) -> bool {
    let weight = format!("{path}.weight");
    // Heads stand outside stacks of layers; the same words inside are ordinary projections.
    let is_outside = tower(path) == path;
    let is_addition = || path.split('.').any(|segment| ADDITIONS.contains(&segment));
    ties.iter().any(|tie| *tie == weight || tie == path) || is_outside && (is_head(&weight) || is_addition())
}

/// Every reading that places something, the likeliest first.
fn placings(spaces: &Spaces<'_>, paths: &[&str], required: &[bool]) -> Vec<Placing> {
    let (mut found, mut has_whole) = (Vec::new(), false);
    for (i, space) in spaces.list().iter().enumerate() {
        let namespace = spaces.get(i);
        let is_new = spaces.is_first(i);
        for (rank, way) in Way::all(spaces.base(i), spaces.geometry()).into_iter().enumerate() {
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
fn described(spaces: &Spaces<'_>, space: usize, way: &Way) -> String {
    let names = match (spaces.label(space), spaces.list()[space].is_all) {
        ("", _) => "against the names on disk".to_owned(),
        (label, is_all) => {
            format!("against the {} names for {label}", spaces.library(space).version(is_all))
        }
    };
    match way {
        Way::Same => names,
        Way::WithBase(base) => format!("by prepending `{base}`, {names}"),
        Way::WithoutBase(base) => format!("by dropping `{base}`, {names}"),
        Way::Carried => format!("as older names, {names}"),
        Way::Language(prefix) => format!("by writing `{prefix}` for `model.`, {names}"),
        Way::Spelt(spellings) => {
            let each =
                spellings.iter().map(|spelling| format!("`{}` for `{}`", spelling.models, spelling.theirs));
            format!("by writing {}, {names}", each.collect::<Vec<_>>().join(" and "))
        }
        Way::Inferred(prefixes) => {
            let each = prefixes.iter().map(|(tower, prefix)| format!("`{prefix}` before `{tower}`"));
            format!("by writing {}, inferred from names that end alike", each.collect::<Vec<_>>().join(", "))
        }
    }
}
