//! `shardfold merge`.

use std::io::IsTerminal;

use crate::error::Result;
use crate::error::kind::ErrorKind;
use crate::merge::prepare::prepare;
use crate::report::{Event, Style, choose};

use crate::cli::args::MergeArgs;
use crate::cli::config::MergeConfig;
use crate::cli::{plan, print, signals};

/// Merges, or prints the plan if the run is dry.
pub(crate) fn run(args: &MergeArgs) -> Result<()> {
    let mut config = MergeConfig::new(args)?;
    config.request.cancel = signals::listen();
    if config.dry_run {
        return plan::show(&config);
    }
    let Some(output) = &config.output else {
        let accepted = "`merge` needs a folder to make for the result".to_owned();
        return Err(ErrorKind::Usage { flag: "--output".into(), value: String::new(), accepted }.into());
    };
    let mut reporter = choose(config.style, std::io::stderr().is_terminal());
    let prepared = prepare(&config.request)?;
    for notice in &prepared.notices {
        reporter.event(&Event::Notice(notice));
    }
    let summary = prepared.merge(output, reporter.as_mut())?;
    match config.style {
        Style::Json => {
            print(&format!("{:#}\n", serde_json::to_value(&summary).expect("numbers and strings")))
        }
        Style::Human => print(&summary.to_string()),
        Style::Quiet => {}
    }
    Ok(())
}
