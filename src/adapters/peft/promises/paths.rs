//! Paths by their kind: what differs from another by numbers alone is of the same kind, as modules of two layers are.

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::model::names::experts::canonical;

fn is_number(segment: &str) -> bool {
    !segment.is_empty() && segment.bytes().all(|byte| byte.is_ascii_digit())
}

/// The numbers of a path, as they are spelt.
pub(crate) fn numbers(path: &str) -> impl Iterator<Item = &str> {
    path.split('.').filter(|segment| is_number(segment))
}

/// The first number of a path: that of its layer.
pub(crate) fn first_number(path: &str) -> Option<u64> {
    numbers(path).next()?.parse().ok()
}

/// A path with the numbers of another in place of its own; none if one has more than the other.
pub(crate) fn with_numbers(path: &str, of: &str) -> Option<String> {
    let mut others = numbers(of);
    let segments: Option<Vec<&str>> = path
        .split('.')
        .map(|segment| if is_number(segment) { others.next() } else { Some(segment) })
        .collect();
    segments.filter(|_| others.next().is_none()).map(|segments| segments.join("."))
}

/// A path with another first number.
pub(crate) fn in_layer(path: &str, layer: u64) -> String {
    let layer = layer.to_string();
    let mut is_open = true;
    let mut segments = Vec::new();
    for segment in path.split('.') {
        let is_first = is_open && is_number(segment);
        is_open &= !is_first;
        segments.push(if is_first { &layer } else { segment });
    }
    segments.join(".")
}

/// A hash of a path, the same for all spellings of an expert's projections.
pub(crate) fn hash_of(path: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    canonical(path).hash(&mut hasher);
    hasher.finish()
}

/// The same of its kind.
pub(crate) fn hash_of_kind(path: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    for segment in canonical(path).split('.') {
        (if is_number(segment) { "*" } else { segment }).hash(&mut hasher);
    }
    hasher.finish()
}

/// The last segment of a path that is no number: paths of one kind, in one spelling, have the same.
pub(crate) fn leaf_of_kind(path: &str) -> &str {
    path.rsplit('.').find(|segment| !is_number(segment)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_a_kind_differ_by_numbers() {
        let [a, b] = ["model.layers.0.mlp.experts.3.w1", "model.layers.12.mlp.experts.0.gate_proj"];
        assert_eq!(hash_of_kind(a), hash_of_kind(b));
        assert_ne!(hash_of_kind(a), hash_of_kind("model.layers.0.mlp.experts.3.up_proj"));
        assert_ne!(hash_of(a), hash_of(b));
        assert_eq!(hash_of(a), hash_of("model.layers.0.mlp.experts.3.gate_proj"));
        assert_eq!(["m.experts.w.3", "m.q", "7"].map(leaf_of_kind), ["w", "q", ""]);
        assert_eq!(first_number(b), Some(12));
        assert_eq!(with_numbers("h.1.x.2.y", "model.5.6").as_deref(), Some("h.5.x.6.y"));
        assert_eq!(with_numbers("h.1.y", "model.5.6"), None);
        assert_eq!(in_layer("h.1.x.2.y", 7), "h.7.x.2.y");
        assert_eq!(with_numbers("h.1.x.2.y", "model.5"), None);
    }
}
