//! Biases that were trained with `bias` other than `none`: PEFT saves those of the adapted modules (`lora_only`, `oft_only`), or
//! all of the model's (`all`).
//!
//! PEFT up to 0.19.1 never found the biases of `lora_only` where it looked for them. What training made of them is lost, and
//! nobody can save it again: that is noted, not refused.

use std::collections::HashSet;

use crate::adapters::adapter::{Adapter, AdapterTensor};
use crate::adapters::claim::locate::join;
use crate::adapters::parts::replaced;
use crate::adapters::peft::promises::lacks::Lacks;
use crate::adapters::peft::promises::paths::{first_number, hash_of, hash_of_kind};
use crate::error::promise::Promise;
use crate::model::names::interpretation::tower;
use crate::model::names::reading::Reading;
use crate::model::unused::UnusedLayers;
use crate::note::Note;
use crate::note::names::NameNote;

const FIELD: &str = "bias";
/// The last version of PEFT that saves no biases of the adapted modules alone.
const LAST_WITHOUT: [u64; 3] = [0, 19, 1];

/// What is missing of biases.
pub(crate) struct Biases<'a> {
    adapter: &'a Adapter,
    reading: &'a Reading<'a>,
    unused: UnusedLayers,
    /// Whose biases were trained; none if nobody's were.
    whose: Option<Whose>,
    values: HashSet<u64>,
    missing: Vec<String>,
}

/// Whose biases were trained.
struct Whose {
    /// Modules that have factors, by their names in the model.
    modules: HashSet<u64>,
    /// With `all`: kinds of biases that are there, and stacks of layers in which something is adapted.
    kinds: HashSet<u64>,
    stacks: HashSet<u64>,
}

impl<'a> Biases<'a> {
    /// What `adapter` holds, and says were trained.
    pub(crate) fn new(adapter: &'a Adapter, reading: &'a Reading<'a>, unused: UnusedLayers) -> Biases<'a> {
        let bias = adapter.config.text(FIELD).filter(|bias| *bias != "none");
        let mut values = HashSet::new();
        let whose = bias.map(|bias| {
            let mut whose = Whose { modules: HashSet::new(), kinds: HashSet::new(), stacks: HashSet::new() };
            for tensor in adapter.needed() {
                if tensor.is_value() {
                    let (module, parameter) = replaced(tensor.path());
                    let path = join(&module, parameter);
                    let name = reading.read(&path);
                    values.insert(hash_of(&name));
                    whose.kinds.insert(hash_of_kind(&name));
                } else {
                    let name = reading.read(tensor.owner());
                    whose.modules.insert(hash_of(&name));
                    whose.stacks.insert(hash_of(tower(&name)));
                }
            }
            if bias != "all" {
                whose.kinds.clear();
                whose.stacks.clear();
            }
            whose
        });
        Biases { adapter, reading, unused, whose, values, missing: Vec::new() }
    }

    /// Looks at a parameter of the model.
    pub(crate) fn see(&mut self, name: &str, axes: usize) {
        let Some(whose) = &self.whose else { return };
        let Some(module) = name.strip_suffix(".bias").filter(|_| axes == 1) else { return };
        let layer = first_number(name);
        let is_trained = whose.modules.contains(&hash_of(module))
            || whose.kinds.contains(&hash_of_kind(name))
            || layer.is_some() && whose.stacks.contains(&hash_of(tower(name)));
        let is_unused = layer.is_some_and(|layer| self.unused.may_lack(module, layer));
        if is_trained && !is_unused && !self.values.contains(&hash_of(name)) {
            self.missing.extend(self.reading.spelt(name).map(|name| name.into_owned()));
        }
    }

    /// Reports what is missing; a note where it was never saved.
    pub(crate) fn report(self, lacks: &mut Lacks<'_>) -> Option<Note> {
        let bias = self.adapter.config.text(FIELD).unwrap_or_default();
        if self.missing.is_empty() {
            return None;
        }
        // Other methods than LoRA did not look for any.
        let is_never_saved = bias != "all" || self.adapter.kind != "LORA";
        let is_early = self.adapter.evidence.peft.is_none_or(|version| version <= LAST_WITHOUT);
        let has_none = !self.adapter.needed().filter(|tensor| tensor.is_value()).any(is_bias);
        if is_never_saved && is_early && has_none {
            let (adapter, bias) = (self.adapter.name.clone(), bias.to_owned());
            return Some(NameNote::BiasesNeverSaved { adapter, bias, biases: self.missing }.into());
        }
        let promise = Promise::Bias { field: FIELD, value: bias.to_owned() };
        self.missing.iter().for_each(|name| lacks.add(&promise, name));
        None
    }
}

fn is_bias(tensor: &AdapterTensor) -> bool {
    tensor.path().ends_with(".bias")
}
