//! `shardfold verify`.

use crate::cancel::Cancel;
use crate::error::kind::ErrorKind;
use crate::error::request::RequestError;
use crate::error::verify::VerifyError;
use crate::error::{Error, Result};
use crate::publish::provenance::Provenance;
use crate::report::style::Style;
use crate::storage::location::Location;
use crate::verify::hashes::check_hashes;
use crate::verify::inputs::Verification;
use crate::verify::sample::Sample;
use crate::verify::verified::Verified;

use crate::cli::args::VerifyArgs;
use crate::cli::config::request_of;
use crate::cli::console::Console;
use crate::cli::output::print;
use crate::cli::signals;
use crate::cli::values::usage;

/// Verifies a directory and prints what was found.
pub(crate) fn run(args: &VerifyArgs, console: &Console) -> Result<()> {
    let cancel = signals::listen();
    let dir = Location::of_typed_input(&args.dir, &cancel)?;
    let verified = if args.hashes_only {
        hashes(&dir, &cancel, console)
    } else {
        inputs(args, dir.clone(), &cancel, console)
    };
    let verified = verified.map_err(|error| interrupted(&dir, error))?;
    match args.show.style() {
        Style::Json => {
            print(&format!("{:#}\n", serde_json::to_value(&verified).expect("numbers and strings")))?;
        }
        Style::Quiet => {}
        Style::Human | Style::Verbose => print(&verified.to_string())?,
    }
    match verified.findings.len() {
        0 => Ok(()),
        findings => Err(VerifyError::Findings { path: dir.path(), findings }.into()),
    }
}

/// The error, where it says what a merge that was interrupted leaves, in the words of this command.
pub(crate) fn interrupted(dir: &Location, error: Error) -> Error {
    match error.kind() {
        ErrorKind::Stopped => VerifyError::Interrupted { path: dir.path() }.into(),
        _ => error,
    }
}

fn hashes(dir: &Location, cancel: &Cancel, console: &Console) -> Result<Verified> {
    let dir = dir.clone().stopped_by(cancel);
    check_hashes(&dir, cancel, console.reporter(cancel, &[]).as_mut())
}

fn inputs(args: &VerifyArgs, dir: Location, cancel: &Cancel, console: &Console) -> Result<Verified> {
    check_asked(args, &dir)?;
    let sample = sample_of(args)?;
    let mut request = request_of(&args.inputs, &args.result, &args.memory, &args.rules)?;
    request.cancel = cancel.clone();
    #[cfg(feature = "testing")]
    {
        request.hooks = args.testing.hooks()?;
    }
    dir.check_dir()?;
    console.fetch(&request)?;
    let verification = Verification::prepare(dir, &request, sample)?;
    let mut reporter = console.reporter(cancel, &verification.prepared.notes);
    verification.run(reporter.as_mut())
}

/// Fails if it is not said what `dir` is held against.
///
/// # Errors
/// [`RequestError::Required`], or that there is no such directory.
pub(crate) fn check_asked(args: &VerifyArgs, dir: &Location) -> Result<()> {
    if !args.inputs.adapters.is_empty() {
        return Ok(());
    }
    // Whoever mistyped the directory need not look for an adapter first.
    dir.check_dir()?;
    // What `convert` made has a base alone.
    if args.inputs.base.is_some() && Provenance::read(dir)?.is_some_and(|record| record.adapters.is_empty()) {
        return Ok(());
    }
    Err(RequestError::Required { flag: "--adapter <DIR|NAME>` or `--hashes-only" }.into())
}

/// Which places are looked at, if not all.
///
/// # Errors
/// [`RequestError::Usage`].
pub(crate) fn sample_of(args: &VerifyArgs) -> Result<Option<Sample>> {
    let sample = args.sample.as_deref().map(|count| read_number("--sample", count)).transpose()?;
    let seed = args.seed.as_deref().map_or(Ok(0), |seed| read_number("--seed", seed))?;
    Ok(sample.map(|count| Sample { count: count.try_into().unwrap_or(usize::MAX), seed }))
}

fn read_number(flag: &'static str, text: &str) -> Result<u64> {
    text.parse().map_err(|_| usage(flag, text, "a whole number is accepted"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::exit::Code;

    #[test]
    fn an_interruption_speaks_of_no_output() {
        let dir = Location::of_path("merged");
        let error = interrupted(&dir, ErrorKind::Stopped.into());
        assert_eq!(error.exit_code(), Code::Stopped);
        assert_eq!(error.to_string(), "interrupted: `merged` was not checked to its end");
        let other = interrupted(&dir, VerifyError::NoRecord { path: dir.path() }.into());
        assert_eq!(other.exit_code(), Code::NoInput);
    }
}
