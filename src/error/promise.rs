//! Promises of an adapter's config that its file does not keep.

use std::fmt;

/// Why something must be in an adapter's file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the text of each says what it is")]
pub enum Promise {
    /// The field selects it, as it does others of its kind, which are there.
    Selected { field: &'static str },
    /// It is trained whole.
    Saved { field: &'static str },
    /// Some of its rows are trained.
    Tokens { field: String },
    /// Biases are trained.
    Bias { field: &'static str, value: String },
    /// The task needs it and the base has none: the head, or a module before it.
    Head { field: &'static str, task: String, what: &'static str },
    /// It is there, without elements.
    Elements,
}

impl Promise {
    /// The field that promises.
    pub(crate) fn field(&self) -> &str {
        match self {
            Promise::Selected { field }
            | Promise::Saved { field }
            | Promise::Bias { field, .. }
            | Promise::Head { field, .. } => field,
            Promise::Tokens { field } => field,
            Promise::Elements => "tensors",
        }
    }

    /// What helps.
    pub(crate) fn cure(&self) -> &'static str {
        match self {
            Promise::Head { .. } => {
                "training that does not save it leaves it as it began: save the adapter again with it in `modules_to_save`"
            }
            _ => NOT_WHOLE,
        }
    }
}

/// The cure of what a save or a download cut short.
pub(crate) const NOT_WHOLE: &str = "the adapter was not saved whole: save it again, or get the whole file";

/// As it follows on "has no tensor for `x`, ".
impl fmt::Display for Promise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Promise::Selected { field } => {
                write!(f, "which its `{field}` selects as it does others of their kind")
            }
            Promise::Saved { field } => write!(f, "which its `{field}` names"),
            Promise::Tokens { field } => write!(f, "which its `{field}` names tokens of"),
            Promise::Bias { field, value } => write!(f, "which its `{field}` `{value}` says were trained"),
            Promise::Head { field, task, what } => {
                write!(f, "the {what} that its `{field}` `{task}` needs, and the base has none either")
            }
            Promise::Elements => f.write_str(
                "whose tensors in the file have no elements: they were saved before they were gathered",
            ),
        }
    }
}
