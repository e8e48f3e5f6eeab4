//! `shardfold plan`, and `merge --dry-run`.

use serde_json::Value;

use crate::error::Result;
use crate::merge::prepare::{Prepared, prepare};
use crate::merge::request::Request;
use crate::publish::target::Probed;
use crate::report::event::Reporter;
use crate::report::plan::{RunShape, document, plan_text};
use crate::report::probe::SpeedProbe;
use crate::report::style::Style;
use crate::storage::location::Location;
use crate::storage::store::Store;

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

/// The merge as it is planned: what a part does is a part of it.
pub(crate) fn prepared_whole(config: &MergeConfig) -> Result<Prepared> {
    let output_memory = output_of(config)?.map_or(0, |output| output.write_memory());
    prepare(&Request { part: None, output_memory, ..config.request.clone() })
}

/// Makes the plan of a merge and prints it. OUTPUT is looked at, if it is named, and nothing is written.
pub(crate) fn show(config: &MergeConfig, console: &Console) -> Result<()> {
    console.fetch(&config.request)?;
    let prepared = prepared_whole(config)?;
    let mut reporter = console.reporter(&config.request.cancel, &prepared.notes);
    let is_done = is_done(config, &prepared, reporter.as_mut())?;
    let probe = probe(config, &prepared)?;
    if config.style == Style::Json {
        return print(&format!("{:#}\n", document_of(&prepared, probe, is_done)));
    }
    let plan = prepared.plan.explain(&prepared.digest);
    let mut text = plan_text(&plan, &run_shape(&prepared, probe), config.style);
    if is_done {
        text.push_str("already done: the output is the result of this merge, and its hashes agree\n");
    }
    print(&text)
}

/// Where the result would go, if that is named.
fn output_of(config: &MergeConfig) -> Result<Option<Location>> {
    let output = config.output.as_ref();
    output.map(|output| Location::of_typed(output, &config.request.cancel)).transpose()
}

/// Whether the output, if it is named, is the result of this merge.
pub(crate) fn is_done(
    config: &MergeConfig,
    prepared: &Prepared,
    reporter: &mut dyn Reporter,
) -> Result<bool> {
    let Some(output) = output_of(config)? else { return Ok(false) };
    Ok(matches!(prepared.probe(&output, reporter)?, Probed::AlreadyDone(_)))
}

/// How fast it will be, if that is asked for.
pub(crate) fn probe(config: &MergeConfig, prepared: &Prepared) -> Result<Option<SpeedProbe>> {
    let output = output_of(config)?;
    config.probe.then(|| prepared.probe_speed(output.as_ref())).transpose()
}

/// The plan as `--json` prints it.
pub(crate) fn document_of(prepared: &Prepared, probe: Option<SpeedProbe>, is_done: bool) -> Value {
    document(prepared.plan.explain(&prepared.digest), &run_shape(prepared, probe), is_done)
}

fn run_shape(prepared: &Prepared, probe: Option<SpeedProbe>) -> RunShape<'_> {
    let Prepared { schedule, reason, io, scratch, .. } = prepared;
    RunShape { schedule, reason, io, scratch_bytes: scratch.bytes, probe }
}
