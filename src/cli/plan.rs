//! `shardfold plan`, and `merge --dry-run`.

use crate::error::Result;
use crate::merge::prepare::prepare;
use crate::publish::target::Probed;
use crate::report::plan::{RunShape, document, plan_text};
use crate::report::style::Style;
use crate::storage::location::Location;

use crate::cli::args::PlanArgs;
use crate::cli::config::MergeConfig;
use crate::cli::console::Console;
use crate::cli::output::print;
use crate::cli::signals;

/// Prints the plan.
pub(crate) fn run(args: &PlanArgs, console: &Console) -> Result<()> {
    let mut config = MergeConfig { probe: args.probe, ..MergeConfig::new(&args.merge)? };
    config.request.cancel = signals::listen();
    show(&config, console)
}

/// Makes the plan of a merge and prints it. OUTPUT is looked at, if it is named, and nothing is written.
pub(crate) fn show(config: &MergeConfig, console: &Console) -> Result<()> {
    let prepared = prepare(&config.request)?;
    let mut reporter = console.reporter(&config.request.cancel, &prepared.notes);
    let is_done = match &config.output {
        Some(output) => {
            let output = Location::of_resolved_path(output);
            matches!(prepared.probe(&output, reporter.as_mut())?, Probed::AlreadyDone(_))
        }
        None => false,
    };
    let plan = prepared.plan.explain(&prepared.digest);
    let output = config.output.as_ref().map(Location::of_resolved_path);
    let probe = config.probe.then(|| prepared.probe_speed(output.as_ref())).transpose()?;
    let (schedule, reason, io) = (&prepared.schedule, &prepared.reason, &prepared.io);
    let run = RunShape { schedule, reason, io, probe };
    if config.style == Style::Json {
        return print(&format!("{:#}\n", document(plan, &run, is_done)));
    }
    let mut text = plan_text(&plan, &run, config.style);
    if is_done {
        text.push_str("already done: the output is the result of this merge, and its hashes agree\n");
    }
    print(&text)
}
