//! The commands as functions of another program: the flags go in as they are typed, and the JSON document comes out.
//!
//! A flag means the same and is refused with the same words, whoever passes it. Nothing is printed and no signal is listened
//! to: events go to the caller's reporter, and the caller has the token. A budget is what is added to what the process holds.

use std::ffi::OsString;

use serde::Serialize;

use crate::cancel::Cancel;
use crate::error::request::RequestError;
use crate::error::{Error, Result};
use crate::hub::cache::Hub;
use crate::hub::environment::HubEnvironment;
use crate::inspect::open::inspect;
use crate::merge::fetch::fetch_inputs;
use crate::merge::prepare::prepare;
use crate::merge::request::Request;
use crate::note::Note;
use crate::report::event::{Event, Reporter};
use crate::report::log::Logged;
use crate::report::noted::Noted;
use crate::storage::location::Location;
use crate::verify::hashes::check_hashes;
use crate::verify::inputs::Verification;

use crate::cli::args::{self, Command, InspectArgs, MergeArgs, ReportArgs, VerifyArgs};
use crate::cli::config::{MergeConfig, request_of as request_of_flags};
use crate::cli::console::open_log;
use crate::cli::convert::Converted;
use crate::cli::finish::finishing_of;
use crate::cli::misuse::message_and_tip;
use crate::cli::output::write_text;
use crate::cli::variables::Variables;
use crate::cli::version::version;
use crate::cli::{convert, diff, extract, merge, plan, report, unmerge, verify};

/// Runs a command (`["plan", "--adapter", "style"]`) and returns the document that it prints with `--json`. What `verify` finds is
/// in its document and no error.
///
/// # Errors
/// As the command; [`RequestError::Arguments`] for flags that there are not.
pub fn call(args: &[OsString], cancel: &Cancel, reporter: &mut dyn Reporter) -> Result<String> {
    let command = parse(args)?;
    let (log, unwritable) = open_log(command.log_file());
    show(unwritable.as_slice(), reporter);
    let Some(log) = log else { return document_of(&command, cancel, reporter) };
    log.started(args, version());
    let document = document_of(&command, cancel, &mut Logged::new(Box::new(reporter), log.clone()));
    log.ended(document.as_ref().err());
    document
}

fn document_of(command: &Command, cancel: &Cancel, reporter: &mut dyn Reporter) -> Result<String> {
    match command {
        Command::Merge(args) => merged(config_of(args, cancel)?, reporter),
        Command::Convert(args) => match convert::converted(args, cancel)? {
            Converted::Checkpoint(config) => merged(of_this_process(*config, cancel), reporter),
            Converted::Adapter(conversion, request) => {
                let (values, skipped) = conversion.open(&request.beside_this_process())?;
                show(&values.notes, reporter);
                Ok(conversion.run((&values, skipped), reporter)?.json().to_string())
            }
        },
        Command::Unmerge(args) => merged(of_this_process(unmerge::config_of(args)?, cancel), reporter),
        Command::Plan(args) => {
            let config = MergeConfig { probe: args.probe, ..config_of(&args.merge, cancel)? };
            planned(&config, reporter)
        }
        Command::Inspect(args) => inspected(args, cancel, reporter),
        Command::Verify(args) => verified(args, cancel, reporter),
        Command::Report(args) => reported(args, cancel, reporter),
        Command::Finish(args) => {
            let finished = finishing_of(args, cancel)?.finish(reporter)?;
            Ok(json(&finished))
        }
        Command::Diff(args) => {
            let request = extract::request_of(&args.memory, cancel)?.beside_this_process();
            let values = diff::open(args, request)?;
            show(&values.notes, reporter);
            Ok(diff::differences(args, &values, reporter)?.json().to_string())
        }
        Command::Extract(args) => {
            let extraction = extract::extraction_of(args, cancel)?;
            let request = extract::request_of(&args.memory, cancel)?.beside_this_process();
            let values = extraction.open(&request)?;
            show(&values.notes, reporter);
            Ok(extraction.run(&values, reporter)?.json().to_string())
        }
        Command::Completions(_) => Err(arguments("`completions` is for a shell")),
    }
}

/// What the flags of `merge` or `plan` ask for, for a reader of the result. The first of `args` is the command.
///
/// # Errors
/// As the command; [`RequestError::Arguments`] for flags that there are not.
pub fn request_of(args: &[OsString], cancel: &Cancel) -> Result<Request> {
    match parse(args)? {
        Command::Merge(args) => Ok(config_of(&args, cancel)?.request),
        Command::Plan(args) => Ok(config_of(&args.merge, cancel)?.request),
        Command::Convert(args) => Ok(of_this_process(convert::config_of(&args)?, cancel).request),
        _ => Err(arguments("only `merge`, `plan` and `convert` ask for a merge")),
    }
}

fn arguments(message: &str) -> Error {
    RequestError::Arguments { message: message.to_owned() }.into()
}

fn parse(args: &[OsString]) -> Result<Command> {
    let args: Vec<OsString> = std::iter::once("shardfold".into()).chain(args.iter().cloned()).collect();
    // The environment of a process is for its own command line.
    let parsed = args::parse(&args, &Variables::none());
    parsed.map(|typed| typed.command).map_err(|misuse| {
        let (message, tip) = message_and_tip(&misuse.error);
        let error = Error::new(RequestError::Arguments { message });
        tip.into_iter().fold(error, Error::hint)
    })
}

/// What is asked for, as a part of a process that holds other things already.
fn config_of(args: &MergeArgs, cancel: &Cancel) -> Result<MergeConfig> {
    Ok(of_this_process(MergeConfig::new(args)?, cancel))
}

fn of_this_process(config: MergeConfig, cancel: &Cancel) -> MergeConfig {
    let request = Request { cancel: cancel.clone(), ..config.request }.beside_this_process();
    MergeConfig { request, ..config }
}

fn merged(mut config: MergeConfig, reporter: &mut dyn Reporter) -> Result<String> {
    if config.dry_run {
        return planned(&config, reporter);
    }
    let output = merge::output_of(&mut config)?;
    fetch_inputs(&config.request, reporter)?;
    let prepared = prepare(&config.request)?;
    show(&prepared.notes, reporter);
    let mut noted = Noted::new(reporter, report::texts(&prepared.notes));
    let summary = prepared.merge(&output, &mut noted)?;
    if let Some(path) = &config.profile {
        merge::write_profile(path, &summary)?;
    }
    if let Some(path) = &config.report {
        report::write(path, &output, &prepared, &summary, noted.notes)?;
    }
    Ok(json(&summary))
}

fn planned(config: &MergeConfig, reporter: &mut dyn Reporter) -> Result<String> {
    fetch_inputs(&config.request, reporter)?;
    let prepared = plan::prepared_whole(config)?;
    show(&prepared.notes, reporter);
    let is_done = plan::is_done(config, &prepared, reporter)?;
    let probe = plan::probe(config, &prepared)?;
    Ok(json(&plan::document_of(&prepared, probe, is_done)))
}

fn inspected(args: &InspectArgs, cancel: &Cancel, reporter: &mut dyn Reporter) -> Result<String> {
    let hub = Hub::online(&HubEnvironment::of_this_process()).stopped_by(cancel);
    let place = hub.find(&args.path)?;
    let inspected = inspect(&place, args.variant.as_deref(), cancel)?;
    show(inspected.notes(), reporter);
    Ok(json(&inspected))
}

fn verified(args: &VerifyArgs, cancel: &Cancel, reporter: &mut dyn Reporter) -> Result<String> {
    let dir = Location::of_typed_input(&args.dir, cancel)?;
    if args.hashes_only {
        let verified = check_hashes(&dir.clone().stopped_by(cancel), cancel, reporter);
        return verified.map(|verified| json(&verified)).map_err(|error| verify::interrupted(&dir, error));
    }
    verify::check_asked(args, &dir)?;
    let request = request_of_flags(&args.inputs, &args.result, &args.memory, &args.rules)?;
    let request = Request { cancel: cancel.clone(), ..request }.beside_this_process();
    let sample = verify::sample_of(args)?;
    dir.check_dir()?;
    let fetched = fetch_inputs(&request, reporter);
    let verification = fetched.and_then(|()| Verification::prepare(dir.clone(), &request, sample));
    let verified = verification.and_then(|verification| {
        show(&verification.prepared.notes, reporter);
        verification.run(reporter)
    });
    verified.map(|verified| json(&verified)).map_err(|error| verify::interrupted(&dir, error))
}

/// The page as a JSON string, if it was not written to a file.
fn reported(args: &ReportArgs, cancel: &Cancel, reporter: &mut dyn Reporter) -> Result<String> {
    let (dir, record) = report::recorded_in(&args.dir, cancel)?;
    let request = report::request_of(args, &record, cancel)?.map(Request::beside_this_process);
    request.iter().try_for_each(|request| fetch_inputs(request, reporter))?;
    let prepared = request.map(|request| report::prepare_same(&dir, &record, &request)).transpose()?;
    prepared.iter().for_each(|prepared| show(&prepared.notes, reporter));
    let html = report::html(&dir, &record, prepared.as_ref(), reporter)?;
    match &args.output {
        Some(path) => write_text("--output", path, &html).map(|()| "null".to_owned()),
        None => Ok(json(&html)),
    }
}

fn show(notes: &[Note], reporter: &mut dyn Reporter) {
    notes.iter().for_each(|note| reporter.event(&Event::Note(note)));
}

fn json(document: &impl Serialize) -> String {
    serde_json::to_string(document).expect("strings and finite numbers")
}
