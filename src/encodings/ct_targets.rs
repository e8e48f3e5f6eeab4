//! Which group of a compressed-tensors config a module belongs to, by the targets of the groups: names of modules, patterns
//! (`re:…`, matched from the start), or classes. Names and patterns come before classes, as the library has it.
//!
//! It is made once for a checkpoint: of weights, and of names in a list, there may be 60,000.

use std::collections::HashMap;

use regex::{Regex, RegexSet};
use serde_json::Value;

use crate::error::quantized::QuantizedProblem;

/// The class of linear layers, which is the one that may stand for all of a module's groups.
const LINEAR: &str = "Linear";
/// Patterns beyond which a config is refused.
const MOST_PATTERNS: usize = 1000;

/// What the groups of a config target.
#[derive(Debug, Default)]
pub(crate) struct GroupTargets {
    /// Groups by the names of modules, each in order.
    by_name: HashMap<String, Vec<usize>>,
    /// All patterns as one, so that their size has one bound, and the group of each.
    patterns: RegexSet,
    of_pattern: Vec<usize>,
    /// Groups of linear layers.
    linear: Vec<usize>,
}

impl GroupTargets {
    /// Those of these groups.
    ///
    /// # Errors
    /// [`QuantizedProblem::Target`] for a pattern that is none, and where there are too many.
    pub(crate) fn of<'c>(groups: impl Iterator<Item = &'c Value>) -> Result<GroupTargets, QuantizedProblem> {
        let (mut found, mut patterns) = (GroupTargets::default(), Vec::new());
        for (i, group) in groups.enumerate() {
            let targets = group.get("targets").and_then(Value::as_array).into_iter().flatten();
            for target in targets.filter_map(Value::as_str) {
                if let Some(pattern) = target.strip_prefix("re:") {
                    patterns.push(format!("^(?:{pattern})"));
                    found.of_pattern.push(i);
                } else if target == LINEAR {
                    found.linear.push(i);
                } else {
                    found.by_name.entry(target.to_owned()).or_default().push(i);
                }
            }
        }
        found.linear.dedup();
        found.patterns = set(&patterns)?;
        Ok(found)
    }

    /// The place of the group of `module`.
    ///
    /// # Errors
    /// Where it is that of several groups, or of none.
    pub(crate) fn group(&self, module: &str) -> Result<usize, QuantizedProblem> {
        let by_pattern = self.patterns.matches(module).into_iter().map(|i| self.of_pattern[i]);
        let by_name = self.by_name.get(module).into_iter().flatten();
        let mut matching: Vec<usize> = by_pattern.chain(by_name.copied()).collect();
        matching.sort_unstable();
        matching.dedup();
        match (matching.as_slice(), self.linear.as_slice()) {
            ([one], _) | ([], [one]) => Ok(*one),
            ([], _) => Err(QuantizedProblem::OfScheme(
                "the `config_groups` differ, and no target says which is its own",
            )),
            _ => {
                Err(QuantizedProblem::OfScheme("the `config_groups` differ, and targets of several name it"))
            }
        }
    }
}

/// All patterns as one. The first that is none by itself is named.
fn set(patterns: &[String]) -> Result<RegexSet, QuantizedProblem> {
    if patterns.len() > MOST_PATTERNS {
        return Err(QuantizedProblem::OfScheme("`config_groups` have more than 1000 patterns"));
    }
    RegexSet::new(patterns).map_err(|_| {
        let is_none = |pattern: &&String| Regex::new(pattern).is_err();
        match patterns.iter().find(is_none) {
            Some(pattern) => {
                let own = pattern.strip_prefix("^(?:").and_then(|pattern| pattern.strip_suffix(')'));
                QuantizedProblem::Target { target: format!("re:{}", own.unwrap_or(pattern)) }
            }
            None => QuantizedProblem::OfScheme("the patterns of `config_groups` are too large together"),
        }
    })
}
