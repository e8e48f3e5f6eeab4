//! `shardfold plan`, and `merge --dry-run`.

use std::sync::Arc;

use crate::error::Result;
use crate::job::prepare;
use crate::publish::{self, Output};
use crate::report::{Style, document, plan_text};

use super::args::MergeArgs;
use super::config::MergeConfig;
use super::{print, reporter};

/// Prints the plan.
pub(super) fn run(args: &MergeArgs) -> Result<()> {
    show(&MergeConfig::new(args)?)
}

/// Makes the plan of a merge and prints it. OUTPUT is looked at, if it is named, and nothing is written.
pub(super) fn show(config: &MergeConfig) -> Result<()> {
    let prepared = prepare(&config.request)?;
    reporter(config.style, &Arc::default(), &prepared.notices);
    let is_done = match &config.output {
        Some(output) => matches!(publish::look(output, &prepared.digest)?, Output::AlreadyDone),
        None => false,
    };
    let plan = prepared.plan.explain(&prepared.digest);
    let (schedule, reason) = (&prepared.schedule, &prepared.reason);
    if config.style == Style::Json {
        print(&format!("{:#}\n", document(plan, schedule, reason, is_done)));
        return Ok(());
    }
    print(&plan_text(&plan, schedule, reason, config.style));
    if is_done {
        print("already done: the output is the result of this merge, and its hashes agree\n");
    }
    Ok(())
}
