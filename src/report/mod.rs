//! What is seen of a merge: events and the reporters that show them, errors, and the texts of plans, reports and summaries.
//!
//! The job tells [`Event`]s; a [`Reporter`] shows them on a terminal, as lines, as JSON, or not at all. One file per
//! reporter; [`choose`] picks. `plan`, `inspect` and the summary share labels, numbers and one table, in which names that
//! differ by a layer are one row.

mod adapter;
mod bar;
mod checkpoint;
mod failure;
mod groups;
mod json;
mod lines;
mod plan;
mod rate;
mod screen;
mod summary;
mod table;
mod terminal;
mod totals;
mod words;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::error::Error;
use crate::pipeline::Snapshot;
use crate::schedule::Schedule;

pub(crate) use plan::{document, plan_text};
pub use summary::Summary;
pub(crate) use summary::lost;
pub use terminal::Terminal;

/// Something worth showing.
#[non_exhaustive]
pub enum Event<'e> {
    /// Something to know that is no error.
    Notice(&'e str),
    /// The run begins under this budget.
    Budget {
        /// Which.
        schedule: &'e Schedule,
        /// Why this much.
        reason: &'e str,
    },
    /// How far it is; about ten times a second.
    Progress(&'e Snapshot),
    /// It is done.
    Finished(&'e Summary),
}

/// Shows events.
pub trait Reporter {
    /// Shows one.
    fn event(&mut self, event: &Event<'_>);
}

/// What the user wants to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// A bar on a terminal, else a line now and then.
    Human,
    /// The same, and how the budget is spent.
    Verbose,
    /// JSON objects.
    Json,
    /// Errors only.
    Quiet,
}

/// The reporter for a style on a terminal; `stop` is raised when the run is asked to end.
pub fn choose(style: Style, terminal: Terminal, stop: &Arc<AtomicBool>) -> Box<dyn Reporter> {
    match style {
        Style::Json => Box::new(json::Json::default()),
        Style::Quiet => Box::new(lines::Quiet),
        Style::Human | Style::Verbose if terminal.redraws => {
            Box::new(bar::Bar::new(style, terminal, Arc::clone(stop)))
        }
        Style::Human | Style::Verbose => Box::new(lines::Lines::new(style, terminal)),
    }
}

/// Lets a panic be a JSON line too; the run then ends with an error of its own.
#[expect(clippy::print_stderr, reason = "panics go to stderr")]
pub(crate) fn show_panics_as_json() {
    std::panic::set_hook(Box::new(|panic| {
        eprintln!("{}", serde_json::json!({"event": "panic", "message": panic.to_string()}));
    }));
}

/// Prints an error to stderr, as text or as JSON lines.
#[expect(clippy::print_stderr, reason = "errors go to stderr")]
pub(crate) fn show_error(error: &Error, style: Style) {
    match style {
        Style::Json => failure::json(error).iter().for_each(|line| eprintln!("{line}")),
        _ => eprint!("{}", failure::text(error, Terminal::of_stderr())),
    }
}
