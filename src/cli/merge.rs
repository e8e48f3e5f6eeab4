//! `shardfold merge`.

use crate::error::{ErrorKind, Result};
use crate::job::prepare;
use crate::report::Style;

use super::args::MergeArgs;
use super::config::MergeConfig;
use super::{plan, print, reporter, signals};

/// Merges, or prints the plan if the run is dry.
pub(super) fn run(args: &MergeArgs) -> Result<()> {
    let config = MergeConfig::new(args)?;
    if config.dry_run {
        return plan::show(&config);
    }
    let Some(output) = &config.output else {
        return Err(ErrorKind::Required { flag: "--output <DIR>" }.into());
    };
    let stop = signals::listen();
    let prepared = prepare(&config.request)?;
    let mut reporter = reporter(config.style, &stop, &prepared.notices);
    let summary = prepared.merge(output, &stop, reporter.as_mut())?;
    match config.style {
        Style::Json => {
            print(&format!("{:#}\n", serde_json::to_value(&summary).expect("numbers and strings")))
        }
        Style::Human | Style::Verbose => print(&summary.to_string()),
        Style::Quiet => {}
    }
    Ok(())
}
