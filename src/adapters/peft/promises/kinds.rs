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

use std::collections::{HashMap, HashSet};

use crate::adapters::peft::promises::lacks::Lacks;
use crate::adapters::peft::promises::paths::{first_number, hash_of, hash_of_kind, with_numbers};
use crate::error::promise::Promise;
use crate::model::names::reading::Reading;
use crate::model::unused::UnusedLayers;

/// A kind of which something was saved.
struct Kind<'p> {
    /// The path of one, as the adapter spells it.
    example: &'p str,
    /// The last layer of those that were saved.
    last: Option<u64>,
}

/// What is missing of kinds.
pub(crate) struct Kinds<'p> {
    /// What the names of the model's parameters end in that are asked for; nothing for the parameters themselves.
    ending: &'static str,
    unused: UnusedLayers,
    saved: HashSet<u64>,
    kinds: HashMap<u64, Kind<'p>>,
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
        let mut kinds =
            Kinds { ending, unused, saved: HashSet::new(), kinds: HashMap::new(), missing: Vec::new() };
        let mut last = "";
        for path in saved {
            // Both factors of a module, one behind the other.
            if std::mem::replace(&mut last, path) == path {
                continue;
            }
            let name = reading.read(path);
            kinds.saved.insert(hash_of(&name));
            let layer = first_number(&name);
            let kind = kinds.kinds.entry(hash_of_kind(&name)).or_insert(Kind { example: path, last: layer });
            kind.last = kind.last.max(layer);
        }
        kinds
    }

    /// Looks at a parameter of the model.
    pub(crate) fn see(&mut self, parameter: &str) {
        let Some(name) = parameter.strip_suffix(self.ending).filter(|_| !self.kinds.is_empty()) else {
            return;
        };
        let Some(kind) = self.kinds.get(&hash_of_kind(name)) else { return };
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

    /// Reports what is missing of what `selects` says is selected.
    pub(crate) fn report(self, field: &'static str, selects: impl Fn(&str) -> bool, lacks: &mut Lacks<'_>) {
        let promise = Promise::Selected { field };
        for path in self.missing.iter().filter(|path| selects(path)) {
            lacks.add(&promise, path);
        }
    }
}
