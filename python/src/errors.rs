//! Errors as exceptions: which class, the module's Python half says.

use pyo3::prelude::*;
use shardfold::Error;

/// The exception for an error: its class is that of the exit code, its text what the command prints.
pub(crate) fn to_python(py: Python<'_>, error: &Error) -> PyErr {
    let one = error.each().first().filter(|_| error.each().len() == 1);
    let hint = one.and_then(Error::advice);
    let exception = py
        .import("shardfold._errors")
        .and_then(|module| module.call_method1("exception", (error.exit_code() as u8, error.text(), hint)));
    exception.map_or_else(|error| error, PyErr::from_value)
}
