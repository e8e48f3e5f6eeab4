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
        MissingAllowed { adapter: String, promise: String, names: Vec<String> } => (
            "`{adapter}` has no tensor for {}, which its `{promise}` promises; skipped (--allow-missing)",
            first_of(names)
        ),
        BiasesNeverSaved { adapter: String, bias: String, biases: Vec<String> } => (
            "`{adapter}` was trained with `bias` `{bias}`, and PEFT up to 0.19.1 never saved the biases of that: {} {} what the \
             base has, and results can differ from those seen in training",
            first_of(biases),
            verb(biases.len(), ["stays", "stay"])
        ),
        PatternUnchecked { adapter: String, pattern: String, cause: String } =>
            ("`{adapter}`: `target_modules` `{pattern}` cannot be checked: {cause}"),
        PatternUnmet { adapter: String, pattern: String } =>
            ("no module of `{adapter}` is one that `target_modules` `{pattern}` matches"),
    }
}
