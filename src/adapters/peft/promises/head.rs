//! The head of a task: a model for it needs one, of the adapter or of the base, and what its class reads before the head.

use crate::adapters::adapter::{Adapter, AdapterTensor};
use crate::adapters::peft::promises::lacks::{Lacks, Promise};
use crate::adapters::peft::selection::{SAVED, is_in};
use crate::model::heads::{before_head, is_added_head, is_task_head};
use crate::model::outline::Outline;

const FIELD: &str = "task_type";
const CURE: &str = "training that does not save it leaves it as it began: save the adapter again with it in `modules_to_save`";

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
    let for_what = match task.name {
        Some(name) => format!("its `{FIELD}` `{name}`"),
        None => format!(
            "`{}`, the class that it was trained in,",
            adapter.options.class.as_deref().unwrap_or(task.class)
        ),
    };
    let promise = |what: &str| Promise {
        why: format!("the {what} that {for_what} needs, and the base has none either"),
        cure: CURE.to_owned(),
    };
    let owners: Vec<&str> = adapter.needed().map(AdapterTensor::owner).collect();
    if !owners.iter().copied().any(is_its) {
        // Whichever of its names the user allows.
        let is_allowed = |head: &&&str| adapter.missing.iter().any(|pattern| pattern.is_match(head));
        let allowed = task.heads.iter().find(is_allowed);
        return lacks.add(FIELD, &promise("head"), allowed.unwrap_or(&task.heads[0]));
    }
    let before = outline.base.config.model_type().and_then(|model_type| before_head(task, model_type));
    let has = |module: &str| {
        owners.iter().any(|owner| is_in(owner, module)) || in_base(&|name| is_in(name, module))
    };
    if let Some(module) = before
        && !has(module)
    {
        lacks.add(FIELD, &promise("module before the head"), module);
    }
}
