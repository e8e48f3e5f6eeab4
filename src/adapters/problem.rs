//! Problem: an option of a wrong type or value, kept from when an adapter is opened until all that is wrong is reported.

use serde_json::Value;

use crate::adapters::peft::config::{bad_field, shortened, unreadable_pattern};
use crate::adapters::peft::python_regex::Unreadable;
use crate::error::Error;
use crate::error::adapter::AdapterError;

/// Something of a wrong type.
#[derive(Clone, Debug)]
pub(crate) enum Problem {
    /// A field with a value that cannot be.
    Value { field: String, value: Value, why: &'static str },
    /// A pattern that is no regular expression.
    Pattern { field: String, pattern: String, cause: Unreadable },
    /// A field whose object has an entry that nothing honours.
    Unknown { field: &'static str, value: Value, unknown: String },
}

impl Problem {
    /// The refusal of `adapter` for it.
    pub(crate) fn refused(&self, adapter: &str) -> Error {
        match self {
            Problem::Value { field, value, why } => bad_field(adapter, field, value, why),
            Problem::Pattern { field, pattern, cause } => {
                unreadable_pattern(adapter, field, pattern, cause.clone())
            }
            Problem::Unknown { field, value, unknown } => {
                let (adapter, value, unknown) = (adapter.to_owned(), shortened(value), unknown.clone());
                AdapterError::UnknownInField { adapter, field, value, unknown }.into()
            }
        }
    }
}
