//! The profile of a run: a page that shows when each thread was at what, and the same as JSON.

use serde_json::{Value, json};

use crate::pipeline::clock::{Activity, ThreadTime};

use crate::report::bottleneck::Bottleneck;
use crate::report::summary::Summary;

/// The page, which needs nothing else; the data stand in place of the mark.
const PAGE: &str = include_str!("profile.html");
const MARK: &str = "@DATA@";

impl Summary {
    /// The profile as JSON. Times are seconds; pieces of a timeline lie one behind the other from the start of the run.
    pub(crate) fn profile_json(&self) -> Value {
        json!({
            "seconds": self.seconds,
            "output_bytes": self.output_bytes,
            "read_bytes": self.read_bytes,
            "io": self.io.mode,
            "limit": self.limit.map_or("none", Bottleneck::text),
            "activities": Activity::ALL,
            "threads": self.threads.iter().map(thread).collect::<Vec<_>>(),
        })
    }

    /// The same as a page that needs no other file.
    pub(crate) fn profile_html(&self) -> String {
        // The data stand inside a script element, which no text of theirs may end.
        PAGE.replace(MARK, &self.profile_json().to_string().replace('<', "\\u003c"))
    }
}

fn thread(thread: &ThreadTime) -> Value {
    json!({
        "stage": thread.stage,
        "seconds": thread.seconds,
        "shares": thread.shares.iter().map(|(_, share)| share).collect::<Vec<_>>(),
        "piece_seconds": thread.piece_seconds,
        "pieces": thread.pieces,
    })
}
