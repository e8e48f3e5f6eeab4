//! Targets that an adapter says it has and has no tensor for.
//!
//! PEFT accepts lists with entries that match nothing, so an entry that names nothing of this model means nothing. One that
//! does, however the adapter's names can be read, and has no tensor at all, is an adapter that a broken save cut short
//! (key-mapping.md 12, item 8). Between the two an entry is worth saying. A string is an expression for whole paths
//! (`check_target_module_exists` in PEFT's `tuners_utils.py`): the adapter's own paths must match it somewhere.

use serde_json::Value;

use crate::error::Error;
use crate::error::claim::ClaimError;
use crate::model::names::lookup::Names;
use crate::model::names::presence::{Accepts, Presence};

use crate::adapters::adapter::{Adapter, AdapterTensor};
use crate::adapters::claim::edits::ClaimedModule;
use crate::adapters::peft::config::AdapterConfig;
use crate::adapters::peft::python_regex::PythonPattern;
use crate::note::Note;
use crate::note::names::NameNote;

/// PEFT's word for every linear layer.
const ALL_LINEAR: &str = "all-linear";
const MODULES: &str = "target_modules";
const PARAMETERS: &str = "target_parameters";

/// What is wrong with, and what is to be said of, entries of `target_modules` and `target_parameters` that have no tensor.
pub(crate) fn check_targets(
    adapter: &Adapter,
    claimed: &[ClaimedModule],
    names: &Names<'_>,
) -> (Vec<Error>, Vec<Note>) {
    let mut errors = Vec::new();
    let mut notes = Vec::new();
    let of_paths = adapter.owners();
    if let Some(pattern) = adapter.config.text(MODULES) {
        let of_method = adapter.needed().filter(|tensor| !tensor.is_value()).map(AdapterTensor::owner);
        match pattern_matches(&adapter.config, pattern, of_method) {
            Ok(None) => {}
            Ok(Some(error)) => errors.push(error),
            Err(note) => notes.push(note.into()),
        }
    }
    let open = open_entries(&adapter.config, &of_paths, claimed);
    let wanted: Vec<Wanted<'_>> = open.iter().map(|entry| entry.wanted(&adapter.config)).collect();
    let wanted: Vec<Accepts<'_>> = wanted.iter().map(|wanted| &**wanted as _).collect();
    let known = if wanted.is_empty() { Vec::new() } else { names.presence(&of_paths, &wanted) };
    let mut unsure: Vec<&Entry<'_>> = Vec::new();
    for (entry, known) in open.iter().zip(known) {
        match known {
            Presence::Everywhere(name) => errors.push(entry.error(adapter, name)),
            Presence::Somewhere(_) | Presence::Nowhere => unsure.push(entry),
        }
    }
    for field in [MODULES, PARAMETERS] {
        let entries: Vec<String> =
            unsure.iter().filter(|entry| entry.field == field).map(|entry| entry.entry.to_owned()).collect();
        if !entries.is_empty() {
            let (adapter, field) = (adapter.name.clone(), field.to_owned());
            notes.push(NameNote::TargetsWithoutTensor { adapter, field, entries }.into());
        }
    }
    (errors, notes)
}

type Wanted<'e> = Box<dyn Fn(&str, usize) -> bool + 'e>;

/// An entry of a list.
#[derive(Clone, Copy)]
struct Entry<'e> {
    field: &'static str,
    entry: &'e str,
}

/// Entries of both lists that no tensor of the adapter is for.
fn open_entries<'e>(
    config: &'e AdapterConfig,
    of_paths: &[&str],
    claimed: &[ClaimedModule],
) -> Vec<Entry<'e>> {
    let of = |field: &'static str, adapted: &[&str]| {
        let entries = config.list(field).into_iter();
        let open = entries.filter(|entry| !adapted.iter().any(|name| is_named(name, entry)));
        open.map(|entry| Entry { field, entry }).collect::<Vec<_>>()
    };
    // A claim's path is a parameter's where that is what was adapted: then it is none of the keys' modules.
    let claimed = claimed.iter().map(|claimed| claimed.module.as_str());
    let parameters: Vec<&str> = claimed.filter(|path| of_paths.binary_search(path).is_err()).collect();
    [of(MODULES, of_paths), of(PARAMETERS, &parameters)].concat()
}

impl<'e> Entry<'e> {
    /// Which parameters of a model the entry means, by name and number of axes.
    fn wanted(&self, config: &'e AdapterConfig) -> Wanted<'e> {
        let entry = self.entry;
        match self.field {
            PARAMETERS => Box::new(move |name, _| is_named(name, entry)),
            _ => Box::new(move |name, axes| {
                let module = name.strip_suffix(".weight").filter(|_| axes > 1);
                module.is_some_and(|module| is_named(module, entry) && is_selected(config, module))
            }),
        }
    }

    fn error(&self, adapter: &Adapter, name: String) -> Error {
        let module = name.strip_suffix(".weight").map_or_else(|| name.clone(), str::to_owned);
        let adapter = adapter.name.clone();
        let entry = self.entry.to_owned();
        let kind = ClaimError::TargetWithoutTensor { adapter, field: self.field, entry, module };
        Error::new(kind).hint("the adapter was not saved whole: save it again, or get the whole file")
    }
}

/// The refusal of a string that none of the modules matches; or what is to be said where nobody can tell.
fn pattern_matches<'p>(
    config: &AdapterConfig,
    pattern: &str,
    mut modules: impl Iterator<Item = &'p str>,
) -> Result<Option<Error>, NameNote> {
    let adapter = &config.adapter;
    let unread = |cause: Box<fancy_regex::Error>| {
        let (adapter, cause) = (adapter.clone(), cause.to_string());
        NameNote::PatternUnchecked { adapter, pattern: pattern.to_owned(), cause }
    };
    let is_met = if pattern.eq_ignore_ascii_case(ALL_LINEAR) {
        modules.next().is_some()
    } else {
        let expression = PythonPattern::full(pattern).map_err(unread)?;
        // Some producers leave PEFT's own `model.` out of keys, and then the model's passes for it.
        let either = |module: &str| {
            Ok(expression.is_match(module)? || expression.is_match(&format!("model.{module}"))?)
        };
        let matched = modules.map(either);
        let mut matched = matched.filter(|matched| !matches!(matched, Ok(false)));
        matched.next().transpose().map_err(unread)?.is_some()
    };
    if is_met {
        return Ok(None);
    }
    // PEFT takes a string that matches nothing where parameters are adapted.
    if !config.list(PARAMETERS).is_empty() {
        return Err(NameNote::PatternUnmet { adapter: adapter.clone(), pattern: pattern.to_owned() });
    }
    let kind = ClaimError::TargetsUnmet { adapter: adapter.clone(), pattern: pattern.to_owned() };
    Ok(Some(Error::new(kind).hint("the adapter was not saved whole: save it again, or get the whole file")))
}

/// PEFT's rule for lists: equal, or the last segments.
fn is_named(module: &str, entry: &str) -> bool {
    module == entry || module.strip_suffix(entry).is_some_and(|rest| rest.ends_with('.'))
}

/// Whether the rest of the config leaves the module selected.
fn is_selected(config: &AdapterConfig, module: &str) -> bool {
    // What is saved whole has no adapter, nor has anything in it.
    let saved = config.list("modules_to_save");
    let is_in = |entry: &&str| format!(".{module}.").contains(&format!(".{entry}."));
    if config.list("exclude_modules").iter().any(|entry| is_named(module, entry)) || saved.iter().any(is_in) {
        return false;
    }
    if let Some(pattern) = config.text("exclude_modules") {
        let excluded = PythonPattern::full(pattern).and_then(|pattern| pattern.is_match(module));
        // What cannot be told must not be an error.
        if !matches!(excluded, Ok(false)) {
            return false;
        }
    }
    let Some(layers) = config.get("layers_to_transform") else { return true };
    let chosen: Vec<u64> = match layers.as_array() {
        Some(layers) => layers.iter().filter_map(Value::as_u64).collect(),
        None => layers.as_u64().into_iter().collect(),
    };
    // What is listed with its whole path is selected whatever its layer.
    let is_listed = || config.list(MODULES).contains(&module);
    chosen.is_empty() || is_listed() || layer(config, module).is_some_and(|number| chosen.contains(&number))
}

/// The number of a module's layer, as `layers_to_transform` counts them: PEFT's first numbered segment with two or more
/// before it, or the one behind a name of `layers_pattern`. One that is an expression names no layer here: what cannot be
/// told must not be an error.
fn layer(config: &AdapterConfig, module: &str) -> Option<u64> {
    let segments: Vec<&str> = module.split('.').collect();
    let numbered = |i: usize| segments.get(i)?.parse::<u64>().ok().filter(|_| i + 1 < segments.len());
    let mut stacks = config.list("layers_pattern");
    stacks.extend(config.text("layers_pattern").filter(|text| !text.is_empty()));
    if stacks.is_empty() {
        return (2..segments.len()).find_map(numbered);
    }
    let of_stack =
        |stack: &&str| (0..segments.len()).filter(|&i| segments[i] == *stack).find_map(|i| numbered(i + 1));
    stacks.iter().find_map(of_stack)
}
