//! PEFT's keys as paths of a running model: `base_model.model.<module path><tail>` without what wraps the model.
//!
//! Wrappers of training frameworks are stripped, nothing that means something is. Tails are read by
//! [`parts`](crate::adapters::parts).

use crate::adapters::peft::producers::{HOLDERS, OUTER, RENAMED, WRAPPERS};

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
    let outside = without_holder(without_outer(&path, &mut wrapper), &mut wrapper);
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

/// A path without what a trainer calls the model that PEFT wrapped.
fn without_holder<'p>(path: &'p str, wrapper: &mut Option<&'static str>) -> &'p str {
    let Some((first, rest)) = path.split_once('.').filter(|(_, rest)| rest.starts_with(PREFIXES[0])) else {
        return path;
    };
    let holder = HOLDERS.iter().find(|holder| **holder == first);
    *wrapper = holder.copied().or(*wrapper);
    if holder.is_some() { rest } else { path }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrappers_are_taken_off_and_told() {
        for (key, path, wrapper) in [
            ("base_model.model.model.layers.0.q.lora_A.weight", "model.layers.0.q.lora_A.weight", None),
            ("base_model.model._orig_mod.model.q.lora_A.weight", "model.q.lora_A.weight", Some("_orig_mod")),
            ("module.base_model.model.q.lora_A.weight", "q.lora_A.weight", Some("module")),
            ("base_model.model.module.model.q.lora_A.weight", "model.q.lora_A.weight", Some("module")),
            ("model.base_model.model.model.q.lora_A.weight", "model.q.lora_A.weight", Some("model")),
            ("module.llm.base_model.model.model.q.lora_A.weight", "model.q.lora_A.weight", Some("llm")),
            (
                "reference.base_model.model.q.lora_A.weight",
                "reference.base_model.model.q.lora_A.weight",
                None,
            ),
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
}
