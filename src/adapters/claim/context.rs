//! Looking up: one adapter's tensors by key and path, and the parameters of the running model that they are for. What is found out goes into [`Findings`](crate::adapters::claim::findings::Findings).

use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;

use crate::adapters::adapter::{Adapter, AdapterTensor};
use crate::adapters::claim::locate::{join, locate};
use crate::adapters::parts::{Tail, replaced};
use crate::encodings::scheme::Auxiliary;
use crate::error::conversion::ConversionProblem;
use crate::model::heads::{is_embedding, is_head};
use crate::model::names::lookup::Names;
use crate::model::outline::{Outline, Target, Weight};
use crate::tensor::name_index::NameIndex;

/// What rules look up while an adapter is claimed.
pub(crate) struct ClaimContext<'a> {
    /// The adapter.
    pub adapter: &'a Adapter,
    /// Where the parameters of the running model are on disk.
    pub names: Names<'a>,
    /// The output's tensors so far.
    pub outline: Outline<'a>,
    /// Which tensor of the adapter stands in place of that target.
    values: HashMap<Target, usize>,
    /// Which of them stands in place of a tied head, which has no target yet.
    head_value: Option<usize>,
    /// Places by key and by path, made when they are first asked for, which most adapters never do.
    by_key: OnceCell<NameIndex>,
    by_path: OnceCell<NameIndex>,
    /// Auxiliary tensors of quantized weights that the base may have, by its names: asked for once, and not of each target.
    pub(crate) auxiliary: OnceCell<Vec<&'static Auxiliary>>,
    /// Parameters of several tensors that were looked up: 512 tensors for gate and up of 256 experts.
    fused: RefCell<HashMap<String, Target>>,
}

impl<'a> ClaimContext<'a> {
    /// Reads the adapter's keys and finds what its values stand in place of.
    pub(crate) fn new(adapter: &'a Adapter, mut outline: Outline<'a>, names: Names<'a>) -> ClaimContext<'a> {
        outline.name_head(&names);
        // What a tied head starts from is the embedding, if they stay one.
        let shared = outline.shared_embedding();
        let named = |(i, tensor): (usize, &AdapterTensor)| {
            let (module, parameter) = replaced(tensor.path());
            let name = join(&module, parameter);
            let target = locate(&outline, &names, &name)
                .or_else(|| shared.filter(|_| is_head(&name)).map(Target::Base));
            Some((target?, i))
        };
        let all = adapter.tensors.iter().enumerate();
        let values = all.filter(|(_, tensor)| tensor.is_value() && tensor.unneeded.is_none());
        let values = values.filter_map(named).collect();
        let of_head = |tensor: &AdapterTensor| {
            let (module, parameter) = replaced(tensor.path());
            let name = join(&module, parameter);
            let is_needed = tensor.is_value() && tensor.unneeded.is_none();
            is_needed && is_head(&name) && locate(&outline, &names, &name).is_none()
        };
        let head_value = adapter.tensors.iter().position(of_head).filter(|_| outline.head.is_some());
        ClaimContext {
            adapter,
            names,
            outline,
            values,
            head_value,
            by_key: OnceCell::new(),
            by_path: OnceCell::new(),
            auxiliary: OnceCell::new(),
            fused: RefCell::default(),
        }
    }

    /// One of the adapter's tensors.
    pub(crate) fn tensor(&self, i: usize) -> &'a AdapterTensor {
        &self.adapter.tensors[i]
    }

    /// The keys of all tensors without prefix and wrappers.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.adapter.tensors.iter().map(AdapterTensor::path)
    }

    /// The key of a tensor without prefix and wrappers.
    pub(crate) fn path(&self, i: usize) -> &'a str {
        self.adapter.tensors[i].path()
    }

    /// The tensor at that path.
    pub(crate) fn at_path(&self, path: &str) -> Option<usize> {
        let by_path = self.by_path.get_or_init(|| NameIndex::new(self.paths()));
        by_path.find(path, |i| self.path(i))
    }

    /// The tensor whose key is `key` with its tail `from` exchanged for `to`, an adapter's name between them kept.
    pub(crate) fn beside(&self, key: &str, from: Tail, to: Tail) -> Option<&'a AdapterTensor> {
        let module = from.module(key)?;
        let name = key[module.len() + from.role.len()..].strip_suffix(from.ending)?;
        let beside = format!("{module}{}{name}{}", to.role, to.ending);
        let keys = || self.adapter.tensors.iter().map(|tensor| &*tensor.key);
        let by_key = self.by_key.get_or_init(|| NameIndex::new(keys()));
        by_key.find(&beside, |i| &self.tensor(i).key).map(|i| self.tensor(i))
    }

    /// A target's name, type and shape, as it is once the adapter's own replacements are made.
    pub(crate) fn weight(&self, target: Target) -> Weight {
        let mut weight = self.outline.weight(target);
        let of_head = || match target {
            Target::New(i) => {
                self.head_value.as_ref().filter(|_| self.outline.additions[i].copy_of.is_some())
            }
            _ => None,
        };
        if let Some(&value) = self.values.get(&target).or_else(of_head) {
            weight.shape = self.adapter.tensors[value].tensor.shape.clone();
        }
        weight
    }

    /// The tensor of a module's parameter.
    pub(crate) fn lookup(&self, module: &str, parameter: &str) -> Option<Target> {
        let name = join(module, parameter);
        if let Some(&target) = self.fused.borrow().get(&name) {
            return Some(target);
        }
        let target = locate(&self.outline, &self.names, &name);
        if let Some(target @ Target::Fused(_)) = target {
            self.fused.borrow_mut().insert(name, target);
        }
        target
    }

    /// Why a module's parameter cannot be read as slices of tensors, if there is such a parameter and it cannot.
    pub(crate) fn unreadable(&self, module: &str, parameter: &str) -> Option<ConversionProblem> {
        self.names.parameter(&join(module, parameter))?.refused
    }

    /// Whether one of its tensors is a value of the tied head.
    pub(crate) fn names_the_head_whole(&self) -> bool {
        self.head_value.is_some()
    }

    /// Path of the module that is a tied head, as the adapter spells it, if any of its tensors is for it.
    pub(crate) fn head_module(&self) -> Option<String> {
        let is_it = |module: &&str| {
            is_head(&join(module, "weight"))
                && self.lookup(module, "weight").is_none_or(|t| matches!(t, Target::New(_)))
        };
        self.adapter.tensors.iter().map(AdapterTensor::owner).find(is_it).map(str::to_owned)
    }

    /// Path of the module whose weight is `target`, as the adapter spells it, if any of its tensors is for it.
    pub(crate) fn module_at(&self, target: Target) -> Option<String> {
        let is_it = |module: &&str| self.lookup(module, "weight") == Some(target);
        let mut modules: Vec<&str> = self.adapter.tensors.iter().map(AdapterTensor::owner).collect();
        modules.dedup();
        modules.into_iter().find(is_it).map(str::to_owned)
    }

    /// Whether the model stores the linear layer of that name as `[in, out]`; heads, and what they are tied to, never are.
    pub(crate) fn stores_transposed(&self, name: &str) -> bool {
        self.names.conv1d() && !is_head(name) && !is_embedding(name)
    }

    /// Takes back that a tensor stands in place of a parameter.
    pub(crate) fn forget_value(&mut self, tensor: usize) {
        self.values.retain(|_, value| *value != tensor);
        self.head_value = self.head_value.filter(|value| *value != tensor);
    }

    /// Whether one of its tensors stands in place of that target.
    pub(crate) fn has_value(&self, target: Target) -> bool {
        self.values.contains_key(&target)
    }
}
