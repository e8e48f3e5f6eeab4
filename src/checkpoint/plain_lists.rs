//! The lists by which a description of a quantization leaves modules plain.
//!
//! An entry is the path of a module, some whole segments of it (`self_attn` covers all projections below it, as loaders match
//! it anywhere), or a pattern: `re:…` of compressed-tensors, which need not reach the end, or `*self_attn*` of ModelOpt.

use std::collections::HashSet;

use regex::{Regex, RegexSet};
use serde_json::Value;

use crate::encodings::schemes;

/// The modules that a description leaves plain.
#[derive(Debug, Default)]
pub(crate) struct PlainModules {
    segments: HashSet<String>,
    /// The first segments of those, in order: most segments of a path begin none.
    first: Vec<String>,
    patterns: RegexSet,
}

/// Patterns beyond which those that are none are not sorted out.
const MOST_PATTERNS: usize = 1000;

impl PlainModules {
    /// The lists of a description.
    pub(crate) fn of(quantization: &Value) -> PlainModules {
        let (mut segments, mut patterns) = (HashSet::new(), Vec::new());
        let lists = schemes::plain_lists().into_iter().filter_map(|key| quantization.get(key)?.as_array());
        for entry in lists.flatten().filter_map(Value::as_str) {
            match pattern(entry) {
                Some(pattern) => patterns.push(pattern),
                None => drop(segments.insert(entry.to_owned())),
            }
        }
        let mut first: Vec<String> = segments.iter().map(|entry| first_segment(entry).to_owned()).collect();
        first.sort_unstable();
        first.dedup();
        PlainModules { segments, first, patterns: set(patterns) }
    }

    /// Whether it leaves `module` plain.
    pub(crate) fn has(&self, module: &str) -> bool {
        self.names(module) || !self.patterns.is_empty() && self.patterns.is_match(module)
    }

    /// Whether an entry is some whole segments of the path.
    fn names(&self, module: &str) -> bool {
        let mut from = 0;
        for segment in module.split('.').take_while(|_| !self.segments.is_empty()) {
            let is_first = self.first.binary_search_by(|first| first.as_str().cmp(segment)).is_ok();
            if is_first && self.begins(&module[from..]) {
                return true;
            }
            from += segment.len() + 1;
        }
        false
    }

    /// Whether an entry is the first segments of a path, or all of it.
    fn begins(&self, path: &str) -> bool {
        let mut ends = path.match_indices('.').map(|(at, _)| at).chain([path.len()]);
        ends.any(|end| end > 0 && self.segments.contains(&path[..end]))
    }
}

fn first_segment(path: &str) -> &str {
    path.split('.').next().unwrap_or(path)
}

/// All patterns as one; what cannot be read explains nothing.
fn set(mut patterns: Vec<String>) -> RegexSet {
    if let Ok(set) = RegexSet::new(&patterns) {
        return set;
    }
    patterns.truncate(MOST_PATTERNS);
    patterns.retain(|pattern| Regex::new(pattern).is_ok());
    RegexSet::new(patterns).unwrap_or_default()
}

/// The expression that an entry is, if it is a pattern.
fn pattern(entry: &str) -> Option<String> {
    if let Some(pattern) = entry.strip_prefix("re:") {
        return Some(format!("^(?:{pattern})"));
    }
    entry.contains('*').then(|| format!(r"^(?:{})(?:\.|$)", regex::escape(entry).replace(r"\*", ".*")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn entries_are_paths_segments_and_patterns() {
        let list =
            ["lm_head", "re:.*self_attn.*", "model.layers.*.mlp.router", "*vision*", "re:(", "mlp.shared"];
        let plain = PlainModules::of(&json!({ "ignore": list }));
        for (module, is_plain) in [
            ("lm_head", true),
            ("model.layers.3.self_attn.q_proj", true),
            ("model.layers.12.mlp.router", true),
            ("model.layers.12.mlp.router.inner", true),
            ("model.layers.12.mlp.routers", false),
            ("model.layers.3.mlp.experts.0.up_proj", false),
            ("model.vision_tower.blocks.0", true),
            ("model.layers.3.mlp.shared.up_proj", true),
            ("model.layers.3.mlp.shared_up", false),
        ] {
            assert_eq!(plain.has(module), is_plain, "{module}");
        }
        assert!(!PlainModules::of(&json!({})).has("lm_head"));
        assert!(PlainModules::of(&json!({"llm_int8_skip_modules": ["lm_head"]})).has("model.lm_head"));
    }
}
