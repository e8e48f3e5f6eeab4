//! Modules of `modules_to_save`: PEFT saves every parameter of each.
//!
//! An entry that names nothing of the base means nothing: PEFT's own lists name `classifier` and `score` for every model. An
//! entry of which something was saved may name more in parts of the base that the trained model did not have; then the kind
//! decides, as for targets.

use std::collections::{BTreeSet, HashSet};

use crate::adapters::adapter::{Adapter, AdapterTensor};
use crate::adapters::claim::locate::join;
use crate::adapters::parts::replaced;
use crate::adapters::peft::promises::lacks::Lacks;
use crate::adapters::peft::promises::paths::{hash_of, hash_of_kind};
use crate::adapters::peft::promises::rows::is_tied;
use crate::adapters::peft::selection::{SAVED, is_in, is_named};
use crate::error::promise::Promise;
use crate::model::names::reading::Reading;
use crate::model::outline::Outline;

/// What is missing of modules that were to be saved.
pub(crate) struct SavedModules<'a> {
    adapter: &'a Adapter,
    reading: &'a Reading<'a>,
    entries: Vec<&'a str>,
    /// The model's names of the values that are there, and of what has factors.
    values: HashSet<u64>,
    /// Kinds of these.
    kinds: HashSet<u64>,
    missing: Vec<Missing>,
}

/// A module of an entry that has no value of one of its parameters.
struct Missing {
    entry: usize,
    /// The module, or its bias alone, as the adapter would spell it.
    path: String,
    kind: u64,
}

impl<'a> SavedModules<'a> {
    /// What `adapter` holds.
    pub(crate) fn new(adapter: &'a Adapter, reading: &'a Reading<'a>) -> SavedModules<'a> {
        let entries = adapter.config.list(SAVED);
        let mut values = HashSet::new();
        let mut kinds = HashSet::new();
        let tensors = adapter.needed().filter(|_| !entries.is_empty());
        for tensor in tensors {
            let path = if tensor.is_value() {
                let (module, parameter) = replaced(tensor.path());
                join(&module, parameter)
            } else {
                join(tensor.owner(), "weight")
            };
            let name = reading.read(&path);
            values.insert(hash_of(&name));
            kinds.insert(hash_of_kind(&name));
        }
        SavedModules { adapter, reading, entries, values, kinds, missing: Vec::new() }
    }

    /// Looks at a parameter of the model: weights, and biases that are vectors. Others may be buffers that nobody saves.
    pub(crate) fn see(&mut self, name: &str, axes: usize) {
        let Some((module, leaf)) = name.rsplit_once('.').filter(|_| !self.entries.is_empty()) else { return };
        let is_looked_for = leaf == "weight" || leaf == "bias" && axes == 1;
        let Some(module) = self.reading.spelt(module).filter(|_| is_looked_for) else { return };
        let Some(entry) = self.entries.iter().position(|entry| is_in(&module, entry)) else { return };
        if self.values.contains(&hash_of(name)) {
            return;
        }
        // A bias is missing for itself where the weight beside it is there.
        let beside = join(name_of(name), "weight");
        let is_half_there = leaf == "bias" && self.values.contains(&hash_of(&beside));
        if leaf == "weight" || is_half_there {
            let path = if is_half_there { join(&module, leaf) } else { module.into_owned() };
            self.missing.push(Missing { entry, path, kind: hash_of_kind(&beside) });
        }
    }

    /// Reports what is missing.
    pub(crate) fn report(self, outline: &Outline<'_>, empty: &BTreeSet<String>, lacks: &mut Lacks<'_>) {
        let promise = Promise::Saved { field: SAVED };
        let owners = || self.adapter.needed().map(AdapterTensor::owner);
        let has_tied = owners().any(|owner| is_tied(outline, owner));
        let is_saved = |entry: &str| owners().any(|owner| is_in(owner, entry));
        for Missing { entry, path, kind } in &self.missing {
            let is_due = self.kinds.contains(kind) || !is_saved(self.entries[*entry]);
            let is_reported = empty.contains(&join(path, "weight")) || empty.contains(path);
            if is_due && !is_reported && !(has_tied && is_tied(outline, path)) {
                lacks.add(&promise, path);
            }
        }
        // A tied head has no tensor in the base.
        let head = outline.head.as_ref().and_then(|head| head.head.strip_suffix(".weight"));
        if let Some(head) = head.filter(|head| self.entries.iter().any(|entry| is_named(head, entry)))
            && !has_tied
        {
            lacks.add(&promise, head);
        }
    }
}

/// The module of a parameter.
fn name_of(parameter: &str) -> &str {
    parameter.rsplit_once('.').map_or("", |(module, _)| module)
}
