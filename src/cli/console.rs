//! Where a command's words go: to stderr in the style that was asked for, and to a log file if one was named.

use std::ffi::OsString;

use serde_json::json;

use crate::cancel::Cancel;
use crate::error::Error;
use crate::error::exit::Code;
use crate::note::Note;
use crate::report::choose;
use crate::report::event::{Event, Reporter};
use crate::report::log::{Log, Logged};
use crate::report::show_error;
use crate::report::style::Style;
use crate::report::terminal::Terminal;

use crate::cli::version::version;

/// Where a command's words go.
pub(crate) struct Console {
    style: Style,
    log: Option<Log>,
}

impl Console {
    /// One in a style, with a log if there is one: its first line says what runs.
    pub(crate) fn new(style: Style, log: Option<Log>, args: &[OsString]) -> Console {
        if let Some(log) = &log {
            let args: Vec<_> = args.iter().map(|arg| arg.to_string_lossy()).collect();
            let process = std::process::id();
            log.line(json!({"event": "started", "version": version(), "args": args, "process": process}));
        }
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
        if let Some(log) = &self.log {
            error.iter().for_each(|error| log.error(error));
            log.line(json!({"event": "ended", "exit_code": code as u8}));
        }
        code
    }
}
