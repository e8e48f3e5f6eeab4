//! Lines on stderr: for logs, every ten seconds; or nothing but notices.

#![expect(clippy::print_stderr, reason = "a reporter prints")]

use std::time::{Duration, Instant};

use crate::memory::process::process;
use crate::memory::size::{show_rate, show_size};
use crate::schedule::budget::Schedule;

use crate::report::rate::{Rate, show};
use crate::report::{Event, Reporter};

/// Time between two lines.
pub(crate) const EVERY: Duration = Duration::from_secs(10);

/// A line every ten seconds.
#[derive(Default)]
pub(crate) struct Lines {
    clock: Option<(Rate, Instant)>,
}

/// Notices only.
pub(crate) struct Quiet;

impl Reporter for Quiet {
    fn event(&mut self, event: &Event<'_>) {
        if let Event::Notice(text) = event {
            show_notice(text);
        }
    }
}

impl Reporter for Lines {
    fn event(&mut self, event: &Event<'_>) {
        match event {
            Event::Notice(text) => show_notice(text),
            Event::Budget { schedule, reason } => show_budget(schedule, reason),
            Event::Progress(now) => {
                let (rate, last) = self.clock.get_or_insert_with(|| (Rate::default(), Instant::now()));
                if last.elapsed() < EVERY {
                    return;
                }
                *last = Instant::now();
                let left = rate.left(now.written_bytes, now.total_bytes).map_or_else(|| "…".to_owned(), show);
                eprintln!(
                    "{} of {}, {}, {left} left, shard {}/{}, held {}, peak {}",
                    show_size(now.written_bytes),
                    show_size(now.total_bytes),
                    show_rate(rate.per_second(now.written_bytes)),
                    now.shard + 1,
                    now.shards,
                    show_size(now.held_bytes),
                    show_size(process().peak),
                );
            }
            Event::Finished(_) => {}
        }
    }
}

/// A notice, on a line of its own.
pub(crate) fn show_notice(text: &str) {
    eprintln!("note: {text}");
}

/// The budget in one line.
pub(crate) fn show_budget(schedule: &Schedule, reason: &str) {
    let cut = schedule.cut;
    eprintln!(
        "budget {} ({reason}): {} worker{}, {} slabs of {}, {} factor slots of {}",
        show_size(schedule.budget.total),
        schedule.workers,
        if schedule.workers == 1 { "" } else { "s" },
        cut.slabs,
        show_size(cut.slab_bytes as u64),
        cut.slots,
        show_size(cut.slot_bytes as u64),
    );
}
