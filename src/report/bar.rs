//! A bar on a terminal.

use crate::cancel::Cancel;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::memory::process::process;
use crate::pipeline::progress::Snapshot;
use crate::tensor::size::{show_rate, show_size};

use crate::report::event::{Event, Reporter};
use crate::report::lines::{
    budget_lines, checking_line, continuing_line, fetching_line, joining_line, merging_again_line, note_line,
    reading_line, undo_line, verifying_line,
};
use crate::report::rate::{Rate, show};
use crate::report::say::say;
use crate::report::screen::Screen;
use crate::report::style::Style;
use crate::report::terminal::Terminal;

/// The bar takes what the message leaves.
const TEMPLATE: &str = "{wide_bar} {percent:>3}%  {msg}";
/// Full, growing, empty.
const ASCII: &str = "=> ";
/// The same as blocks.
const BLOCKS: &str = "█▉▊▋▌▍▎▏ ";
/// Columns that the bar keeps: where the terminal is too narrow for it and all numbers, numbers go, the least useful first.
const BAR_LEAST: usize = 10;
/// Columns between bar and message: a space, `100%`, two spaces.
const BETWEEN: usize = 7;

/// Draws a bar with bytes, speed, time left, memory and shard, until the run ends or is asked to stop.
pub(crate) struct Bar {
    style: Style,
    terminal: Terminal,
    stop: Cancel,
    drawn: Option<(ProgressBar, Rate)>,
}

impl Bar {
    /// A bar that nothing is drawn of yet.
    pub(crate) fn new(style: Style, terminal: Terminal, stop: Cancel) -> Bar {
        Bar { style, terminal, stop, drawn: None }
    }

    fn print(&self, text: &str) {
        match &self.drawn {
            Some((bar, _)) => bar.suspend(|| say(text)),
            None => say(text),
        }
    }

    fn draw(&mut self, now: &Snapshot) {
        // Whoever presses Ctrl-C gets the line back at once, also if the second one ends the process.
        if self.stop.is_cancelled() {
            return self.clear();
        }
        let terminal = self.terminal;
        let (bar, rate) = self
            .drawn
            .get_or_insert_with(|| (new_bar(now.total_bytes, terminal), Rate::from(now.written_bytes)));
        bar.set_message(message(now, rate, process().resident, Screen::columns(), terminal));
        bar.set_position(now.written_bytes);
    }

    fn clear(&mut self) {
        if let Some((bar, _)) = self.drawn.take() {
            bar.finish_and_clear();
        }
    }
}

impl Reporter for Bar {
    fn event(&mut self, event: &Event<'_>) {
        match event {
            Event::Note(note) if note.is_detail() && self.style != Style::Verbose => {}
            Event::Note(note) => self.print(&note_line(note, self.terminal)),
            Event::Budget { schedule, reason, io } => {
                self.clear();
                self.print(&budget_lines(schedule, reason, io, self.style));
            }
            Event::Fetching { what, files, total_bytes } => {
                self.clear();
                self.print(&fetching_line(what, *files, *total_bytes));
            }
            Event::Checking { total_bytes } => self.print(&checking_line(*total_bytes)),
            Event::Joining { parts, total_bytes } => self.print(&joining_line(*parts, *total_bytes)),
            Event::Verifying { total_bytes } => self.print(&verifying_line(*total_bytes)),
            Event::KeepingUndo { total_bytes } => {
                self.clear();
                self.print(&undo_line(*total_bytes));
            }
            Event::Reading { what, total_bytes } => self.print(&reading_line(what, *total_bytes)),
            Event::Continuing { total_bytes } => self.print(&continuing_line(*total_bytes)),
            Event::MergingAgain { total_bytes, files } => {
                self.clear();
                self.print(&merging_again_line(*total_bytes, files));
            }
            Event::Progress(now) => self.draw(now),
            Event::Finished(_) => self.clear(),
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.clear();
    }
}

/// A bar of so many bytes.
fn new_bar(bytes: u64, terminal: Terminal) -> ProgressBar {
    let style = ProgressStyle::with_template(TEMPLATE).expect("a valid template");
    let style = style.progress_chars(if terminal.unicode { BLOCKS } else { ASCII });
    let target = ProgressDrawTarget::term_like(Box::new(Screen));
    ProgressBar::with_draw_target(Some(bytes), target).with_style(style)
}

/// What stands behind the bar: as many of the numbers as leave room for it.
fn message(now: &Snapshot, rate: &Rate, resident: u64, columns: usize, terminal: Terminal) -> String {
    let unknown = if terminal.unicode { "…" } else { "..." };
    let left = rate.left(now.written_bytes, now.total_bytes).map_or_else(|| unknown.to_owned(), show);
    let parts = [
        format!("{} of {}", show_size(now.written_bytes), show_size(now.total_bytes)),
        show_rate(rate.per_second(now.written_bytes)),
        format!("{left} left"),
        format!("RSS {}", show_size(resident)),
        format!("shard {}/{}", now.shard + 1, now.shards),
    ];
    let mut message = String::new();
    for part in parts {
        let taken = message.chars().count() + 2 + part.chars().count();
        if BAR_LEAST + BETWEEN + taken > columns {
            break;
        }
        message.push_str(if message.is_empty() { "" } else { "  " });
        message.push_str(&part);
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_fits_whatever_the_width() {
        let now = Snapshot {
            total_bytes: 141 << 30,
            read_bytes: 0,
            written_bytes: 70 << 30,
            shared_bytes: 0,
            shards: 30,
            shard: 14,
            held_bytes: 0,
        };
        let rate = Rate::from(0);
        let at = |columns, unicode| {
            message(&now, &rate, 72 << 20, columns, Terminal { unicode, ..Terminal::default() })
        };
        for columns in 0..200 {
            let taken = at(columns, true).chars().count();
            assert!(taken == 0 || BAR_LEAST + BETWEEN + taken <= columns, "{columns}: {taken}");
        }
        assert!(at(200, true).starts_with("70 GiB of 141 GiB  "), "{}", at(200, true));
        assert!(at(200, true).ends_with("  RSS 72 MiB  shard 15/30"), "{}", at(200, true));
        let start = Snapshot { written_bytes: 0, ..now };
        let text = message(&start, &rate, 0, 200, Terminal::default());
        assert!(text.is_ascii(), "{text}");
    }
}
