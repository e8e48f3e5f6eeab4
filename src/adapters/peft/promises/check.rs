//! All promises of one adapter, looked at in one pass over the model's parameters.

use std::collections::BTreeSet;

use crate::adapters::adapter::{Adapter, AdapterTensor};
use crate::adapters::claim::edits::ClaimedModule;
use crate::adapters::peft::promises::biases::Biases;
use crate::adapters::peft::promises::kinds::Kinds;
use crate::adapters::peft::promises::lacks::Lacks;
use crate::adapters::peft::promises::saved::SavedModules;
use crate::adapters::peft::promises::{empty, head, rows};
use crate::adapters::peft::selection::{MODULES, PARAMETERS, Selection, is_named};
use crate::adapters::peft::targets::check_targets;
use crate::error::Error;
use crate::model::names::lookup::Names;
use crate::model::names::reading::Reading;
use crate::model::outline::Outline;
use crate::model::unused::UnusedLayers;
use crate::note::Note;

/// What came of looking.
pub(crate) struct Promised {
    /// Promises that are broken.
    pub errors: Vec<Error>,
    /// Things worth saying.
    pub notes: Vec<Note>,
    /// What is missing because the user said so, as the model card tells it.
    pub choices: Vec<String>,
}

/// Looks for everything that the config of `adapter` promises, which is `claimed` as far as it is there.
pub(crate) fn check_promises(
    adapter: &Adapter,
    claimed: &[ClaimedModule],
    names: &Names<'_>,
    outline: &Outline<'_>,
) -> Promised {
    let unused = UnusedLayers::of(&outline.base.config);
    let mut lacks = Lacks::new(adapter);
    let (mut errors, mut notes) = check_targets(adapter, claimed, names, (unused, &mut lacks));
    let empty = empty::check(adapter, names, outline, &mut lacks);
    rows::check(adapter, outline, &mut lacks);
    head::check(adapter, outline, &mut lacks);
    for reading in names.in_use() {
        notes.extend(check_reading(
            adapter,
            claimed,
            (names, &reading, unused),
            (outline, &empty),
            &mut lacks,
        ));
    }
    errors.extend(lacks.errors());
    notes.extend(lacks.notes());
    Promised { errors, notes, choices: lacks.choices().collect() }
}

/// What must be looked for in every parameter of the model, as one reading has them.
fn check_reading(
    adapter: &Adapter,
    claimed: &[ClaimedModule],
    (names, reading, unused): (&Names<'_>, &Reading<'_>, UnusedLayers),
    (outline, empty): (&Outline<'_>, &BTreeSet<String>),
    lacks: &mut Lacks<'_>,
) -> Option<Note> {
    let owners = adapter.owners();
    let of_method = || adapter.needed().filter(|tensor| !tensor.is_value()).map(AdapterTensor::owner);
    // A claim's path is a parameter's where that is what was adapted: then it is none of the keys' modules.
    let claimed = claimed.iter().map(|claimed| &*claimed.module);
    let of_parameters = claimed.filter(|path| owners.binary_search(path).is_err());
    let mut modules = Kinds::new(of_method(), ".weight", reading, unused);
    let mut parameters = Kinds::new(of_parameters, "", reading, unused);
    let mut saved = SavedModules::new(adapter, reading);
    let mut biases = Biases::new(adapter, reading, unused);
    reading.each_parameter(|name, axes| {
        modules.see(name);
        parameters.see(name);
        saved.see(name, axes);
        biases.see(name, axes);
    });
    let selection = Selection::of(&adapter.config);
    let holds = |path: &str| names.holds(path);
    modules.report(MODULES, (reading, holds), |path| selection.selects(path) && !empty.contains(path), lacks);
    let targets = &adapter.options.target_parameters;
    parameters.report(
        PARAMETERS,
        (reading, holds),
        |path| targets.iter().any(|entry| is_named(path, entry)),
        lacks,
    );
    saved.report(outline, empty, lacks);
    biases.report(lacks)
}
