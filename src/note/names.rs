//! Notes of adapter keys and the tensors they mean.

use crate::error::path_reading::PathReading;
use crate::note::declare::{first_of, verb};

notes! {
    /// A note of adapter keys and the tensors they mean.
    NameNote {
        WrapperRemoved { adapter: String, wrapper: String, keys: usize } =>
            ("took `{wrapper}.` off {keys} keys of `{adapter}`"),
        Resolved { adapter: String, reading: PathReading } =>
            ("`{adapter}`: adapter keys resolved {reading}"),
        Ignored { keys: Vec<String>, rule: &'static str } =>
            ("ignored {}: {rule}", first_of(keys)),
        UnmatchedAllowed { keys: Vec<String> } => (
            "{} {} no base tensor; skipped (--allow-unmatched)",
            first_of(keys),
            verb(keys.len(), ["matches", "match"])
        ),
        TargetsWithoutTensor { adapter: String, field: String, entries: Vec<String> } => (
            "`{adapter}` has no tensor for `{}` of its `{field}`, which need not be in the model that it was trained on",
            entries.join("`, `")
        ),
        PatternUnchecked { adapter: String, pattern: String, cause: String } =>
            ("`{adapter}`: `target_modules` `{pattern}` cannot be checked: {cause}"),
        PatternUnmet { adapter: String, pattern: String } =>
            ("no module of `{adapter}` is one that `target_modules` `{pattern}` matches"),
    }
}
