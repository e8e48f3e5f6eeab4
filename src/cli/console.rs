//! Where a command's words go: to stderr in the style that was asked for, and to a log file if one was named.

use std::error::Error as _;
use std::ffi::OsString;
use std::path::Path;

use crate::cancel::Cancel;
use crate::error::exit::Code;
use crate::error::{Error, Result};
use crate::merge::fetch::fetch_inputs;
use crate::merge::request::Request;
use crate::note::Note;
use crate::note::input::InputNote;
use crate::report::choose;
use crate::report::event::{Event, Reporter};
use crate::report::log::{Log, Logged};
use crate::report::show_error;
use crate::report::style::Style;
use crate::report::terminal::Terminal;
use crate::storage::log_file::LogFile;

use crate::cli::version::version;

/// Where a command's words go.
pub(crate) struct Console {
    style: Style,
    log: Option<Log>,
}

impl Console {
    /// One in a style, with a log if there is one: its first line says what runs.
    pub(crate) fn new(style: Style, log: Option<Log>, args: &[OsString]) -> Console {
        log.iter().for_each(|log| log.started(args, version()));
        Console { style, log }
    }

    /// What shows events, after it has shown these notes.
    pub(crate) fn reporter(&self, cancel: &Cancel, notes: &[Note]) -> Box<dyn Reporter> {
        let shown = choose(self.style, Terminal::of_stderr(), cancel);
        let mut reporter: Box<dyn Reporter> = match &self.log {
            Some(log) => Box::new(Logged::new(shown, log.clone())),
            None => shown,
        };
        for note in notes {
            reporter.event(&Event::Note(note));
        }
        reporter
    }

    /// Fetches what is to be kept of the hub, and shows how far that is.
    ///
    /// # Errors
    /// As [`fetch_inputs`].
    pub(crate) fn fetch(&self, request: &Request) -> Result<()> {
        fetch_inputs(request, self.reporter(&request.cancel, &[]).as_mut())
    }

    /// Shows notes before there is anything to cancel.
    pub(crate) fn notes(&self, notes: &[Note]) {
        self.reporter(&Cancel::default(), notes);
    }

    /// Shows the error that a command ended with, if there is one, and returns the code that the process ends with.
    pub(crate) fn end(&self, error: Option<&Error>) -> Code {
        let code = error.map_or(Code::Done, Error::exit_code);
        if let Some(error) = error {
            show_error(error, self.style);
        }
        self.log.iter().for_each(|log| log.ended(error));
        code
    }
}

/// The log file that was asked for, or why there is none: a log stops nothing.
pub(crate) fn open_log(path: Option<&Path>) -> (Option<Log>, Option<Note>) {
    let Some(path) = path else { return (None, None) };
    match LogFile::open(path) {
        Ok(file) => (Some(Log::new(file)), None),
        Err(error) => {
            let cause = error.source().map(ToString::to_string).unwrap_or_default();
            (None, Some(InputNote::LogUnwritable { path: path.display().to_string(), cause }.into()))
        }
    }
}
