//! Lines on stderr: for logs, every ten seconds; or nothing.

use std::time::{Duration, Instant};

use crate::memory::process::process;
use crate::note::Note;
use crate::pipeline::progress::Snapshot;
use crate::plan::output_files::UNDO;
use crate::schedule::budget::Schedule;
use crate::storage::io::choice::IoChoice;
use crate::tensor::size::{show_rate, show_size};

use crate::report::event::{Event, Reporter};
use crate::report::rate::{Rate, show};
use crate::report::say::say;
use crate::report::style::Style;
use crate::report::terminal::Terminal;
use crate::report::words::{counted, printable};

/// Time between two lines.
pub(crate) const EVERY: Duration = Duration::from_secs(10);

/// A line every ten seconds.
pub(crate) struct Lines {
    style: Style,
    terminal: Terminal,
    clock: Option<(Rate, Instant)>,
}

impl Lines {
    /// Lines of which none is written yet.
    pub(crate) fn new(style: Style, terminal: Terminal) -> Lines {
        Lines { style, terminal, clock: None }
    }

    fn progress(&mut self, now: &Snapshot) {
        let (rate, last) = self.clock.get_or_insert_with(|| (Rate::from(now.written_bytes), Instant::now()));
        if last.elapsed() < EVERY {
            return;
        }
        *last = Instant::now();
        let left = rate.left(now.written_bytes, now.total_bytes);
        say(&format!(
            "{} of {}, {}, {} left, shard {}/{}, RSS {}\n",
            show_size(now.written_bytes),
            show_size(now.total_bytes),
            show_rate(rate.per_second(now.written_bytes)),
            left.map_or_else(|| "...".to_owned(), show),
            now.shard + 1,
            now.shards,
            show_size(process().resident),
        ));
    }
}

impl Reporter for Lines {
    fn event(&mut self, event: &Event<'_>) {
        match event {
            Event::Note(note) if note.is_detail() && self.style != Style::Verbose => {}
            Event::Note(note) => say(&note_line(note, self.terminal)),
            Event::Budget { schedule, reason, io } => {
                self.clock = None;
                say(&budget_lines(schedule, reason, io, self.style));
            }
            Event::Fetching { what, files, total_bytes } => {
                self.clock = None;
                say(&fetching_line(what, *files, *total_bytes));
            }
            Event::Checking { total_bytes } => say(&checking_line(*total_bytes)),
            Event::Joining { parts, total_bytes } => say(&joining_line(*parts, *total_bytes)),
            Event::Verifying { total_bytes } => say(&verifying_line(*total_bytes)),
            Event::KeepingUndo { total_bytes } => {
                self.clock = None;
                say(&undo_line(*total_bytes));
            }
            Event::Reading { what, total_bytes } => say(&reading_line(what, *total_bytes)),
            Event::Continuing { total_bytes } => say(&continuing_line(*total_bytes)),
            Event::MergingAgain { total_bytes, files } => {
                self.clock = None;
                say(&merging_again_line(*total_bytes, files));
            }
            Event::Progress(now) => self.progress(now),
            Event::Finished(_) => {}
        }
    }
}

/// Nothing: errors are not events.
pub(crate) struct Quiet;

impl Reporter for Quiet {
    fn event(&mut self, _: &Event<'_>) {}
}

/// A note, on a line of its own.
pub(crate) fn note_line(note: &Note, terminal: Terminal) -> String {
    format!("{} {}\n", terminal.note(), printable(&note.to_string()))
}

/// That files of the hub are put into its cache.
pub(crate) fn fetching_line(what: &str, files: usize, total_bytes: u64) -> String {
    let (files, size) = (counted(files, ["file", "files"]), show_size(total_bytes));
    format!("fetching `{}` into the Hugging Face cache: {files} of {size}\n", printable(what))
}

/// That a finished output is being looked at.
pub(crate) fn checking_line(total_bytes: u64) -> String {
    format!("OUTPUT is finished: checking the hashes of its {}\n", show_size(total_bytes))
}

/// That parts are joined.
pub(crate) fn joining_line(parts: u32, total_bytes: u64) -> String {
    format!("joining {} of {}\n", counted(parts, ["part", "parts"]), show_size(total_bytes))
}

/// That a directory is being verified.
pub(crate) fn verifying_line(total_bytes: u64) -> String {
    format!("verifying {}\n", show_size(total_bytes))
}

/// That what undoes a merge is written.
pub(crate) fn undo_line(total_bytes: u64) -> String {
    format!("writing `{UNDO}`: comparing {} with the base\n", show_size(total_bytes))
}

/// That values of checkpoints are read.
pub(crate) fn reading_line(what: &str, total_bytes: u64) -> String {
    format!("{what} {}\n", show_size(total_bytes))
}

/// That a merge goes on.
pub(crate) fn continuing_line(total_bytes: u64) -> String {
    format!("going on with an interrupted merge: checking the {} that it left\n", show_size(total_bytes))
}

/// That a finished output is compared with what the merge gives now.
pub(crate) fn merging_again_line(total_bytes: u64, files: &[String]) -> String {
    let first = files.first().map_or("", String::as_str);
    let more = if files.len() > 1 { format!(" and {} more", files.len() - 1) } else { String::new() };
    let text = format!(
        "`{first}`{more} may have changed since OUTPUT was made: checking its {} against another merge that writes nothing",
        show_size(total_bytes)
    );
    printable(&text) + "\n"
}

/// The budget in one line, and for [`Style::Verbose`] how it is spent.
pub(crate) fn budget_lines(schedule: &Schedule, reason: &str, io: &IoChoice, style: Style) -> String {
    let mut text = format!("memory budget {}\n", budget(schedule, reason, io, style));
    if style == Style::Verbose {
        text.push_str(&buffers(schedule));
    }
    text
}

/// `94 MiB (automatic; 23.6 GiB available), 2 workers`, and the way of I/O if that is worth a word.
pub(crate) fn budget(schedule: &Schedule, reason: &str, io: &IoChoice, style: Style) -> String {
    let workers = counted(schedule.workers, ["worker", "workers"]);
    let io = if io.is_unusual || style == Style::Verbose { format!(", {io}") } else { String::new() };
    format!("{} ({reason}), {workers}{io}", schedule.budget.total)
}

/// The lines of the budget, and the buffers of the pool.
pub(crate) fn buffers(schedule: &Schedule) -> String {
    let mut text = String::new();
    for line in &schedule.budget.lines {
        text.push_str(&format!("  {:>9}  {}\n", show_size(line.bytes), line.what));
    }
    let cut = schedule.cut;
    text.push_str(&format!(
        "  {} of {}, {} of {}\n",
        counted(cut.slabs, ["slab", "slabs"]),
        show_size(cut.slab_bytes as u64),
        counted(cut.slots, ["factor slot", "factor slots"]),
        show_size(cut.slot_bytes as u64),
    ));
    text
}
