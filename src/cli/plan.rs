//! `shardfold plan`, and `merge --dry-run`.

use std::io::IsTerminal;

use serde_json::json;

use crate::error::Result;
use crate::memory::size::show_size;
use crate::merge::prepare::{Prepared, prepare};
use crate::publish;
use crate::publish::Output;
use crate::report::{Event, Style, choose};

use crate::cli::args::MergeArgs;
use crate::cli::config::MergeConfig;
use crate::cli::{print, signals};

/// Prints the plan.
pub(crate) fn run(args: &MergeArgs) -> Result<()> {
    let mut config = MergeConfig::new(args)?;
    config.request.cancel = signals::listen();
    show(&config)
}

/// Makes the plan of a merge and prints it. OUTPUT is looked at, if it is named, and nothing is written.
pub(crate) fn show(config: &MergeConfig) -> Result<()> {
    let mut reporter = choose(config.style, std::io::stderr().is_terminal());
    let prepared = prepare(&config.request)?;
    for notice in &prepared.notices {
        reporter.event(&Event::Notice(notice));
    }
    let is_done = match &config.output {
        Some(output) => {
            matches!(publish::look(output, &prepared.digest, &config.request.cancel)?, Output::AlreadyDone)
        }
        None => false,
    };
    if config.style == Style::Json {
        let document = json!({
            "plan": prepared.plan.explain(&prepared.digest),
            "budget": prepared.schedule.budget,
            "reason": prepared.reason,
            "workers": prepared.schedule.workers,
            "already_done": is_done,
        });
        print(&format!("{document:#}\n"));
        return Ok(());
    }
    print(&prepared.plan.explain(&prepared.digest).to_string());
    print(&budget(&prepared));
    if is_done {
        print("already done: the output is the result of this merge, and its hashes agree\n");
    }
    Ok(())
}

/// How the budget would be split.
fn budget(prepared: &Prepared) -> String {
    let schedule = &prepared.schedule;
    let mut text = format!("budget     {} ({})\n", show_size(schedule.budget.total), prepared.reason);
    for line in &schedule.budget.lines {
        text.push_str(&format!("  {:>9}  {}\n", show_size(line.bytes), line.what));
    }
    text.push_str(&format!(
        "           {} workers, {} slabs of {}, {} factor slots of {}\n",
        schedule.workers,
        schedule.cut.slabs,
        show_size(schedule.cut.slab_bytes as u64),
        schedule.cut.slots,
        show_size(schedule.cut.slot_bytes as u64)
    ));
    if let Some(once) = schedule.budget.factors_once_at {
        text.push_str(&format!(
            "           some factors are read anew for each row; `--max-ram {}` reads them once\n",
            show_size(once)
        ));
    }
    if let Some(once) = schedule.budget.codes_once_at {
        text.push_str(&format!(
            "           some codes are read anew for each tile; `--max-ram {}` reads them once\n",
            show_size(once)
        ));
    }
    text.push_str(&format!("smallest   {} would do, with one worker\n", show_size(schedule.budget.smallest)));
    text
}
