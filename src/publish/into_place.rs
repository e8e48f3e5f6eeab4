//! Staged inside the output and moved into place file by file, the index and the config late: a loader needs the config, so
//! until then nothing takes the directory for a checkpoint. The record comes last of all: where it is, everything is.
//!
//! This serves for an output that is a mount point, as the volume of a batch job is, and where nothing can be made beside it.

use std::collections::BTreeSet;

use crate::checkpoint::weights_name::is_index;
use crate::error::output::OutputError;
use crate::error::{Error, Result};
use crate::publish::journal::{Journal, JournalWork};
use crate::publish::probe::clear_probes;
use crate::publish::provenance::{PROVENANCE, Provenance};
use crate::publish::way::{Publish, State};
use crate::storage::location::Location;
use crate::storage::store::{DirRename, Entry, Store};

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
    for kind in files.chunk_by(|one, other| rank(&one.name) == rank(&other.name)) {
        kind.iter().try_for_each(|file| staging.move_file(&file.name, output))?;
        // What came before lasts before the next kind is seen.
        sync_directories(output, kind)?;
    }
    staging.remove_dir("")?;
    clear_probes(output)?;
    output.sync("")
}

/// Makes the names of `files` last, directory by directory and those further down first.
fn sync_directories(output: &Location, files: &[Entry]) -> Result<()> {
    let dirs = files.iter().flat_map(|file| file.name.match_indices('/').map(|(end, _)| &file.name[..end]));
    let dirs: BTreeSet<&str> = dirs.collect();
    dirs.iter().rev().chain([&""]).try_for_each(|dir| output.sync(dir))
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::storage::files::write_small;
    use crate::storage::memory::Memory;
    use crate::storage::testing::faulty::{Faulty, Operation};

    #[test]
    fn each_directory_is_made_to_last_once_for_each_kind_of_file() {
        let syncs = |files: usize| {
            let faulty = Arc::new(Faulty::new(Memory::new()));
            let all = Location::of_store(faulty.clone());
            let (staging, output) = (all.join("staging"), all.join("output"));
            let names = (0..files).map(|i| format!("a/b/{i}")).chain(["config.json".to_owned()]);
            names.for_each(|name| write_small(&staging, &name, b"bytes").unwrap());
            move_all(&staging, &output).unwrap();
            assert_eq!(output.files(&|_| false).unwrap().len(), files + 1);
            faulty.count(Operation::Sync)
        };
        assert_eq!(syncs(100), syncs(1));
    }
}
