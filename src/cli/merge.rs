//! `shardfold merge`.

use std::path::Path;

use crate::error::Result;
use crate::error::request::RequestError;
use crate::merge::prepare::prepare;
use crate::report::noted::Noted;
use crate::report::style::Style;
use crate::report::summary::Summary;
use crate::storage::location::Location;
use crate::storage::store::Store;

use crate::cli::args::MergeArgs;
use crate::cli::config::MergeConfig;
use crate::cli::console::Console;
use crate::cli::output::{print, write_text};
use crate::cli::{plan, report, signals};

/// Merges, or prints the plan if the run is dry.
pub(crate) fn run(args: &MergeArgs, console: &Console) -> Result<()> {
    let mut config = MergeConfig::new(args)?;
    config.request.cancel = signals::listen();
    execute(config, console)
}

/// Merges as it is asked for.
///
/// # Errors
/// Whatever keeps it from being done.
pub(crate) fn execute(mut config: MergeConfig, console: &Console) -> Result<()> {
    if config.dry_run {
        return plan::show(&config, console);
    }
    let output = output_of(&mut config)?;
    console.fetch(&config.request)?;
    let prepared = prepare(&config.request)?;
    let mut reporter = console.reporter(&config.request.cancel, &prepared.notes);
    #[cfg(feature = "testing")]
    let output = config.testing.output(output);
    let mut noted = Noted::new(reporter.as_mut(), report::texts(&prepared.notes));
    let summary = if config.discards() {
        prepared.merge_and_discard(&output, &mut noted)?
    } else {
        prepared.merge(&output, &mut noted)?
    };
    if let Some(path) = &config.report {
        report::write(path, &output, &prepared, &summary, noted.notes)?;
    }
    if let Some(path) = &config.profile {
        write_profile(path, &summary)?;
    }
    match config.style {
        Style::Json => {
            print(&format!("{:#}\n", serde_json::to_value(&summary).expect("numbers and strings")))
        }
        // The product is in OUTPUT, and this only tells of it.
        Style::Human => {
            let _ = print(&summary.to_string());
            Ok(())
        }
        Style::Verbose => {
            let _ = print(&format!("{summary}{}", summary.threads_text()));
            Ok(())
        }
        Style::Quiet => Ok(()),
    }
}

/// Where the result goes. The budget counts the memory that this takes.
///
/// # Errors
/// [`RequestError::Required`]; as [`Location::of_typed`].
pub(crate) fn output_of(config: &mut MergeConfig) -> Result<Location> {
    let output = config.output.as_ref().ok_or(RequestError::Required { flag: "--output <DIR>" })?;
    let output = Location::of_typed(output, &config.request.cancel)?;
    config.request.output_memory = output.write_memory();
    Ok(output)
}

/// Writes the page and its data.
///
/// # Errors
/// As [`write_text`]: then the result is there, and only this is not.
pub(crate) fn write_profile(path: &Path, summary: &Summary) -> Result<()> {
    let data = format!("{:#}\n", summary.profile_json());
    write_text("--profile", path, &summary.profile_html())?;
    write_text("--profile", &path.with_extension("json"), &data)
}
