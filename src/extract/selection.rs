//! [`DifferenceSelection`]: what becomes of every tensor in which a checkpoint differs from its base.

use regex::Regex;

use crate::checkpoint::discover::Checkpoint;
use crate::diff::pairs::{TensorPair, incomparable};
use crate::error::claim::ClaimError;
use crate::error::{Error, Result};
use crate::merge::values::{CheckpointValues, ValuePlace};
use crate::model::heads::{is_head, is_lookup};
use crate::model::linear::is_stored_turned;
use crate::model::names::disk::Logicals;
use crate::model::names::name_tables::NameTables;
use crate::model::names::runtime::RuntimeNames;
use crate::model::tied::tied_head;
use crate::tensor::name::Name;

use crate::extract::factored::sketch_size;
use crate::extract::factors::{FactoredModule, MatrixOf};

/// A tensor that the adapter holds whole.
#[derive(Clone, Debug)]
pub(crate) struct WholeTensor {
    /// Its name in the running model.
    pub(crate) name: String,
    /// Where it is.
    pub(crate) place: ValuePlace,
}

/// What becomes of every tensor that differs.
#[derive(Debug, Default)]
pub(crate) struct DifferenceSelection {
    /// Linear layers, in the order of the base.
    pub(crate) modules: Vec<FactoredModule>,
    /// Tensors of modules that are saved whole.
    pub(crate) saved: Vec<WholeTensor>,
    /// What `--skip` names.
    pub(crate) skipped: Vec<Name>,
    /// How many tensors are equal.
    pub(crate) equal: usize,
}

/// What was asked for of tensors that no product holds.
#[derive(Clone, Copy)]
pub(crate) struct Others<'o> {
    /// Names that may be left out.
    pub(crate) skip: &'o [Regex],
    /// Whether modules are saved whole.
    pub(crate) save: bool,
}

/// Why a tensor is no part of an adapter.
type NotHeld = &'static str;

/// What one tensor becomes.
enum Fate {
    Module(FactoredModule),
    /// The path of the module that is saved.
    Saved(String),
}

impl DifferenceSelection {
    /// Decides for the pairs that differ, of all `pairs`.
    ///
    /// # Errors
    /// [`ClaimError::NotExtracted`] with every tensor that is neither named nor has a place in an adapter, by reason.
    pub(crate) fn of(
        values: &CheckpointValues,
        (pairs, differs): (&[TensorPair], &[bool]),
        rank: usize,
        others: Others<'_>,
    ) -> Result<DifferenceSelection> {
        let (base, weights) = &values.checkpoints[0];
        let disk = Logicals::of(&base.catalogue, weights);
        let name_tables = NameTables::new(&disk, &base.config);
        let selector = Selector { values, base, names: RuntimeNames::new(&name_tables), rank, others };
        let (mut selection, mut saved) = (DifferenceSelection::default(), Vec::new());
        let mut refused: Vec<(NotHeld, Vec<String>)> = Vec::new();
        for (pair, differs) in pairs.iter().zip(differs) {
            let name = &pair.either(values).name;
            if !differs {
                selection.equal += 1;
            } else if others.skip.iter().any(|pattern| pattern.is_match(name)) {
                selection.skipped.push(name.clone());
            } else {
                match selector.fate(pair) {
                    Ok(Fate::Module(module)) => selection.modules.push(module),
                    Ok(Fate::Saved(path)) => saved.push(path),
                    Err(why) => match refused.iter_mut().find(|(other, _)| *other == why) {
                        Some((_, names)) => names.push(name.to_string()),
                        None => refused.push((why, vec![name.to_string()])),
                    },
                }
            }
        }
        let tuned = &values.names[1];
        Error::all(refused.into_iter().map(|(why, names)| not_extracted(tuned, why, names)).collect())?;
        saved.sort_unstable();
        saved.dedup();
        selection.saved = selector.whole(pairs, &saved);
        Ok(selection)
    }
}

fn not_extracted(tuned: &str, why: NotHeld, names: Vec<String>) -> Error {
    let error = Error::new(ClaimError::NotExtracted { tuned: tuned.to_owned(), names, why });
    let hint = match why {
        NO_LINEAR => {
            "`--save-others` puts their modules into the adapter whole; `--skip REGEX` leaves out those that it matches"
        }
        _ => "`--skip REGEX` leaves out those that it matches",
    };
    error.hint(hint)
}

/// Why only a module that is saved whole holds it.
const NO_LINEAR: NotHeld = "are no weights of linear layers";

/// What decides.
struct Selector<'s> {
    values: &'s CheckpointValues,
    base: &'s Checkpoint,
    names: RuntimeNames<'s>,
    rank: usize,
    others: Others<'s>,
}

impl Selector<'_> {
    /// What becomes of tensors that differ.
    fn fate(&self, pair: &TensorPair) -> std::result::Result<Fate, NotHeld> {
        let places = match pair.places {
            [Some(_), None] => return Err("are in the base alone"),
            [None, _] => return Err("are not in the base"),
            [Some(first), Some(second)] => [(0, first), (1, second)],
        };
        let shapes = places.map(|place| &self.values.tensor(place).shape);
        if shapes[0] != shapes[1] {
            return Err("have another shape than in the base");
        }
        if incomparable(self.values, places).is_some() {
            return Err("have values of another kind or in another order than the base's");
        }
        if self.values.stored(places[0]).is_some_and(|stored| stored.is_other()) {
            return Err("are stored in another order than the model has them");
        }
        let name = self.runtime_name(places[0]).ok_or("are parts of a parameter that the model has fused")?;
        let is_tied = self.is_tied(places[0]);
        let of_module = name.strip_suffix(".weight");
        let path =
            of_module.or_else(|| name.strip_suffix(".bias")).ok_or("are no weight or bias of a module")?;
        match of_module
            .filter(|_| !is_tied && !is_lookup(&name))
            .and_then(|_| (shapes[0].axes().len() == 2).then(|| sketch_size(shapes[0], self.rank))?)
        {
            Some(size) => {
                let is_turned = is_stored_turned(&self.base.config) && !is_head(&name);
                Ok(Fate::Module(FactoredModule {
                    path: path.to_owned(),
                    of: MatrixOf::Values(places.to_vec()),
                    size,
                    axes: Vec::new(),
                    is_turned,
                }))
            }
            None if !self.others.save => Err(NO_LINEAR),
            None if is_tied => Err("are tied to the LM head, which a module that is saved whole is not"),
            None => Ok(Fate::Saved(path.to_owned())),
        }
    }

    /// What the running model calls a tensor of the base.
    fn runtime_name(&self, place: ValuePlace) -> Option<String> {
        let (base, weights) = &self.values.checkpoints[0];
        let position = weights.position(&base.catalogue, &self.values.tensor(place).name)?;
        self.names.parameter(position)
    }

    /// Whether an LM head has no tensor but this one.
    fn is_tied(&self, place: ValuePlace) -> bool {
        let source = tied_head(self.base).map(|head| head.source);
        source
            .is_some_and(|source| self.base.catalogue.tensors[source].name == self.values.tensor(place).name)
    }

    /// All tensors of modules that are saved, as the other checkpoint has them.
    fn whole(&self, pairs: &[TensorPair], saved: &[String]) -> Vec<WholeTensor> {
        let mut found = Vec::new();
        for [base, tuned] in pairs.iter().filter_map(TensorPair::both) {
            let Some(name) = self.runtime_name(base).filter(|_| !saved.is_empty()) else { continue };
            let path = name.rsplit_once('.').map_or("", |(path, _)| path);
            if saved.binary_search_by(|other| other.as_str().cmp(path)).is_ok() {
                found.push(WholeTensor { name, place: tuned });
            }
        }
        found
    }
}
