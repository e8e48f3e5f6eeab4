//! Presence of a name in the model that an adapter was trained on, however the adapter's paths can be interpreted.
//!
//! Several interpretations may place all of an adapter's paths (key-mapping.md 5.2): attention is called the same before and after
//! transformers stacked experts, and the experts are not. What holds in each of them is known; what holds in some is not.

use std::collections::HashSet;

use crate::model::names::lookup::Names;
use crate::model::names::lookup::is_optional;
use crate::model::names::name_table::each_own_name;

/// Whether a parameter of that name, whose tensor has so many axes, is one that is asked for.
pub(crate) type Accepts<'w> = &'w dyn Fn(&str, usize) -> bool;

/// By how many interpretations a model has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Presence {
    /// By all; one of its names.
    Everywhere(String),
    /// By some; one of its names.
    Somewhere(String),
    /// By none.
    Nowhere,
}

/// What one interpretation says.
struct InterpretationMatch {
    /// Whether all of an adapter's modules are the model's own, and not another shape of what it has.
    owns_all: bool,
    /// By what was asked, the first name.
    found: Vec<Option<String>>,
}

impl Names<'_> {
    /// For each of `wanted`, in which interpretations a parameter has a name that it accepts, given with the number of axes of its
    /// tensor. `modules` are those of the adapter whose names these are.
    pub fn presence(&self, modules: &[&str], wanted: &[Accepts<'_>]) -> Vec<Presence> {
        let mut found_by: Vec<InterpretationMatch> = (0..self.possible.len())
            .map(|interpretation| self.found_by(interpretation, modules, wanted))
            .collect();
        // A model in which all modules are as they stand is likelier the one than one in which experts are put together.
        if found_by.iter().any(|found_by| found_by.owns_all) {
            found_by.retain(|found_by| found_by.owns_all);
        }
        let known = |i: usize| {
            let mut found = found_by.iter().filter_map(|found_by| found_by.found[i].clone());
            match (found.next(), found.count() + 1) {
                (None, _) => Presence::Nowhere,
                (Some(name), n) if n == found_by.len() => Presence::Everywhere(name),
                (Some(name), _) => Presence::Somewhere(name),
            }
        };
        (0..wanted.len()).map(known).collect()
    }

    fn found_by(
        &self,
        interpretation: usize,
        modules: &[&str],
        wanted: &[Accepts<'_>],
    ) -> InterpretationMatch {
        let (rules, mapping) = &self.possible[interpretation];
        let ties: Vec<String> = self.ties().into_iter().map(|(head, _)| head).collect();
        let needed = modules.iter().filter(|module| !is_optional(module, &ties));
        let mut open: HashSet<String> =
            needed.map(|module| mapping.read(module, rules).into_owned()).collect();
        let mut found: Vec<Option<String>> = vec![None; wanted.len()];
        each_own_name(self.disk(), rules, |name, axes| {
            open.remove(name);
            open.remove(name.rsplit_once('.').map_or("", |(module, _)| module));
            if found.iter().all(Option::is_some) {
                return;
            }
            let Some(spelt) = mapping.spelt(name) else { return };
            for (found, is_one) in found.iter_mut().zip(wanted) {
                if found.is_none() && is_one(&spelt, axes) {
                    *found = Some(spelt.clone().into_owned());
                }
            }
        });
        InterpretationMatch { owns_all: open.is_empty(), found }
    }
}
