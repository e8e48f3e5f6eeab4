//! Staged inside the output and moved into place file by file, the index and the config late: a loader needs the config, so
//! until then nothing takes the directory for a checkpoint. The record comes last of all: where it is, everything is.
//!
//! This serves for an output that is a mount point, as the volume of a batch job is, and where nothing can be made beside it.

use crate::cancel::Cancel;
use crate::checkpoint::weights_name::is_index;
use crate::error::output::OutputError;
use crate::error::{Error, Result};
use crate::publish::journal::{HeadLine, Journal, JournalWork};
use crate::publish::probe::{clear_probes, is_lack};
use crate::publish::provenance::{PROVENANCE, Provenance};
use crate::publish::way::{Publish, STAGED_IN, State};
use crate::storage::location::Location;
use crate::storage::store::{DirRename, Entry, Store};

/// What becomes of a move that is stopped.
const GO_ON: &str = "OUTPUT is not whole yet; run the same command again, it goes on where it stopped";

/// The move of every file.
pub(crate) struct IntoPlace;

/// Where results are staged inside `output`.
pub(crate) fn staged_in(output: &Location) -> Location {
    output.join(STAGED_IN)
}

impl Publish for IntoPlace {
    fn staging(&self, output: &Location, state: State) -> Option<Location> {
        // Where an output has no name, nothing can be made beside it, so it need not be there either.
        let is_empty = matches!(state, State::EmptyDir | State::EmptyVolume);
        let serves = is_empty || state == State::Absent && output.name().is_none();
        serves.then(|| staged_in(output))
    }

    fn publish(&self, staging: &Location, output: &Location, cancel: &Cancel) -> Result<()> {
        let own = staged_in(output);
        if staging.path() == own.path() {
            return move_all(staging, output, cancel);
        }
        // A directory that only this run knows becomes the one that all look for: of two runs, one moves its files.
        match staging.move_to(&own)? {
            DirRename::Done => move_all(&own, output, cancel),
            // The same merge was cut off when it moved its files, which are these.
            DirRename::Taken if is_of_same(&own, staging)? => {
                move_all(staging, output, cancel)?;
                own.remove_dir("")
            }
            DirRename::Taken => Err(Error::new(OutputError::OutputInUse { path: output.path() })),
            DirRename::Unsupported => move_all_from_beside(staging, output, cancel),
        }
    }
}

/// Whether what is staged in `other` is of the merge whose whole result is in `staging`.
fn is_of_same(other: &Location, staging: &Location) -> Result<bool> {
    let Some(record) = Provenance::read(staging)? else { return Ok(false) };
    Ok(matches!(HeadLine::read(other)?, HeadLine::Plan(plan) if plan == record.plan)
        || is_whole(other, &record.plan))
}

/// The same for what was staged elsewhere. A journal in `output` says meanwhile whose its files are, so that the same merge
/// goes on if this is cut off.
pub(crate) fn move_all_from_beside(staging: &Location, output: &Location, cancel: &Cancel) -> Result<()> {
    let Some(record) = Provenance::read(staging)? else { return move_all(staging, output, cancel) };
    let mark = staged_in(output);
    let is_new = output.stat("")?.is_none();
    let journal = Journal::begin(&mark, &record.plan, &JournalWork { is_new, ..JournalWork::default() })?;
    move_all(staging, output, cancel)?;
    drop(journal);
    mark.remove_dir("")?;
    output.sync("")
}

/// Brings back into the directory inside `output` what a move of the merge `digest` that was cut off had moved out of it, or had
/// still to move from the directory `beside`: then all of it is as it was before the move. `files` are those of the output. What
/// cannot be moved there, as to another file system, is made again.
///
/// # Errors
/// As [`Store::stat`] and [`Store::rename`]; [`ErrorKind::Stopped`](crate::error::kind::ErrorKind::Stopped).
pub(crate) fn take_back(
    (output, beside): (&Location, Option<Location>),
    digest: &str,
    files: &[&str],
    cancel: &Cancel,
) -> Result<()> {
    let inside = staged_in(output);
    let _lock = inside.lock("")?;
    let beside = beside.filter(|beside| is_whole(beside, digest));
    let _other = beside.as_ref().map(|beside| beside.lock("")).transpose()?;
    if beside.is_none() && !is_whole(&inside, digest) {
        return Ok(());
    }
    // By its record each of the two is known, so that this comes last.
    for name in in_order(files, |name| name) {
        if inside.stat(name)?.is_some() {
            continue;
        }
        cancel.check()?;
        for from in beside.iter().chain([output]) {
            if from.has_file(name)? {
                match from.move_file(name, &inside) {
                    Err(error) if is_lack(&error) => return Ok(()),
                    moved => moved?,
                }
                break;
            }
        }
    }
    beside.map_or(Ok(()), |beside| beside.remove_dir(""))
}

/// Whether `dir` is this user's own, and has the record of the merge `digest`. What cannot be looked at is none.
fn is_whole(dir: &Location, digest: &str) -> bool {
    let is_own = dir.is_directory().unwrap_or(false) && dir.is_own_dir("").unwrap_or(false);
    is_own && Provenance::read(dir).is_ok_and(|record| record.is_some_and(|record| record.plan == digest))
}

/// Moves every file of `staging` to its place in `output`, and removes `staging`.
fn move_all(staging: &Location, output: &Location, cancel: &Cancel) -> Result<()> {
    let files = staging.files(&|_| false)?;
    let files: Vec<&Entry> = in_order(&files, |file| &file.name).collect();
    for kind in files.chunk_by(|one, other| rank(&one.name) == rank(&other.name)) {
        for file in kind {
            cancel.check().map_err(|stopped| stopped.hint(GO_ON))?;
            staging.move_file(&file.name, output)?;
        }
        // What came before lasts before the next kind is seen.
        sync_directories(output, kind)?;
    }
    staging.remove_dir("")?;
    clear_probes(output)?;
    output.sync("")
}

/// Makes the names of `files` last, directory by directory and those further down first.
fn sync_directories(output: &Location, files: &[&Entry]) -> Result<()> {
    let dirs = files.iter().flat_map(|file| file.name.match_indices('/').map(|(end, _)| &file.name[..end]));
    let mut dirs: Vec<&str> = dirs.collect();
    dirs.sort_unstable();
    dirs.dedup();
    dirs.iter().rev().chain([&""]).try_for_each(|dir| output.sync(dir))
}

/// Files in the order in which they are to be seen: everything, then the index, then the config, then the record.
pub(crate) fn in_order<T>(files: &[T], name: fn(&T) -> &str) -> impl Iterator<Item = &T> {
    (0..=3).flat_map(move |kind| files.iter().filter(move |file| rank(name(file)) == kind))
}

fn rank(name: &str) -> u8 {
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
    use crate::storage::testing::faulty::Faulty;
    use crate::storage::testing::script::Operation;

    #[test]
    fn each_directory_is_made_to_last_once_for_each_kind_of_file() {
        let syncs = |files: usize| {
            let faulty = Arc::new(Faulty::new(Memory::new()));
            let all = Location::of_store(faulty.clone());
            let (staging, output) = (all.join("staging"), all.join("output"));
            let names = (0..files).map(|i| format!("a/b/{i}")).chain(["config.json".to_owned()]);
            names.for_each(|name| write_small(&staging, &name, b"bytes").unwrap());
            move_all(&staging, &output, &Cancel::default()).unwrap();
            assert_eq!(output.files(&|_| false).unwrap().len(), files + 1);
            faulty.count(Operation::Sync)
        };
        assert_eq!(syncs(100), syncs(1));
    }
}
