//! `shardfold merge`.

use std::path::Path;

use crate::error::Result;
use crate::error::request::RequestError;
use crate::merge::prepare::prepare;
use crate::report::style::Style;
use crate::report::summary::Summary;
use crate::storage::files::write_small;
use crate::storage::location::Location;

use crate::cli::args::MergeArgs;
use crate::cli::config::MergeConfig;
use crate::cli::output::{print, reporter};
use crate::cli::values::usage;
use crate::cli::{plan, signals};

/// Merges, or prints the plan if the run is dry.
pub(crate) fn run(args: &MergeArgs) -> Result<()> {
    let mut config = MergeConfig::new(args)?;
    config.request.cancel = signals::listen();
    if config.dry_run {
        return plan::show(&config);
    }
    let Some(output) = &config.output else {
        return Err(RequestError::Required { flag: "--output <DIR>" }.into());
    };
    let prepared = prepare(&config.request)?;
    let mut reporter = reporter(config.style, &config.request.cancel, &prepared.notes);
    let output = Location::of_resolved_path(output);
    #[cfg(feature = "testing")]
    let output = args.testing.output(output);
    let summary = if args.discards() {
        prepared.merge_and_discard(&output, reporter.as_mut())?
    } else {
        prepared.merge(&output, reporter.as_mut())?
    };
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

/// Writes the page and its data.
///
/// # Errors
/// As [`write_small`]: then the result is there, and only this is not.
fn write_profile(path: &Path, summary: &Summary) -> Result<()> {
    let data = format!("{:#}\n", summary.profile_json());
    for (path, text) in [(path.to_owned(), summary.profile_html()), (path.with_extension("json"), data)] {
        let file = Location::of_path(&path);
        let (Some(dir), Some(name)) = (file.parent(), file.name()) else {
            return Err(usage("--profile", &path.to_string_lossy(), "the name of a file is accepted"));
        };
        write_small(&dir, name, text.as_bytes())?;
    }
    Ok(())
}
