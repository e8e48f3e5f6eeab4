//! Selection of modules as PEFT makes it from a config: `check_target_module_exists` in `tuners_utils.py`.
//!
//! PEFT selects among all modules of the model. What cannot be told (a pattern that is not read, a number of a layer that
//! versions count otherwise) is taken as not selected: it must not become an error.

use serde_json::Value;

use crate::adapters::peft::config::AdapterConfig;
use crate::adapters::peft::python_regex::PythonPattern;

/// PEFT's word for every linear layer.
pub(crate) const ALL_LINEAR: &str = "all-linear";
/// The modules that are adapted.
pub(crate) const MODULES: &str = "target_modules";
/// The parameters that are adapted.
pub(crate) const PARAMETERS: &str = "target_parameters";
/// The modules that are trained whole.
pub(crate) const SAVED: &str = "modules_to_save";
/// The modules that are not adapted after all.
const EXCLUDED: &str = "exclude_modules";

/// What a field of modules says.
enum Modules<'c> {
    /// Paths, or their last segments.
    List(Vec<&'c str>),
    /// An expression for whole paths.
    Pattern(PythonPattern),
    /// Every linear layer.
    AllLinear,
    /// Nobody can tell.
    Unreadable,
}

impl<'c> Modules<'c> {
    fn of(config: &'c AdapterConfig, field: &str) -> Modules<'c> {
        match config.text(field) {
            None => Modules::List(config.list(field)),
            Some(text) if text.eq_ignore_ascii_case(ALL_LINEAR) => Modules::AllLinear,
            Some(text) => PythonPattern::full(text).map_or(Modules::Unreadable, Modules::Pattern),
        }
    }

    /// Whether it names a module; nothing where nobody can tell.
    fn name(&self, module: &str) -> Option<bool> {
        match self {
            Modules::List(entries) => Some(entries.iter().any(|entry| is_named(module, entry))),
            Modules::Pattern(pattern) => pattern.is_match(module).ok(),
            Modules::AllLinear | Modules::Unreadable => None,
        }
    }
}

/// Which modules a config selects.
pub(crate) struct Selection<'c> {
    targets: Modules<'c>,
    excluded: Modules<'c>,
    saved: Vec<&'c str>,
    /// The layers that are adapted; all, if there are none.
    layers: Vec<u64>,
    /// What stands before the number of a layer; anything, if there are none.
    stacks: Vec<&'c str>,
}

impl<'c> Selection<'c> {
    /// As `config` says.
    pub(crate) fn of(config: &'c AdapterConfig) -> Selection<'c> {
        let layers = config.get("layers_to_transform");
        let layers = layers.map(|layers| match layers.as_array() {
            Some(layers) => layers.iter().filter_map(Value::as_u64).collect(),
            None => layers.as_u64().into_iter().collect(),
        });
        let mut stacks = config.list("layers_pattern");
        stacks.extend(config.text("layers_pattern").filter(|text| !text.is_empty()));
        Selection {
            targets: Modules::of(config, MODULES),
            excluded: Modules::of(config, EXCLUDED),
            saved: config.list(SAVED),
            layers: layers.unwrap_or_default(),
            stacks,
        }
    }

    /// Whether `target_modules` selects a module, and nothing takes it out again. `all-linear` tells nothing: PEFT writes the
    /// list that it came to, and producers that write the word do so whatever they trained (Tinker).
    pub(crate) fn selects(&self, module: &str) -> bool {
        let is_target = |module: &str| self.targets.name(module) == Some(true);
        // Some producers leave PEFT's own `model.` out of keys, and then the model's passes for it.
        let is_whole =
            || matches!(self.targets, Modules::Pattern(_)) && is_target(&format!("model.{module}"));
        (is_target(module) || is_whole()) && self.leaves(module)
    }

    /// Whether nothing takes a module out that is a target.
    pub(crate) fn leaves(&self, module: &str) -> bool {
        // What is saved whole has no adapter, nor has anything in it.
        let is_saved = self.saved.iter().any(|entry| is_in(module, entry));
        if is_saved || self.excluded.name(module) != Some(false) {
            return false;
        }
        // What is listed with its whole path is selected whatever its layer.
        let is_listed = || matches!(&self.targets, Modules::List(entries) if entries.contains(&module));
        self.layers.is_empty() || is_listed() || self.is_of_a_layer(module)
    }

    /// Whether the number of its layer is one of those that are adapted, whichever version of PEFT counts: with several numbers
    /// in a path the first is taken since 2026, and before that the last.
    fn is_of_a_layer(&self, module: &str) -> bool {
        let segments: Vec<&str> = module.split('.').collect();
        let number = |i: usize| segments.get(i)?.parse::<u64>().ok().filter(|_| i + 1 < segments.len());
        let mut numbers = (1..segments.len()).filter_map(|i| {
            let is_stack = match self.stacks.as_slice() {
                // At least two segments before it.
                [] => i > 1,
                // One that is an expression names no layer here.
                stacks => stacks.contains(&segments[i - 1]),
            };
            number(i).filter(|_| is_stack)
        });
        let Some(first) = numbers.next() else { return false };
        let last = numbers.next_back().unwrap_or(first);
        [first, last].iter().all(|number| self.layers.contains(number))
    }
}

/// PEFT's rule for lists: equal, or the last segments.
pub(crate) fn is_named(module: &str, entry: &str) -> bool {
    module == entry || module.strip_suffix(entry).is_some_and(|rest| rest.ends_with('.'))
}

/// Whether a module is one that an entry names, or stands inside one.
pub(crate) fn is_in(module: &str, entry: &str) -> bool {
    let is_whole = |at: usize| {
        let end = at + entry.len();
        (at == 0 || module[..at].ends_with('.')) && (end == module.len() || module[end..].starts_with('.'))
    };
    !entry.is_empty() && module.match_indices(entry).any(|(at, _)| is_whole(at))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn selected(fields: &Value, module: &str) -> bool {
        let fields = fields.as_object().expect("an object").clone();
        Selection::of(&AdapterConfig::new("style".into(), fields)).selects(module)
    }

    #[test]
    fn modules_are_selected_as_peft_selects_them() {
        let q = "model.layers.1.self_attn.q_proj";
        for (fields, is_one) in [
            (json!({"target_modules": ["q_proj"]}), true),
            (json!({"target_modules": ["_proj"]}), false),
            (json!({"target_modules": [q]}), true),
            (json!({"target_modules": "all-linear"}), false),
            (json!({"target_modules": r".*\.[qk]_proj"}), true),
            (json!({"target_modules": r"layers\..*q_proj"}), false),
            (json!({"target_modules": "("}), false),
            (json!({"target_modules": null}), false),
            (json!({"target_modules": ["q_proj"], "exclude_modules": ["self_attn.q_proj"]}), false),
            (json!({"target_modules": ["q_proj"], "exclude_modules": r".*\.1\..*"}), false),
            (json!({"target_modules": ["q_proj"], "exclude_modules": "("}), false),
            (json!({"target_modules": ["q_proj"], "modules_to_save": ["self_attn"]}), false),
            (json!({"target_modules": ["q_proj"], "modules_to_save": ["attn"]}), true),
            (json!({"target_modules": ["q_proj"], "layers_to_transform": [0, 1]}), true),
            (json!({"target_modules": ["q_proj"], "layers_to_transform": 2}), false),
            (json!({"target_modules": [q], "layers_to_transform": 2}), true),
            (
                json!({"target_modules": ["q_proj"], "layers_to_transform": 1, "layers_pattern": "layers"}),
                true,
            ),
            (json!({"target_modules": ["q_proj"], "layers_to_transform": 1, "layers_pattern": "h"}), false),
        ] {
            assert_eq!(selected(&fields, q), is_one, "{fields}");
        }
        let expert = "model.layers.1.mlp.experts.4.up_proj";
        let of = |layers: Value| {
            selected(&json!({"target_modules": ["up_proj"], "layers_to_transform": layers}), expert)
        };
        assert_eq!(
            [of(json!([1])), of(json!([4])), of(json!([1, 4]))],
            [false, false, true],
            "versions differ"
        );
        assert!(selected(&json!({"target_modules": r"model\.layers\.1\.q_proj"}), "layers.1.q_proj"));
    }
}
