//! IA³'s option: which modules have their vectors on their inputs.

use serde_json::Value;

use crate::adapters::peft::config::AdapterConfig;
use crate::adapters::peft::python_regex::{PythonPattern, Unreadable};
use crate::adapters::problem::Problem;

/// The field that says it.
pub(crate) const FIELD: &str = "feedforward_modules";

/// The modules with vectors on their inputs, by PEFT's rule (`_check_target_module_feedforward`).
#[derive(Clone, Debug)]
pub(crate) enum Feedforward {
    /// The config does not say.
    Unsaid,
    /// An expression for the whole path, or what is wrong with it.
    Pattern(String, Result<PythonPattern, Problem>),
    /// Ends of paths, whether or not a segment begins there.
    Ends(Vec<String>),
}

impl Feedforward {
    /// Reads it.
    pub(crate) fn read(config: &AdapterConfig) -> Feedforward {
        match config.get(FIELD) {
            Some(Value::String(pattern)) => {
                let read = PythonPattern::full(pattern).map_err(|cause| unreadable(pattern, cause));
                Feedforward::Pattern(pattern.clone(), read)
            }
            Some(Value::Array(_)) => {
                Feedforward::Ends(config.list(FIELD).into_iter().map(str::to_owned).collect())
            }
            _ => Feedforward::Unsaid,
        }
    }

    /// Whether a module is one of them; none where the config does not say.
    ///
    /// # Errors
    /// A pattern that cannot be read, or on which it takes too long to tell.
    pub(crate) fn has(&self, module: &str) -> Result<Option<bool>, Problem> {
        match self {
            Feedforward::Unsaid => Ok(None),
            Feedforward::Ends(ends) => Ok(Some(ends.iter().any(|end| module.ends_with(end.as_str())))),
            Feedforward::Pattern(pattern, read) => {
                let expression = read.as_ref().map_err(Clone::clone)?;
                expression.is_match(module).map(Some).map_err(|cause| unreadable(pattern, cause))
            }
        }
    }
}

fn unreadable(pattern: &str, cause: Unreadable) -> Problem {
    Problem::Pattern { field: FIELD.to_owned(), pattern: pattern.to_owned(), cause }
}
