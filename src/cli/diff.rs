//! `shardfold diff`.

use crate::diff::compare;
use crate::diff::compare::compare;
use crate::diff::differences::Differences;
use crate::error::Result;
use crate::error::kind::ErrorKind;
use crate::error::verify::VerifyError;
use crate::merge::request::Request;
use crate::merge::values::CheckpointValues;
use crate::report::event::Reporter;
use crate::report::style::Style;

use crate::cli::console::Console;
use crate::cli::diff_args::DiffArgs;
use crate::cli::extract::request_of;
use crate::cli::output::print;
use crate::cli::signals;

/// Compares two checkpoints and prints what they come to.
pub(crate) fn run(args: &DiffArgs, console: &Console) -> Result<()> {
    let cancel = signals::listen();
    let values = open(args, request_of(&args.memory, &cancel)?)?;
    let found = differences(args, &values, console.reporter(&cancel, &values.notes).as_mut())?;
    match args.show.style() {
        Style::Json => print(&format!("{:#}\n", found.json()))?,
        Style::Quiet => {}
        Style::Human | Style::Verbose => print(&found.to_string())?,
    }
    check(args, &found)
}

/// Opens the two checkpoints.
///
/// # Errors
/// As [`compare::open`].
pub(crate) fn open(args: &DiffArgs, request: Request) -> Result<CheckpointValues> {
    compare::open(&request, &[args.a.clone().into(), args.b.clone().into()])
}

/// What the two checkpoints come to.
///
/// # Errors
/// As [`compare`].
pub(crate) fn differences(
    args: &DiffArgs,
    values: &CheckpointValues,
    reporter: &mut dyn Reporter,
) -> Result<Differences> {
    compare(values, reporter).map_err(|error| match error.kind() {
        ErrorKind::Stopped => VerifyError::Interrupted { path: args.b.clone() }.into(),
        _ => error,
    })
}

/// Fails if they differ and that was asked for.
///
/// # Errors
/// [`VerifyError::Differs`].
pub(crate) fn check(args: &DiffArgs, found: &Differences) -> Result<()> {
    match found.differing() {
        count if args.exit_code && count > 0 => {
            Err(VerifyError::Differs { first: args.a.clone(), second: args.b.clone(), count }.into())
        }
        _ => Ok(()),
    }
}
