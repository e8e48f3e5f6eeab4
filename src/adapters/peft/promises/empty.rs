//! Tensors without elements. Tinker writes some for projections that a model does not have; where the base has what they are
//! for, they were saved before the parts of them on several devices were gathered (ZeRO-3, FSDP).

use std::collections::BTreeSet;

use crate::adapters::adapter::{Adapter, AdapterTensor};
use crate::adapters::claim::locate::{join, locate};
use crate::adapters::parts::{Role, replaced};
use crate::adapters::peft::promises::lacks::Lacks;
use crate::error::promise::Promise;
use crate::model::names::lookup::Names;
use crate::model::outline::Outline;

/// Reports what has tensors without elements and stands in the base; returns the paths of all that have.
pub(crate) fn check(
    adapter: &Adapter,
    names: &Names<'_>,
    outline: &Outline<'_>,
    lacks: &mut Lacks<'_>,
) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for tensor in adapter.tensors.iter().filter(|tensor| is_empty(tensor)) {
        let (path, is_there) = if tensor.is_value() {
            let (module, parameter) = replaced(tensor.path());
            let name = join(&module, parameter);
            let target = locate(outline, names, &name);
            let is_there = target.is_some_and(|target| outline.weight(target).shape.elements() > 0);
            (name, is_there)
        } else {
            (tensor.owner().to_owned(), names.holds(tensor.owner()))
        };
        if is_there {
            lacks.add(&Promise::Elements, &path);
        }
        found.insert(path);
    }
    found
}

fn is_empty(tensor: &AdapterTensor) -> bool {
    tensor.unneeded.is_some() && tensor.part.role != Role::Frozen && tensor.tensor.shape.elements() == 0
}
