//! JSON objects, one a line, on stderr; the summary goes to stdout, which is the command's to print.

use std::time::Instant;

use serde_json::{Value, json};

use crate::memory::process::process;
use crate::note::Note;
use crate::pipeline::progress::Snapshot;
use crate::schedule::budget::Schedule;
use crate::storage::io::choice::IoChoice;

use crate::report::event::{Event, Reporter};
use crate::report::lines::EVERY;
use crate::report::rate::Rate;
use crate::report::say::say;

/// JSON lines on stderr.
#[derive(Default)]
pub(crate) struct Json(Objects);

impl Reporter for Json {
    fn event(&mut self, event: &Event<'_>) {
        if let Some(object) = self.0.of(event) {
            say(&format!("{object}\n"));
        }
    }
}

/// Events as JSON objects.
#[derive(Default)]
pub(crate) struct Objects {
    clock: Option<(Rate, Instant)>,
}

impl Objects {
    /// The object of an event, if it has one; progress now and then only.
    pub(crate) fn of(&mut self, event: &Event<'_>) -> Option<Value> {
        match event {
            Event::Note(note) => Some(note_object(note)),
            Event::Budget { schedule, reason, io } => {
                self.clock = None;
                Some(budget(schedule, reason, io))
            }
            Event::Fetching { what, files, total_bytes } => {
                self.clock = None;
                Some(json!({"event": "fetching", "what": what, "files": files, "total_bytes": total_bytes}))
            }
            Event::Checking { total_bytes } => Some(json!({"event": "checking", "total_bytes": total_bytes})),
            Event::Joining { parts, total_bytes } => {
                Some(json!({"event": "joining", "parts": parts, "total_bytes": total_bytes}))
            }
            Event::Verifying { total_bytes } => {
                Some(json!({"event": "verifying", "total_bytes": total_bytes}))
            }
            Event::KeepingUndo { total_bytes } => {
                self.clock = None;
                Some(json!({"event": "keeping_undo", "total_bytes": total_bytes}))
            }
            Event::Reading { what, total_bytes } => Some(json!({"event": what, "total_bytes": total_bytes})),
            Event::Continuing { total_bytes } => {
                Some(json!({"event": "continuing", "total_bytes": total_bytes}))
            }
            Event::MergingAgain { total_bytes, files } => {
                self.clock = None;
                Some(json!({"event": "merging_again", "total_bytes": total_bytes, "files": files}))
            }
            Event::Progress(now) => self.progress(now),
            Event::Finished(_) => None,
        }
    }

    fn progress(&mut self, now: &Snapshot) -> Option<Value> {
        let (rate, last) = self.clock.get_or_insert_with(|| (Rate::from(now.written_bytes), Instant::now()));
        if last.elapsed() < EVERY {
            return None;
        }
        *last = Instant::now();
        Some(json!({
            "event": "progress",
            "written_bytes": now.written_bytes,
            "total_bytes": now.total_bytes,
            "bytes_per_second": rate.per_second(now.written_bytes).round(),
            "seconds_left": rate.left(now.written_bytes, now.total_bytes).map(|left| left.as_secs()),
            "shard": now.shard + 1,
            "shards": now.shards,
            "held_bytes": now.held_bytes,
            "peak_rss": process().peak,
        }))
    }
}

/// The note's kind and values, and its text.
fn note_object(note: &Note) -> Value {
    let mut object = json!(note);
    object["event"] = json!("note");
    object["text"] = json!(note.to_string());
    object
}

fn budget(schedule: &Schedule, reason: &str, io: &IoChoice) -> Value {
    json!({
        "event": "budget",
        "budget": schedule.budget,
        "reason": reason,
        "io": io,
        "workers": schedule.workers,
        "slabs": schedule.cut.slabs,
        "slab_bytes": schedule.cut.slab_bytes,
        "slots": schedule.cut.slots,
        "slot_bytes": schedule.cut.slot_bytes,
    })
}
