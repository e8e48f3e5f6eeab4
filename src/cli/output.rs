//! What a command prints, and through whom.

use std::io::Write;

use crate::cancel::Cancel;
use crate::error::storage::StorageError;
use crate::error::{Error, Result};
use crate::note::Note;
use crate::report::choose;
use crate::report::event::{Event, Reporter};
use crate::report::style::Style;
use crate::report::terminal::Terminal;

/// The reporter of a command, after it has shown these notes.
pub(crate) fn reporter(style: Style, cancel: &Cancel, notes: &[Note]) -> Box<dyn Reporter> {
    let mut reporter = choose(style, Terminal::of_stderr(), cancel);
    for note in notes {
        reporter.event(&Event::Note(note));
    }
    reporter
}

/// Prints what a command was asked for to stdout.
///
/// # Errors
/// [`StorageError::Write`], also when whoever read it has gone.
pub(crate) fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    let printed = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    printed.map_err(|cause| Error::new(StorageError::Write { path: "stdout".into() }).because(cause))
}
