//! The head of a task: a model for it needs one, of the adapter or of the base, and what its class reads before the head.

use crate::adapters::adapter::{Adapter, AdapterTensor};
use crate::adapters::peft::promises::lacks::Lacks;
use crate::adapters::peft::selection::{SAVED, is_in};
use crate::error::promise::Promise;
use crate::model::heads::{before_head, is_added_head, is_task_head};
use crate::model::outline::Outline;

/// Reports a head that a task needs and nobody has, or what comes before it.
pub(crate) fn check(adapter: &Adapter, outline: &Outline<'_>, lacks: &mut Lacks<'_>) {
    let Some(task) = adapter.options.head_task() else { return };
    let saved = adapter.config.list(SAVED);
    let is_its = |owner: &str| is_added_head(owner) || saved.iter().any(|entry| is_in(owner, entry));
    let in_base = |is_one: &dyn Fn(&str) -> bool| {
        outline.base.catalogue.tensors.iter().any(|tensor| is_one(&tensor.name))
    };
    if in_base(&is_task_head) {
        return;
    }
    // Without a type for the task its class tells.
    let class = adapter.options.class.as_deref().unwrap_or(task.class);
    let promise = |what| match adapter.options.task.as_deref() {
        Some(name) => Promise::Head { field: "task_type", task: name.to_owned(), what },
        None => Promise::Head { field: "auto_mapping", task: class.to_owned(), what },
    };
    let owners: Vec<&str> = adapter.needed().map(AdapterTensor::owner).collect();
    if !owners.iter().copied().any(is_its) {
        // Whichever of its names the user allows.
        let is_allowed = |head: &&&str| adapter.missing.iter().any(|pattern| pattern.is_match(head));
        let allowed = task.heads.iter().find(is_allowed);
        return lacks.add(&promise("head"), allowed.unwrap_or(&task.heads[0]));
    }
    let before = outline.base.config.model_type().and_then(|model_type| before_head(task, model_type));
    let has = |module: &str| {
        owners.iter().any(|owner| is_in(owner, module)) || in_base(&|name| is_in(name, module))
    };
    if let Some(module) = before
        && !has(module)
    {
        lacks.add(&promise("module before the head"), module);
    }
}
