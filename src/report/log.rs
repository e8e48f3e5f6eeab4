//! A log file: everything that happens as JSON lines with the time, whatever the terminal shows.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::error::Error;
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
    pub(crate) fn line(&self, mut object: Value) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        object["time"] = json!(now.as_millis() as f64 / 1000.0);
        self.0.append(&format!("{object}\n"));
    }

    /// Writes each error that `error` stands for.
    pub(crate) fn error(&self, error: &Error) {
        failure::json(error).into_iter().for_each(|object| self.line(object));
    }
}

/// Shows events, and writes them to a log too.
pub(crate) struct Logged {
    shown: Box<dyn Reporter>,
    log: Log,
    objects: Objects,
}

impl Logged {
    /// What is shown by `shown` goes to `log` too.
    pub(crate) fn new(shown: Box<dyn Reporter>, log: Log) -> Logged {
        Logged { shown, log, objects: Objects::default() }
    }
}

impl Reporter for Logged {
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
