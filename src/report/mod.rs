//! What is seen of a merge: events, and the reporters that show them.
//!
//! The job tells [`Event`]s; a [`Reporter`] shows them on a terminal, as lines, as JSON, or not at all. One file per
//! reporter; [`choose`] picks.

pub(crate) mod bar;
pub(crate) mod json;
pub(crate) mod lines;
pub(crate) mod rate;
pub(crate) mod summary;

use crate::pipeline::progress::Snapshot;
use crate::report::summary::Summary;
use crate::schedule::budget::Schedule;

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
    /// JSON objects.
    Json,
    /// Notices only.
    Quiet,
}

/// The reporter for a style; `is_terminal` says whether stderr is one.
pub fn choose(style: Style, is_terminal: bool) -> Box<dyn Reporter> {
    match style {
        Style::Json => Box::new(json::Json::default()),
        Style::Quiet => Box::new(lines::Quiet),
        Style::Human if is_terminal => Box::new(bar::Bar::default()),
        Style::Human => Box::new(lines::Lines::default()),
    }
}
