//! Staged inside the output and moved into place file by file, the index and the config late: a loader needs the config, so
//! until then nothing takes the directory for a checkpoint. The record comes last of all: where it is, everything is.
//!
//! This serves for an output that is a mount point, as the volume of a batch job is, and where nothing can be made beside it.

use crate::checkpoint::weights_name::is_index;
use crate::error::output::OutputError;
use crate::error::{Error, Result};
use crate::publish::journal::{Journal, JournalWork};
use crate::publish::probe::clear_probes;
use crate::publish::provenance::{PROVENANCE, Provenance};
use crate::publish::way::{Publish, State};
use crate::storage::location::Location;
use crate::storage::store::{DirRename, Store};

/// The move of every file.
pub(crate) struct IntoPlace;

/// Where results are staged inside `output`.
pub(crate) fn staged_in(output: &Location) -> Location {
    output.join(".shardfold.partial")
}

impl Publish for IntoPlace {
    fn staging(&self, output: &Location, state: State) -> Option<Location> {
        // Where an output has no name, nothing can be made beside it, so it need not be there either.
        let is_empty = matches!(state, State::EmptyDir | State::EmptyVolume);
        let serves = is_empty || state == State::Absent && output.name().is_none();
        serves.then(|| staged_in(output))
    }

    fn publish(&self, staging: &Location, output: &Location) -> Result<()> {
        let own = staged_in(output);
        if staging.path() == own.path() {
            return move_all(staging, output);
        }
        // A directory that only this run knows becomes the one that all look for: of two runs, one moves its files.
        match staging.move_to(&own)? {
            DirRename::Done => move_all(&own, output),
            DirRename::Taken => Err(Error::new(OutputError::OutputInUse { path: output.path() })),
            DirRename::Unsupported => move_all(staging, output),
        }
    }
}

/// The same for what was staged beside `output`. A journal in it says meanwhile whose its files are, so that the same merge
/// goes on if this is cut off.
pub(crate) fn move_all_from_beside(staging: &Location, output: &Location) -> Result<()> {
    let Some(record) = Provenance::read(staging)? else { return move_all(staging, output) };
    let mark = staged_in(output);
    let journal = Journal::begin(&mark, &record.plan, &JournalWork::default())?;
    move_all(staging, output)?;
    drop(journal);
    mark.remove_dir("")?;
    output.sync("")
}

/// Moves every file of `staging` to its place in `output`, and removes `staging`.
fn move_all(staging: &Location, output: &Location) -> Result<()> {
    let mut files = staging.files(&|_| false)?;
    files.sort_by_key(|file| rank(&file.name));
    let mut last = None;
    for file in files {
        let rank = rank(&file.name);
        if last.is_some_and(|last| last != rank) {
            // What came before lasts before the next kind is seen.
            output.sync("")?;
        }
        last = Some(rank);
        staging.move_file(&file.name, output)?;
        for (end, _) in file.name.rmatch_indices('/') {
            output.sync(&file.name[..end])?;
        }
    }
    output.sync("")?;
    staging.remove_dir("")?;
    clear_probes(output)?;
    output.sync("")
}

/// The order of files: everything, then the index, then the config, then the record.
pub(crate) fn rank(name: &str) -> u8 {
    match name {
        PROVENANCE => 3,
        "config.json" => 2,
        name if is_index(name) => 1,
        _ => 0,
    }
}
