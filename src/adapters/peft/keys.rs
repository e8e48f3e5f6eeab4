//! The grammar of adapter keys: `base_model.model.<module path><role>[.NAME]<ending>`.
//!
//! A method names its roles as [`Tail`]s (`.lora_A` + `.weight`). Raw dumps keep the adapter's name between the two, which
//! may be any single segment; it is taken off only there, never searched for in the path. Keys are module paths of a
//! running model: wrappers of training frameworks are stripped, nothing that means something is.

use crate::adapters::peft::producers::{OUTER, RENAMED, WRAPPERS};

/// A role and what follows it in a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tail {
    /// Begins with a dot: `.lora_A`.
    pub role: &'static str,
    /// `.weight`, `.bias`, or nothing.
    pub ending: &'static str,
}

impl Tail {
    /// The module path of `key` if it ends in this tail, with or without an adapter's name.
    pub(crate) fn module<'k>(&self, key: &'k str) -> Option<&'k str> {
        let stem = key.strip_suffix(self.ending)?;
        if let Some(module) = stem.strip_suffix(self.role) {
            return Some(module);
        }
        let (stem, name) = stem.rsplit_once('.')?;
        // An ending must not pass for a name: `.lora_B.weight` is no `.lora_B` called `weight`.
        if name == "weight" || name == "bias" {
            return None;
        }
        stem.strip_suffix(self.role)
    }

    /// The key that a module has under this tail, without an adapter's name.
    pub(crate) fn key(&self, module: &str) -> String {
        format!("{module}{}{}", self.role, self.ending)
    }
}

/// PEFT's own prefix; some producers leave the second half out, or all of it, and a model that is wrapped twice has it twice.
const PREFIXES: [&str; 2] = ["base_model.model.", "base_model."];

/// A key without its prefix and wrappers, and what was taken off beyond PEFT's own prefix.
pub(crate) fn normalise(key: &str) -> (String, Option<&'static str>) {
    let mut wrapper = None;
    let mut segments: Vec<&str> = key.split('.').collect();
    segments.retain(|segment| match WRAPPERS.iter().find(|wrapper| *wrapper == segment) {
        Some(found) => {
            wrapper = Some(*found);
            false
        }
        None => true,
    });
    let path = segments.join(".");
    let outside = without_outer(&path, &mut wrapper);
    let mut stripped = PREFIXES.iter().find_map(|prefix| outside.strip_prefix(prefix)).unwrap_or(outside);
    while let Some(again) = stripped.strip_prefix(PREFIXES[0]) {
        stripped = again;
        wrapper = Some("base_model.model");
    }
    let path = without_outer(stripped, &mut wrapper);
    for (theirs, models) in RENAMED {
        if let Some(rest) = path.strip_prefix(theirs).filter(|rest| rest.is_empty() || rest.starts_with('.'))
        {
            return (format!("{models}{rest}"), wrapper);
        }
    }
    (path.to_owned(), wrapper)
}

/// A path without a wrapper of the whole model in front.
fn without_outer<'p>(path: &'p str, wrapper: &mut Option<&'static str>) -> &'p str {
    let (first, rest) = path.split_once('.').unwrap_or((path, ""));
    match OUTER.iter().find(|outer| **outer == first) {
        Some(outer) => {
            *wrapper = Some(*outer);
            rest
        }
        None => path,
    }
}

/// What stands between a module's path and its parameter in the keys of wrapped modules.
const MODULE_WRAPPERS: &[&str] = &["token_adapter.base_layer", "base_layer", "modules_to_save"];

/// The module and the parameter of a path, wrappers and the adapter's name behind them left out.
pub(crate) fn replaced(path: &str) -> (String, &str) {
    let (module, parameter) = path.rsplit_once('.').unwrap_or(("", path));
    for wrapper in MODULE_WRAPPERS {
        if let Some(module) = module.strip_suffix(wrapper).and_then(|module| module.strip_suffix('.')) {
            return (module.to_owned(), parameter);
        }
        if let Some((module, _name)) = module.rsplit_once('.')
            && let Some(module) = module.strip_suffix(wrapper).and_then(|module| module.strip_suffix('.'))
        {
            return (module.to_owned(), parameter);
        }
    }
    (module.to_owned(), parameter)
}

/// Beginnings of segments that belong to a method, not to the model.
const ROLES: &[&str] = &[
    "lora_",
    "hira_",
    "ia3_l",
    "oft_",
    "hada_",
    "lokr_",
    "ln_tuning_layers",
    "trainable_tokens_delta",
    "token_adapter",
    "base_layer",
    "modules_to_save",
    "original_module",
];

fn is_role(segment: &str) -> bool {
    ROLES.iter().any(|role| segment.starts_with(role))
}

/// The module of the running model that a path belongs to, whatever its method; for a plain value, the module that owns the
/// parameter.
pub(crate) fn module_of(path: &str) -> &str {
    let mut at = 0;
    for segment in path.split('.') {
        if is_role(segment) {
            return path[..at].trim_end_matches('.');
        }
        at += segment.len() + 1;
    }
    path.rsplit_once('.').map_or("", |(module, _)| module)
}

/// Whether a path names a value that stands in place of a parameter: no segment is a method's own.
pub(crate) fn is_value(path: &str) -> bool {
    let is_wrapper =
        |segment: &str| MODULE_WRAPPERS.iter().any(|wrapper| wrapper.split('.').any(|w| w == segment));
    !path.split('.').any(|segment| is_role(segment) && !is_wrapper(segment))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tails_take_off_the_adapters_name_and_nothing_else() {
        let a = Tail { role: ".lora_A", ending: ".weight" };
        for (key, module) in [
            ("layers.0.q_proj.lora_A.weight", Some("layers.0.q_proj")),
            ("layers.0.q_proj.lora_A.default.weight", Some("layers.0.q_proj")),
            ("layers.0.lora_A.lora.weight", Some("layers.0")),
            ("layers.0.q_proj.lora_B.weight", None),
            ("layers.0.q_proj.weight", None),
            ("lora_A.x.y.weight", None),
        ] {
            assert_eq!(a.module(key), module, "{key}");
        }
        let bare = Tail { role: ".lora_magnitude_vector", ending: "" };
        assert_eq!(bare.module("q.lora_magnitude_vector"), Some("q"));
        assert_eq!(bare.module("q.lora_magnitude_vector.weight"), None, "that is another tail");
        assert_eq!(a.key("q"), "q.lora_A.weight");
    }

    #[test]
    fn wrappers_are_taken_off_and_told() {
        for (key, path, wrapper) in [
            ("base_model.model.model.layers.0.q.lora_A.weight", "model.layers.0.q.lora_A.weight", None),
            ("base_model.model._orig_mod.model.q.lora_A.weight", "model.q.lora_A.weight", Some("_orig_mod")),
            ("module.base_model.model.q.lora_A.weight", "q.lora_A.weight", Some("module")),
            ("base_model.model.module.model.q.lora_A.weight", "model.q.lora_A.weight", Some("module")),
            ("encoder.module.q.lora_A.weight", "encoder.module.q.lora_A.weight", None),
            (
                "base_model.model.base_model.model.model.q.lora_A.weight",
                "model.q.lora_A.weight",
                Some("base_model.model"),
            ),
            ("base_model.layers.0.q.lora_A.weight", "layers.0.q.lora_A.weight", None),
            ("model.layers.0.q.lora_A.weight", "model.layers.0.q.lora_A.weight", None),
            ("base_model.model.model.unembed_tokens.lora_A.weight", "lm_head.lora_A.weight", None),
            ("model.unembed_tokens_2.lora_A.weight", "model.unembed_tokens_2.lora_A.weight", None),
        ] {
            assert_eq!(normalise(key), (path.to_owned(), wrapper), "{key}");
        }
    }

    #[test]
    fn wrappers_are_left_out_only_before_the_parameter() {
        for (path, module, parameter) in [
            ("lm_head.weight", "lm_head", "weight"),
            ("score.modules_to_save.default.weight", "score", "weight"),
            ("score.modules_to_save.bias", "score", "bias"),
            ("a.q_proj.base_layer.bias", "a.q_proj", "bias"),
            ("base_layer.x.weight", "base_layer.x", "weight"),
            ("scale", "", "scale"),
            ("e.token_adapter.base_layer.weight", "e", "weight"),
        ] {
            assert_eq!(replaced(path), (module.to_owned(), parameter), "{path}");
        }
    }

    #[test]
    fn modules_are_found_whatever_the_method() {
        for (path, module, value) in [
            ("m.q.lora_A.weight", "m.q", false),
            ("m.experts.base_layer.lora_B.weight", "m.experts", false),
            ("m.e.token_adapter.trainable_tokens_delta", "m.e", false),
            ("m.e.token_adapter.base_layer.weight", "m.e", true),
            ("lm_head.weight", "lm_head", true),
            ("m.q.base_layer.bias", "m.q", true),
            ("score.modules_to_save.weight", "score", true),
            ("m.q.ia3_l", "m.q", false),
        ] {
            assert_eq!((module_of(path), is_value(path)), (module, value), "{path}");
        }
    }
}
