//! What is seen of a merge: events and the reporters that show them, errors, and the texts of plans, reports and summaries.
//!
//! A merge sends [`event::Event`]s; a [`Reporter`] shows them on a terminal, as lines, as JSON, or not at all. One file per
//! reporter; [`choose`] picks. `plan`, `inspect` and the summary share labels, numbers and one table, in which names that
//! differ by a layer are one row.

pub(crate) mod adapter;
pub(crate) mod bar;
pub(crate) mod bottleneck;
pub(crate) mod checkpoint;
pub(crate) mod event;
pub(crate) mod failure;
pub(crate) mod groups;
pub(crate) mod joined;
pub(crate) mod json;
pub(crate) mod lines;
pub(crate) mod log;
pub(crate) mod noted;
pub(crate) mod page;
pub(crate) mod plan;
pub(crate) mod probe;
pub(crate) mod profile;
pub(crate) mod rate;
pub(crate) mod say;
pub(crate) mod screen;
pub(crate) mod style;
pub(crate) mod summary;
pub(crate) mod table;
pub(crate) mod terminal;
pub(crate) mod totals;
pub(crate) mod words;

use crate::cancel::Cancel;
use crate::error::Error;
use crate::error::run::RunError;
use crate::report::event::Reporter;
use crate::report::say::say;
use crate::report::style::Style;
use crate::report::terminal::Terminal;

/// The reporter for a style on a terminal; `cancel` is set when the run is asked to end.
pub fn choose(style: Style, terminal: Terminal, cancel: &Cancel) -> Box<dyn Reporter> {
    match style {
        Style::Json => Box::new(json::Json::default()),
        Style::Quiet => Box::new(lines::Quiet),
        Style::Human | Style::Verbose if terminal.redraws => {
            Box::new(bar::Bar::new(style, terminal, cancel.clone()))
        }
        Style::Human | Style::Verbose => Box::new(lines::Lines::new(style, terminal)),
    }
}

/// Lets a panic be told in the style of the run, which then ends with an error of its own. Where a panic ends the process, as in
/// what is released, it ends here, with the same error.
pub(crate) fn tell_of_panics(style: Style) {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        match style {
            Style::Json => {
                say(&format!("{}\n", serde_json::json!({"event": "panic", "message": panic.to_string()})));
            }
            _ => default(panic),
        }
        if cfg!(panic = "abort") {
            let error = Error::from(RunError::Panicked { stage: "program" });
            show_error(&error, style);
            std::process::exit(error.exit_code() as i32);
        }
    }));
}

/// Prints an error to stderr, as text or as JSON lines.
pub(crate) fn show_error(error: &Error, style: Style) {
    match style {
        Style::Json => failure::json(error).iter().for_each(|line| say(&format!("{line}\n"))),
        _ => say(&failure::text(error, Terminal::of_stderr())),
    }
}
