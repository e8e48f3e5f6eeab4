//! `shardfold report`, and `merge --report`.

use std::path::Path;

use crate::cancel::Cancel;
use crate::error::Result;
use crate::error::verify::VerifyError;
use crate::merge::prepare::{Prepared, prepare};
use crate::merge::request::Request;
use crate::publish::difference::difference;
use crate::publish::provenance::{PROVENANCE, Provenance};
use crate::report::event::Reporter;
use crate::report::noted::Noted;
use crate::report::page::Page;
use crate::report::summary::Summary;
use crate::report::words::peak_rss;
use crate::storage::location::Location;
use crate::tensor::size::{show_rate, show_size};

use crate::cli::args::ReportArgs;
use crate::cli::config::request_of as request_of_flags;
use crate::cli::console::Console;
use crate::cli::output::{print, write_text};
use crate::cli::signals;

/// What to do for the maps.
const HINT: &str =
    "Name the inputs (--base, --adapter) and the page shows what became of each module’s delta.";

/// Writes the page of a merged directory.
pub(crate) fn run(args: &ReportArgs, console: &Console) -> Result<()> {
    let cancel = signals::listen();
    let (dir, record) = recorded_in(&args.dir, &cancel)?;
    let request = request_of(args, &record, &cancel)?;
    request.iter().try_for_each(|request| console.fetch(request))?;
    let prepared = request.map(|request| prepare_same(&dir, &record, &request)).transpose()?;
    let notes = prepared.as_ref().map_or(&[][..], |prepared| &prepared.notes);
    let mut reporter = console.reporter(&cancel, notes);
    let html = html(&dir, &record, prepared.as_ref(), reporter.as_mut())?;
    match &args.output {
        Some(path) => write_text("--output", path, &html),
        None => print(&html),
    }
}

/// A directory and its record.
pub(crate) fn recorded_in(dir: &Path, cancel: &Cancel) -> Result<(Location, Provenance)> {
    let dir = Location::of_typed_input(dir, cancel)?.stopped_by(cancel);
    dir.check_dir()?;
    let record = read_record(&dir)?;
    Ok((dir, record))
}

/// The merge that the inputs ask for, if they are named.
pub(crate) fn request_of(args: &ReportArgs, record: &Provenance, cancel: &Cancel) -> Result<Option<Request>> {
    if args.inputs.adapters.is_empty() {
        return Ok(None);
    }
    let request = request_of_flags(&args.inputs, &args.result, &args.memory, &args.rules)?;
    let (sha256, keep_undo) = (record.checksums.is_some(), record.undo.is_some());
    Ok(Some(Request { cancel: cancel.clone(), sha256, keep_undo, ..request }))
}

/// Plans a merge that must be the one that made the directory.
pub(crate) fn prepare_same(dir: &Location, record: &Provenance, request: &Request) -> Result<Prepared> {
    let prepared = prepare(request)?;
    if prepared.digest != record.plan {
        let difference = difference(record, &prepared.plan);
        return Err(VerifyError::OtherMerge { path: dir.path(), difference }.into());
    }
    Ok(prepared)
}

/// The page; with a merge, that is run without being written, and measured.
pub(crate) fn html(
    dir: &Location,
    record: &Provenance,
    prepared: Option<&Prepared>,
    reporter: &mut dyn Reporter,
) -> Result<String> {
    let Some(prepared) = prepared else {
        return Ok(Page { hint: Some(HINT.to_owned()), ..recorded(dir, record) }.html());
    };
    let mut noted = Noted::new(reporter, texts(&prepared.notes));
    let summary = prepared.merge_and_discard(dir, &mut noted)?;
    Ok(measured(dir, record, prepared, &summary, noted.notes).html())
}

/// Writes the page of a merge that has just ended.
///
/// # Errors
/// As [`write_text`]: then the result is there, and only this is not.
pub(crate) fn write(
    path: &Path,
    output: &Location,
    prepared: &Prepared,
    summary: &Summary,
    notes: Vec<String>,
) -> Result<()> {
    let record = read_record(output)?;
    write_text("--report", path, &measured(output, &record, prepared, summary, notes).html())
}

/// The texts of notes.
pub(crate) fn texts(notes: &[crate::note::Note]) -> Vec<String> {
    notes.iter().map(ToString::to_string).collect()
}

fn read_record(dir: &Location) -> Result<Provenance> {
    let record = Provenance::read(dir)?;
    let path = || dir.path();
    match record {
        Some(record) => Ok(record),
        None if dir.has_file(PROVENANCE)? => Err(VerifyError::UnreadableRecord { path: path() }.into()),
        None => Err(VerifyError::NoRecord { path: path() }.into()),
    }
}

/// What the record of a directory tells.
fn recorded<'p>(dir: &Location, record: &Provenance) -> Page<'p> {
    let bytes: u64 = record.all_files().map(|file| file.bytes).sum();
    let facts = vec![
        ("made by", format!("shardfold {}", record.shardfold)),
        ("result", record.result.clone()),
        ("plan", record.plan.clone()),
        ("size", format!("{} in {} files", show_size(bytes), record.all_files().count())),
    ];
    Page {
        output: dir.to_string(),
        facts,
        adapters: record
            .adapters
            .iter()
            .map(|adapter| (adapter.name.clone(), adapter.weight.clone()))
            .collect(),
        decisions: record.choices.clone(),
        files: record.all_files().map(|file| (file.name.clone(), file.bytes, file.hash.clone())).collect(),
        ..Page::default()
    }
}

/// The same with what a run of the merge measured.
fn measured<'p>(
    dir: &Location,
    record: &Provenance,
    prepared: &Prepared,
    summary: &'p Summary,
    notes: Vec<String>,
) -> Page<'p> {
    let mut page = recorded(dir, record);
    page.facts.insert(0, ("base", prepared.base_name.clone()));
    page.facts.push(("tensors", summary.tensors.to_string()));
    if summary.applied.is_some() {
        let (seconds, rate) = (summary.seconds, show_rate(summary.bytes_per_second));
        page.facts.push(("time", format!("{seconds:.1} s, {rate}")));
        let peak = peak_rss(summary.peak_rss);
        page.facts.push(("memory", format!("{peak}, budget {}", summary.max_ram)));
    }
    if let Some(limit) = summary.limit {
        page.facts.push(("limit", limit.text().to_owned()));
    }
    let notes = notes.into_iter().filter(|note| !record.choices.contains(note)).collect();
    let hint = Some(HINT.to_owned());
    Page { notes, applied: summary.applied.as_ref(), threads: &summary.threads, hint, ..page }
}
