//! Why an adapter changes nothing, of which a refusal tells and, where the user allows it, a note.

use serde::Serialize;

/// Why an adapter changes nothing.
#[derive(Clone, Debug, PartialEq, Serialize, thiserror::Error)]
#[serde(tag = "kind", rename_all = "kebab-case")]
#[non_exhaustive]
#[expect(
    missing_docs,
    reason = "the message above each variant says what it is, and its fields are the message's values"
)]
pub enum NoEffectReason {
    #[error("none of its tensors has a place in the base")]
    NoPlace,
    #[error("its weight is 0")]
    ZeroWeight,
    #[error("every delta is zero, such as that of `{module}`: {why}")]
    ZeroDeltas { module: String, why: &'static str },
    #[error("the base has the same values already")]
    SameValues,
    #[error("its deltas are too small to move any element of the base, or nothing at all")]
    TooSmall,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::plan::PlanError;
    use crate::note::plan::PlanNote;

    // Who reads JSON tells the reasons apart without reading their text.
    #[test]
    fn one_reason_is_shown_by_the_refusal_and_by_the_note() {
        let why = NoEffectReason::ZeroDeltas { module: "q_proj".to_owned(), why: "its scale is 0" };
        let text = "every delta is zero, such as that of `q_proj`: its scale is 0";
        let error = PlanError::NoEffect { adapter: "a".to_owned(), why: why.clone() };
        assert_eq!(error.to_string(), format!("adapter `a` has no effect: {text}"));
        let note = PlanNote::NoEffectAllowed { adapter: "a".to_owned(), why };
        assert_eq!(note.to_string(), format!("`a` has no effect, allowed by `--allow-noop`: {text}"));
        let json = serde_json::to_value(&note).expect("plain data");
        let why = serde_json::json!({"kind": "zero-deltas", "module": "q_proj", "why": "its scale is 0"});
        assert_eq!(json, serde_json::json!({"kind": "no-effect-allowed", "adapter": "a", "why": why}));
    }
}
