//! A bar on a terminal.

use indicatif::{ProgressBar, ProgressStyle};

use crate::memory::process::process;
use crate::memory::size::{show_rate, show_size};

use crate::report::lines::{show_budget, show_notice};
use crate::report::rate::{Rate, show};
use crate::report::{Event, Reporter};

/// Draws a bar with bytes, speed, time left, memory and shard.
#[derive(Default)]
pub(crate) struct Bar {
    drawn: Option<(ProgressBar, Rate)>,
}

impl Reporter for Bar {
    fn event(&mut self, event: &Event<'_>) {
        match event {
            Event::Notice(text) => show_notice(text),
            Event::Budget { schedule, reason } => show_budget(schedule, reason),
            Event::Progress(now) => {
                let (bar, rate) = self.drawn.get_or_insert_with(|| {
                    let style = ProgressStyle::with_template("{bar:28} {percent:>3}% {msg}")
                        .expect("a valid template");
                    (ProgressBar::new(now.total_bytes).with_style(style), Rate::default())
                });
                let usage = process();
                let left = rate.left(now.written_bytes, now.total_bytes).map_or_else(|| "…".to_owned(), show);
                bar.set_position(now.written_bytes);
                bar.set_message(format!(
                    "{} of {}  {}  {left} left  held {}, resident {}, peak {}  shard {}/{}",
                    show_size(now.written_bytes),
                    show_size(now.total_bytes),
                    show_rate(rate.per_second(now.written_bytes)),
                    show_size(now.held_bytes),
                    show_size(usage.resident),
                    show_size(usage.peak),
                    now.shard + 1,
                    now.shards,
                ));
            }
            Event::Finished(_) => {
                if let Some((bar, _)) = self.drawn.take() {
                    bar.finish_and_clear();
                }
            }
        }
    }
}
