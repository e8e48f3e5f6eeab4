//! The head of a task: a model for it needs one, of the adapter or of the base.

use crate::adapters::adapter::{Adapter, AdapterTensor};
use crate::adapters::peft::promises::lacks::{Lacks, Promise};
use crate::adapters::peft::selection::{SAVED, is_in};
use crate::model::heads::{is_added_head, is_task_head, task};
use crate::model::outline::Outline;

/// Reports a head that a task needs and nobody has.
pub(crate) fn check(adapter: &Adapter, outline: &Outline<'_>, lacks: &mut Lacks<'_>) {
    let Some(task) = adapter.options.task.as_deref().and_then(task) else { return };
    let saved = adapter.config.list(SAVED);
    let is_its = |owner: &str| is_added_head(owner) || saved.iter().any(|entry| is_in(owner, entry));
    let mut tensors = outline.base.catalogue.tensors.iter();
    if adapter.needed().map(AdapterTensor::owner).any(is_its)
        || tensors.any(|tensor| is_task_head(&tensor.name))
    {
        return;
    }
    let why = format!("the head that its `task_type` `{}` needs, and the base has none either", task.name);
    let cure = "training that does not save the head leaves it as it began: save it again with the head in `modules_to_save`";
    let promise = Promise { why, cure: cure.to_owned() };
    // Whichever of its names the user allows.
    let allowed = task.heads.iter().find(|head| adapter.missing.iter().any(|pattern| pattern.is_match(head)));
    lacks.add("task_type", &promise, allowed.unwrap_or(&task.heads[0]));
}
