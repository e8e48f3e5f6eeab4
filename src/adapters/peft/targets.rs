//! Targets that an adapter says it has and has no tensor for.
//!
//! PEFT accepts lists with entries that match nothing, so an entry that names nothing of this model means nothing. One that
//! does, however the adapter's names can be read, and has no tensor at all, is an adapter that a broken save cut short
//! (key-mapping.md 12, item 8). Between the two an entry is worth saying. A string is an expression for whole paths
//! (`check_target_module_exists` in PEFT's `tuners_utils.py`): the adapter's own paths must match it somewhere.

use crate::error::Error;
use crate::error::claim::ClaimError;
use crate::error::promise::NOT_WHOLE;
use crate::model::names::lookup::Names;
use crate::model::names::presence::{Accepts, Presence};
use crate::model::unused::UnusedLayers;

use crate::adapters::adapter::{Adapter, AdapterTensor};
use crate::adapters::claim::edits::ClaimedModule;
use crate::adapters::peft::config::{AdapterConfig, shown_pattern};
use crate::adapters::peft::promises::lacks::Lacks;
use crate::adapters::peft::promises::paths::first_number;
use crate::adapters::peft::python_regex::{PythonPattern, Unreadable};
use crate::adapters::peft::selection::{ALL_LINEAR, MODULES, PARAMETERS, Selection, is_named};
use crate::note::Note;
use crate::note::names::NameNote;

/// What is wrong with, and what is to be said of, entries of `target_modules` and `target_parameters` that have no tensor.
pub(crate) fn check_targets(
    adapter: &Adapter,
    claimed: &[ClaimedModule],
    names: &Names<'_>,
    (unused, lacks): (UnusedLayers, &mut Lacks<'_>),
) -> (Vec<Error>, Vec<Note>) {
    let mut errors = Vec::new();
    let mut notes = Vec::new();
    let selection = Selection::of(&adapter.config);
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
    let wanted: Vec<Wanted<'_>> = open.iter().map(|entry| entry.wanted(&selection, unused)).collect();
    let wanted: Vec<Accepts<'_>> = wanted.iter().map(|wanted| &**wanted as _).collect();
    let known = if wanted.is_empty() { Vec::new() } else { names.presence(&of_paths, &wanted) };
    let mut unsure: Vec<&Entry<'_>> = Vec::new();
    for (entry, known) in open.iter().zip(known) {
        match known {
            Presence::Everywhere(name) => {
                let module = name.strip_suffix(".weight").unwrap_or(&name).to_owned();
                if !lacks.allow(entry.field, &module) {
                    errors.push(entry.error(adapter, module));
                }
            }
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
    let claimed = claimed.iter().map(|claimed| &*claimed.module);
    let parameters: Vec<&str> = claimed.filter(|path| of_paths.binary_search(path).is_err()).collect();
    [of(MODULES, of_paths), of(PARAMETERS, &parameters)].concat()
}

impl<'e> Entry<'e> {
    /// Which parameters of a model the entry means, by name and number of axes.
    fn wanted(&self, selection: &'e Selection<'e>, unused: UnusedLayers) -> Wanted<'e> {
        let entry = self.entry;
        let runs = move |path: &str| first_number(path).is_none_or(|layer| !unused.may_lack(path, layer));
        match self.field {
            PARAMETERS => Box::new(move |name, _| is_named(name, entry) && runs(name)),
            _ => Box::new(move |name, axes| {
                let module = name.strip_suffix(".weight").filter(|_| axes > 1);
                module
                    .is_some_and(|module| is_named(module, entry) && selection.leaves(module) && runs(module))
            }),
        }
    }

    fn error(&self, adapter: &Adapter, module: String) -> Error {
        let adapter = adapter.name.clone();
        let entry = self.entry.to_owned();
        let kind = ClaimError::TargetWithoutTensor { adapter, field: self.field, entry, module };
        Error::new(kind)
            .hint(format!("{NOT_WHOLE}; `--allow-missing REGEX` merges without the modules it matches"))
    }
}

/// The refusal of a string that none of the modules matches; or what is to be said where nobody can tell.
fn pattern_matches<'p>(
    config: &AdapterConfig,
    pattern: &str,
    mut modules: impl Iterator<Item = &'p str>,
) -> Result<Option<Error>, NameNote> {
    let adapter = &config.adapter;
    let unread = |cause: Unreadable| {
        let (adapter, cause) = (adapter.clone(), cause.to_string());
        NameNote::PatternUnchecked { adapter, pattern: shown_pattern(pattern), cause }
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
        return Err(NameNote::PatternUnmet { adapter: adapter.clone(), pattern: shown_pattern(pattern) });
    }
    let kind = ClaimError::TargetsUnmet { adapter: adapter.clone(), pattern: shown_pattern(pattern) };
    Ok(Some(Error::new(kind).hint(NOT_WHOLE)))
}
