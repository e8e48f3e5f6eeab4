//! What a command prints, and through whom.

use crate::cancel::Cancel;
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

/// Prints to stdout; a reader that has gone away is no error.
pub(crate) fn print(text: &str) {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
