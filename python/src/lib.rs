//! `shardfold._shardfold`, the native half of the Python module: the command, the commands as functions, and the reader of merged
//! tensors. What is Python's to say (names of flags, types of arrays, slices, classes of errors) is said in Python beside it.

mod background;
mod errors;
mod reader;

use std::ffi::OsString;

use pyo3::prelude::*;
use shardfold::Cancel;

use crate::background::{Listener, in_background};

/// Runs the command with these arguments, behind the name of the program, and returns the code to end with. It prints, and listens
/// to signals, as the binary does.
#[pyfunction]
fn run(py: Python<'_>, args: Vec<OsString>) -> u8 {
    let args: Vec<OsString> = std::iter::once("shardfold".into()).chain(args).collect();
    py.detach(|| shardfold::run_command(&args)) as u8
}

/// Runs a command and returns the JSON document that it prints with `--json`. `note` is called with the text of every note,
/// `progress`, if it is not None, with the numbers of every look at how far it is.
#[pyfunction]
#[pyo3(signature = (args, note, progress))]
fn call(
    py: Python<'_>,
    args: Vec<OsString>,
    note: Bound<'_, PyAny>,
    progress: Option<Bound<'_, PyAny>>,
) -> PyResult<String> {
    let cancel = Cancel::default();
    let listener = Listener { note: Some(note), progress };
    in_background(py, &cancel, &listener, |reporter| shardfold::call(&args, &cancel, reporter))
}

/// The module.
#[pymodule]
fn _shardfold(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_function(wrap_pyfunction!(run, module)?)?;
    module.add_function(wrap_pyfunction!(call, module)?)?;
    module.add_class::<reader::Reader>()
}
