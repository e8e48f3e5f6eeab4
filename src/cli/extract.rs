//! `shardfold extract`.

use crate::cancel::Cancel;
use crate::error::Result;
use crate::error::request::RequestError;
use crate::extract::extracted::Extracted;
use crate::extract::extraction::{Extraction, MOST_RANK};
use crate::hub::cache::Hub;
use crate::hub::environment::HubEnvironment;
use crate::merge::request::Request;
use crate::report::style::Style;
use crate::storage::location::Location;

use crate::cli::config::{memory_of, read_count, read_patterns};
use crate::cli::console::Console;
use crate::cli::extract_args::ExtractArgs;
use crate::cli::flags::MemoryFlags;
use crate::cli::output::print;
use crate::cli::signals;

/// Extracts an adapter and prints what it keeps.
pub(crate) fn run(args: &ExtractArgs, console: &Console) -> Result<()> {
    let cancel = signals::listen();
    let extraction = extraction_of(args, &cancel)?;
    let values = extraction.open(&request_of(&args.memory, &cancel)?)?;
    let extracted = extraction.run(&values, console.reporter(&cancel, &values.notes).as_mut())?;
    show(args.show.style(), &extracted)
}

/// Prints what came of it.
///
/// # Errors
/// As [`print`].
pub(crate) fn show(style: Style, extracted: &Extracted) -> Result<()> {
    match style {
        Style::Json => print(&format!("{:#}\n", extracted.json())),
        Style::Quiet => Ok(()),
        Style::Human | Style::Verbose => print(&extracted.to_string()),
    }
}

/// What the flags ask for of checkpoints that are read by their values.
///
/// # Errors
/// As [`memory_of`].
pub(crate) fn request_of(memory: &MemoryFlags, cancel: &Cancel) -> Result<Request> {
    let hub = Hub::online(&HubEnvironment::of_this_process());
    memory_of(memory, Request { hub, cancel: cancel.clone(), ..Request::default() })
}

/// What is to be extracted.
///
/// # Errors
/// Misuse of a flag, or that one is missing that it needs.
pub(crate) fn extraction_of(args: &ExtractArgs, cancel: &Cancel) -> Result<Extraction> {
    let rank = args.rank.as_ref().ok_or(RequestError::Required { flag: "--rank <R>" })?;
    let output = args.output.as_ref().ok_or(RequestError::Required { flag: "--output <DIR>" })?;
    Ok(Extraction {
        origins: [args.base.clone().into(), args.tuned.clone().into()],
        rank: read_count("--rank", rank, MOST_RANK)?,
        skip: read_patterns("--skip", &args.skip)?,
        save_others: args.save_others,
        output: Location::of_typed(output, cancel)?,
    })
}
