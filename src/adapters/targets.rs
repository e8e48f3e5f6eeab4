//! Targets that an adapter says it has and has no tensor for.
//!
//! PEFT accepts lists with entries that match nothing, so an entry that names no module of this model means nothing. One
//! that does, and has no tensor at all, is an adapter that a broken save cut short (key-mapping.md 12, item 8).

use regex::Regex;

use crate::error::{Error, ErrorKind};
use crate::families::{Disk, expert};

use super::AdapterConfig;

/// An error for every entry of `target_modules` that names a module of the base, and of `target_parameters` that names a
/// parameter, though none of `adapted` (paths with tensors) is of that name.
pub fn check_targets(config: &AdapterConfig, adapted: &[&str], disk: &dyn Disk) -> Vec<Error> {
    let mut errors = Vec::new();
    let weights = || (0..disk.count()).filter_map(|place| disk.weight(place));
    let is_adapted = |entry: &str| adapted.iter().any(|module| is_named(module, entry));
    let error = |field: &'static str, entry: &str, module: String| {
        let (adapter, entry) = (config.adapter.clone(), entry.to_owned());
        let kind = ErrorKind::TargetWithoutTensor { adapter, field, entry, module };
        Error::new(kind).hint("the adapter was not saved whole: save it again, or get the whole file")
    };
    for entry in config.list("target_modules").into_iter().filter(|entry| !is_adapted(entry)) {
        let modules = weights().filter(|(_, shape)| shape.axes().len() == 2);
        let mut modules = modules.filter_map(|(name, _)| name.strip_suffix(".weight").map(str::to_owned));
        if let Some(module) = modules.find(|module| is_named(module, entry) && is_selected(config, module)) {
            errors.push(error("target_modules", entry, module));
        }
    }
    for entry in config.list("target_parameters").into_iter().filter(|entry| !is_adapted(entry)) {
        let mut parameters = weights().flat_map(|(name, _)| parameters(&name));
        if let Some(parameter) = parameters.find(|parameter| is_named(parameter, entry)) {
            errors.push(error("target_parameters", entry, parameter));
        }
    }
    errors
}

/// The parameters that a tensor may be, or be a part of, in the running model.
fn parameters(name: &str) -> Vec<String> {
    let joined = expert(name).map(|expert| expert.joined());
    joined.unwrap_or_else(|| vec![name.to_owned()])
}

/// PEFT's rule for lists: equal, or the last segments.
fn is_named(module: &str, entry: &str) -> bool {
    module == entry || module.strip_suffix(entry).is_some_and(|rest| rest.ends_with('.'))
}

/// Whether the rest of the config leaves the module selected.
fn is_selected(config: &AdapterConfig, module: &str) -> bool {
    let saved = config.list("modules_to_save");
    if config.list("exclude_modules").iter().chain(&saved).any(|entry| is_named(module, entry)) {
        return false;
    }
    if let Some(pattern) = config.text("exclude_modules")
        && Regex::new(&format!("^(?:{pattern})$")).is_ok_and(|pattern| pattern.is_match(module))
    {
        return false;
    }
    // Layers chosen by number: the module's own number decides, and a pattern of its own is too rare to judge by.
    match config.get("layers_to_transform") {
        None => true,
        Some(layers) => {
            let chosen: Vec<u64> = match layers.as_array() {
                Some(layers) => layers.iter().filter_map(serde_json::Value::as_u64).collect(),
                None => layers.as_u64().into_iter().collect(),
            };
            let number = module.split('.').find_map(|segment| segment.parse::<u64>().ok());
            number.is_some_and(|number| chosen.contains(&number))
        }
    }
}
