//! A log file: everything that happens as JSON lines with the time, whatever the terminal shows.

use std::ffi::OsString;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::error::Error;
use crate::error::exit::Code;
use crate::storage::log_file::LogFile;

use crate::report::event::{Event, Reporter};
use crate::report::failure;
use crate::report::json::Objects;

/// A log file that several places write to.
#[derive(Clone)]
pub(crate) struct Log(Arc<LogFile>);

impl Log {
    /// One that is written to `file`.
    pub(crate) fn new(file: LogFile) -> Log {
        Log(Arc::new(file))
    }

    /// Writes an object with the time, in seconds since 1970.
    fn line(&self, mut object: Value) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        object["time"] = json!(now.as_millis() as f64 / 1000.0);
        self.0.append(&format!("{object}\n"));
    }

    /// Writes what runs, of which version.
    pub(crate) fn started(&self, args: &[OsString], version: &str) {
        let args: Vec<_> = args.iter().map(|arg| arg.to_string_lossy()).collect();
        let process = std::process::id();
        self.line(json!({"event": "started", "version": version, "args": args, "process": process}));
    }

    /// Writes what it ended with: each error that `error` stands for, and the code.
    pub(crate) fn ended(&self, error: Option<&Error>) {
        error.iter().flat_map(|error| failure::json(error)).for_each(|object| self.line(object));
        let code = error.map_or(Code::Done, Error::exit_code);
        self.line(json!({"event": "ended", "exit_code": code as u8}));
    }
}

/// Shows events, and writes them to a log too.
pub(crate) struct Logged<'r> {
    shown: Box<dyn Reporter + 'r>,
    log: Log,
    objects: Objects,
}

impl<'r> Logged<'r> {
    /// What is shown by `shown` goes to `log` too.
    pub(crate) fn new(shown: Box<dyn Reporter + 'r>, log: Log) -> Logged<'r> {
        Logged { shown, log, objects: Objects::default() }
    }
}

impl Reporter for Logged<'_> {
    fn event(&mut self, event: &Event<'_>) {
        self.shown.event(event);
        let object = match event {
            Event::Finished(summary) => {
                let mut object = json!(summary);
                object["event"] = json!("finished");
                Some(object)
            }
            _ => self.objects.of(event),
        };
        object.into_iter().for_each(|object| self.log.line(object));
    }
}
