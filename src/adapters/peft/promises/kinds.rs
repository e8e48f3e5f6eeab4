//! Modules that `target_modules` selects, and parameters that `target_parameters` does, without tensors where others of their
//! kind have them.
//!
//! PEFT looks at all modules of the model that is trained, and wraps and saves every one that is selected. So where one module
//! of a kind was saved (`model.layers.0.self_attn.q_proj`), the model has the kind, and every other module of it that the base
//! has and the config selects was saved too: what is missing was lost, with a pipeline stage, a rank of expert parallelism or
//! half a file. An expert that saw no token is no exception, as its factors are saved as they began.
//!
//! The kind is asked for because a base has more than what was trained: towers of which only one was loaded (`visual.blocks.0.
//! attn.q_proj` beside the language model's), drafts of several tokens, decoders of which an encoder was taken. A kind of which
//! nothing was saved is not missing by this rule; layers of a kind that the model does not run are not either
//! ([`UnusedLayers`]).

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::adapters::peft::promises::lacks::Lacks;
use crate::adapters::peft::promises::paths::{
    first_number, hash_of, hash_of_kind, in_layer, leaf_of_kind, with_numbers,
};
use crate::error::promise::Promise;
use crate::model::names::experts::canonical;
use crate::model::names::interpretation::tower;
use crate::model::names::reading::Reading;
use crate::model::unused::UnusedLayers;

/// A kind of which something was saved.
struct Kind<'p> {
    /// The path of one, as the adapter spells it.
    example: &'p str,
    /// The last layer of those that were saved.
    last: Option<u64>,
    /// Whether a parameter of the model is called so. None is where the base stores apart what was trained fused.
    is_seen: bool,
}

/// What is missing of kinds.
pub(crate) struct Kinds<'p> {
    /// What the names of the model's parameters end in that are asked for; nothing for the parameters themselves.
    ending: &'static str,
    unused: UnusedLayers,
    saved: HashSet<u64>,
    kinds: HashMap<u64, Kind<'p>>,
    /// What the paths of kinds end in: few, where a base may have 92,000 parameters.
    leaves: HashSet<String>,
    /// The layers that the model has, by what stands before their numbers, of stacks in which something was saved.
    layers: HashMap<u64, BTreeSet<u64>>,
    missing: Vec<String>,
}

impl<'p> Kinds<'p> {
    /// The kinds of `saved`, paths as the adapter spells them.
    pub(crate) fn new(
        saved: impl Iterator<Item = &'p str>,
        ending: &'static str,
        reading: &Reading<'_>,
        unused: UnusedLayers,
    ) -> Kinds<'p> {
        let mut kinds = Kinds {
            ending,
            unused,
            saved: HashSet::new(),
            kinds: HashMap::new(),
            leaves: HashSet::new(),
            layers: HashMap::new(),
            missing: Vec::new(),
        };
        let mut last = "";
        for path in saved {
            // Both factors of a module, one behind the other.
            if std::mem::replace(&mut last, path) == path {
                continue;
            }
            let name = reading.read(path);
            kinds.saved.insert(hash_of(&name));
            let layer = first_number(&name);
            kinds.layers.entry(hash_of(tower(&name))).or_default();
            let new = Kind { example: path, last: layer, is_seen: false };
            kinds.leaves.insert(leaf_of_kind(&canonical(&name)).to_owned());
            let kind = kinds.kinds.entry(hash_of_kind(&name)).or_insert(new);
            kind.last = kind.last.max(layer);
        }
        kinds
    }

    /// Looks at a parameter of the model.
    pub(crate) fn see(&mut self, parameter: &str) {
        let Some(name) = parameter.strip_suffix(self.ending).filter(|_| !self.kinds.is_empty()) else {
            return;
        };
        if let Some(layer) = first_number(name)
            && let Some(layers) = self.layers.get_mut(&hash_of(tower(name)))
        {
            layers.insert(layer);
        }
        if !self.leaves.contains(leaf_of_kind(&canonical(name))) {
            return;
        }
        let Some(kind) = self.kinds.get_mut(&hash_of_kind(name)) else { return };
        kind.is_seen = true;
        if self.saved.contains(&hash_of(name)) {
            return;
        }
        let layer = first_number(name);
        let is_behind = layer > kind.last;
        if layer.is_some_and(|layer| is_behind && self.unused.may_lack(name, layer)) {
            return;
        }
        self.missing.extend(with_numbers(kind.example, name));
    }

    /// What is missing of kinds that no parameter of the model is called by: in each layer that the base has, if it holds that.
    fn unseen(&self, reading: &Reading<'_>, holds: impl Fn(&str) -> bool) -> Vec<String> {
        let mut missing = Vec::new();
        for kind in self.kinds.values().filter(|kind| !kind.is_seen) {
            let layers = self.layers.get(&hash_of(tower(&reading.read(kind.example))));
            for &layer in layers.into_iter().flatten() {
                let path = in_layer(kind.example, layer);
                let is_saved = self.saved.contains(&hash_of(&reading.read(&path)));
                let is_unused = Some(layer) > kind.last && self.unused.may_lack(&path, layer);
                if !is_saved && !is_unused && holds(&path) {
                    missing.push(path);
                }
            }
        }
        missing
    }

    /// Reports what is missing of what `selects` says is selected; `holds` tells what the base has in another form.
    pub(crate) fn report(
        self,
        field: &'static str,
        (reading, holds): (&Reading<'_>, impl Fn(&str) -> bool),
        selects: impl Fn(&str) -> bool,
        lacks: &mut Lacks<'_>,
    ) {
        let promise = Promise::Selected { field };
        let unseen = self.unseen(reading, holds);
        for path in self.missing.iter().chain(&unseen).filter(|path| selects(path)) {
            lacks.add(&promise, path);
        }
    }
}
