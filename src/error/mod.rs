//! The one error type: what went wrong, where, what was expected and found, and how to cure it.
//!
//! An [`Error`] has a kind with the values that make up its message, perhaps a cause, and a hint where the cure is known.
//! Every kind maps to one exit code, in [`exit`]. The library never prints and never exits: the binary prints the chain.
//!
//! ```
//! use shardfold::{Code, Error, StorageError};
//!
//! let error = Error::from(StorageError::Missing { what: "directory", path: "base".into() }).hint("check the path");
//! assert_eq!(error.to_string(), "no directory at `base`");
//! assert_eq!(error.advice(), Some("check the path"));
//! assert_eq!(error.exit_code(), Code::NoInput);
//! ```
//!
//! Several errors are reported together, and end a process as the first of them does:
//!
//! ```
//! use shardfold::{Code, Error, ErrorKind, RequestError};
//!
//! let errors = vec![RequestError::Required { flag: "--output <DIR>" }.into(), ErrorKind::Stopped.into()];
//! let all = Error::all(errors).unwrap_err();
//! assert_eq!(all.to_string(), "2 errors");
//! assert_eq!(all.each().len(), 2);
//! assert_eq!(all.exit_code(), Code::Usage);
//! ```

pub(crate) mod adapter;
pub(crate) mod budget;
pub(crate) mod checkpoint;
pub(crate) mod claim;
pub(crate) mod conversion;
pub(crate) mod exit;
pub(crate) mod kind;
pub(crate) mod no_effect;
pub(crate) mod output;
pub(crate) mod parts;
pub(crate) mod path_reading;
pub(crate) mod plan;
pub(crate) mod promise;
pub(crate) mod quantized;
pub(crate) mod request;
pub(crate) mod run;
pub(crate) mod storage;
pub(crate) mod verify;

use crate::error::adapter::AdapterError;
use crate::error::checkpoint::CheckpointError;
use crate::error::claim::ClaimError;
use crate::error::kind::ErrorKind;
use crate::error::output::OutputError;
use crate::error::parts::PartsError;
use crate::error::plan::PlanError;
use crate::error::request::RequestError;
use crate::error::run::RunError;
use crate::error::storage::StorageError;
use crate::error::verify::VerifyError;
use std::collections::HashSet;
use std::error::Error as StdError;
use std::fmt;

/// Errors of one kind that are gathered: a file that is wrong everywhere needs no more memory than that.
pub(crate) const MOST_WRONG: usize = 1000;

/// What the library's functions return.
pub type Result<T> = std::result::Result<T, Error>;

/// An error with its cause and, where the cure is known, a hint.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    /// The errors that this one gathers.
    gathered: Vec<Error>,
    hint: Option<String>,
    cause: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error with neither cause nor hint.
    pub fn new(kind: impl Into<ErrorKind>) -> Error {
        Error(Box::new(Inner { kind: kind.into(), gathered: Vec::new(), hint: None, cause: None }))
    }

    /// All of `errors` as one, so that everything that is wrong is reported together; `Ok` if there are none. What two checks
    /// found alike is reported once. Of very many the first are kept, and the others counted.
    ///
    /// # Errors
    /// The one error as it is, or [`ErrorKind::Several`].
    pub fn all(mut errors: Vec<Error>) -> Result<()> {
        let (mut seen, mut more) = (HashSet::new(), 0);
        errors.retain(|error| {
            if seen.len() == MOST_WRONG {
                more += 1;
                return false;
            }
            seen.insert(format!("{error:?}"))
        });
        match errors.len() + more {
            0 => Ok(()),
            1 => Err(errors.remove(0)),
            count => {
                let mut all = Error::new(ErrorKind::Several { count });
                all.0.gathered = errors;
                Err(all)
            }
        }
    }

    /// Adds advice, printed on a line of its own.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Error {
        self.0.hint = Some(hint.into());
        self
    }

    /// Adds the cause, printed after the message.
    #[must_use]
    pub fn because(mut self, cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Error {
        self.0.cause = Some(cause.into());
        self
    }

    /// What went wrong.
    pub fn kind(&self) -> &ErrorKind {
        &self.0.kind
    }

    /// The advice, if there is any.
    pub fn advice(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// Itself changed by `change`, or with each of the errors changed that it gathers.
    #[must_use]
    pub fn map_each(mut self, change: &dyn Fn(Error) -> Error) -> Error {
        if self.0.gathered.is_empty() {
            return change(self);
        }
        self.0.gathered = std::mem::take(&mut self.0.gathered).into_iter().map(change).collect();
        self
    }

    /// The errors it stands for: itself, or those it gathers.
    pub fn each(&self) -> &[Error] {
        if self.0.gathered.is_empty() { std::slice::from_ref(self) } else { &self.0.gathered }
    }

    /// The code a process ends with because of it.
    pub fn exit_code(&self) -> exit::Code {
        exit::code_of(self.each()[0].kind())
    }
}

/// An error of a room, or a kind, becomes an error as it is.
macro_rules! becomes_error {
    ($($kind:ty),+ $(,)?) => {
        $(impl From<$kind> for Error {
            fn from(kind: $kind) -> Error {
                Error::new(kind)
            }
        })+
    };
}

becomes_error!(
    ErrorKind,
    StorageError,
    CheckpointError,
    AdapterError,
    ClaimError,
    PlanError,
    RunError,
    OutputError,
    PartsError,
    RequestError,
    VerifyError
);

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0.kind, f)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0.kind)?;
        if let Some(cause) = &self.0.cause {
            write!(f, " because {cause}")?;
        }
        if let Some(hint) = &self.0.hint {
            write!(f, " (hint: {hint})")?;
        }
        Ok(())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.cause.as_deref().map(|cause| cause as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_two_checks_found_alike_is_reported_once() {
        let required = |flag, hint: &str| Error::new(RequestError::Required { flag }).hint(hint);
        let all = vec![required("--base", "a"), required("--base", "a"), required("--base", "b")];
        assert_eq!(Error::all(all).unwrap_err().each().len(), 2, "another hint is another error");
        let one = Error::all(vec![required("--base", "a"), required("--base", "a")]).unwrap_err();
        assert!(matches!(one.kind(), ErrorKind::Request(RequestError::Required { .. })), "{one:?}");
        // Of very many, each is counted and the first are kept.
        let many = (0..3 * MOST_WRONG).map(|i| required("--base", &i.to_string()).because(i.to_string()));
        let many = Error::all(many.collect()).unwrap_err();
        assert_eq!((many.each().len(), many.to_string()), (MOST_WRONG, format!("{} errors", 3 * MOST_WRONG)));
        let caused = |cause: &'static str| required("--base", "a").because(cause);
        assert_eq!(Error::all(vec![caused("x"), caused("y")]).unwrap_err().each().len(), 2);
    }
}
