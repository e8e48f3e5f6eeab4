//! The directory in which the parts of one merge lie until they are joined, and what is needed to join them.
//!
//! ```text
//! OUTPUT.partial/
//!   shardfold.journal                  whose it is, and of how many parts
//!   shardfold.parts/
//!     job.json                         the plan, and what else is needed to join them
//!     part-00000-of-00004/             a part that is whole: its files, its record last
//!     part-00001-of-00004.partial/     one that is being made, or was
//! ```
//!
//! A part is to its directory what a merge is to its output: staged beside it, with a journal and a lock of its own, and renamed
//! when whole. Where another run of the same part has the lock, or nothing can be locked, it is staged under a name of its own;
//! of two that come to their end, the second throws its work away, which has the same bytes.

use std::io::{self, BufReader, BufWriter, Write};

use serde::{Deserialize, Serialize};

use crate::cancel::Cancel;
use crate::error::kind::ErrorKind;
use crate::error::output::OutputError;
use crate::error::parts::PartsError;
use crate::error::storage::StorageError;
use crate::error::{Error, Result};
use crate::pipeline::progress::Snapshot;
use crate::plan::out_tensor::Plan;
use crate::plan::output_files::{JOB, PARTS};
use crate::publish::journal::is_of_parts;
use crate::publish::kept::Earlier;
use crate::publish::part_number::PartNumber;
use crate::publish::part_record::PartRecord;
use crate::publish::probe::{unique, unshared};
use crate::publish::rename::staged_beside;
use crate::publish::staging::{Staging, StagingPlace};
use crate::publish::way::{Publish, State};
use crate::storage::files::write_small;
use crate::storage::location::Location;
use crate::storage::store::{DirRename, HeldDir, Store};
use crate::storage::stream::{SinkWriter, SourceReader};

/// JSON comes in small writes and reads.
const STEP: usize = 1 << 16;

/// What is needed to join the parts beside their files.
#[derive(Serialize, Deserialize)]
pub(crate) struct PartsJob<P = Plan> {
    /// How many parts there are.
    pub(crate) parts: u32,
    /// The directory of the base.
    pub(crate) base: String,
    /// The directories of the adapters.
    pub(crate) adapters: Vec<String>,
    /// The model card.
    pub(crate) card: String,
    /// The digest that the result must have, if one was asked for.
    pub(crate) expected: Option<String>,
    /// Whether adapters may change nothing.
    pub(crate) allow_noop: bool,
    /// Whether encoding again may leave next to nothing of the deltas.
    pub(crate) accept_loss: bool,
    /// The plan of all parts.
    pub(crate) plan: P,
}

/// Counts what is written.
struct WrittenBytes(u64);

impl Write for WrittenBytes {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl PartsJob<&Plan> {
    /// Writes it below `staging`.
    fn write(&self, staging: &Location) -> Result<()> {
        let dir = staging.join(PARTS);
        let mut length = BufWriter::with_capacity(STEP, WrittenBytes(0));
        serde_json::to_writer(&mut length, self).expect("strings and numbers");
        let Ok(WrittenBytes(bytes)) = length.into_inner() else { unreachable!("counting cannot fail") };
        let mut sink = dir.create(JOB, bytes)?;
        let mut out = SinkWriter::new(sink.as_mut());
        let mut buffered = BufWriter::with_capacity(STEP, &mut out);
        let written = serde_json::to_writer(&mut buffered, self).map_err(|error| error.to_string());
        let written = written.and_then(|()| buffered.flush().map_err(|error| error.to_string()));
        drop(buffered);
        if let Err(cause) = written {
            let unknown = || Error::new(StorageError::Write { path: dir.path_of(JOB) }).because(cause);
            return Err(out.failed.take().unwrap_or_else(unknown));
        }
        sink.commit()
    }
}

impl PartsJob {
    /// The one below `staging`; none if no parts lie there.
    ///
    /// # Errors
    /// [`PartsError::Torn`]; as reading.
    pub(crate) fn read(staging: &Location) -> Result<Option<PartsJob>> {
        let dir = staging.join(PARTS);
        if !dir.has_file(JOB)? {
            return Ok(None);
        }
        let source = dir.open(JOB)?;
        let mut reader = SourceReader::new(source.as_ref());
        let read = serde_json::from_reader(BufReader::with_capacity(STEP, &mut reader));
        match (reader.failed, read) {
            (Some(error), _) => Err(error),
            (None, Ok(job)) => Ok(Some(job)),
            (None, Err(cause)) => {
                Err(Error::new(PartsError::Torn { path: dir.path_of(JOB) }).because(cause.to_string()))
            }
        }
    }
}

/// The parts of one output.
pub(crate) struct PartsDir {
    /// Where the output is staged, by its handle where it is held.
    staging: Location,
    /// Keeps that handle open.
    _held: Option<Box<dyn HeldDir>>,
    /// Where the parts are.
    dir: Location,
    /// Whether files can be locked there.
    is_locked: bool,
}

impl PartsDir {
    /// Makes the directory `place`, in which the output is staged, if it is not there, and writes what is needed to join the parts.
    ///
    /// # Errors
    /// [`OutputError::StagingForeign`], [`PartsError::NoRenames`]; as writing.
    pub(crate) fn begin(
        (place, output): (&Location, &Location),
        is_locked: bool,
        (job, digest): (&PartsJob<&Plan>, &str),
    ) -> Result<PartsDir> {
        let held = place.held_for(output)?;
        let by_handle = held.as_ref().map(|held| Location::of_store(held.files()));
        let staging = by_handle.unwrap_or_else(|| place.clone());
        // Where there is a journal, another part of the same merge wrote it.
        if !is_of_parts(&staging, digest, job.parts)? || !staging.join(PARTS).has_file(JOB)? {
            job.write(&staging)?;
        }
        try_rename(&staging.join(PARTS), output)?;
        Ok(PartsDir { dir: staging.join(PARTS), staging, _held: held, is_locked })
    }

    /// Those of a directory that somebody else holds.
    pub(crate) fn of(staging: &Location) -> PartsDir {
        PartsDir { dir: staging.join(PARTS), staging: staging.clone(), _held: None, is_locked: true }
    }

    /// Where the output is staged.
    pub(crate) fn staging(&self) -> &Location {
        &self.staging
    }

    /// Where the files of a part are.
    pub(crate) fn place(&self, number: PartNumber) -> Location {
        number.place(&self.dir)
    }

    /// Whether a part is whole, whose own plan is `plan`: its record is there, and its files, which may have been moved to where they
    /// are joined.
    ///
    /// # Errors
    /// As reading.
    pub(crate) fn is_whole(&self, number: PartNumber, digest: &str, plan: &Plan) -> Result<bool> {
        let place = self.place(number);
        self.is_whole_in(&place, &[&place, &self.staging], (number, digest, plan))
    }

    fn is_whole_in(
        &self,
        place: &Location,
        dirs: &[&Location],
        (number, digest, plan): (PartNumber, &str, &Plan),
    ) -> Result<bool> {
        match PartRecord::read(place) {
            Ok(Some(record))
                if record.plan == digest && record.is_of(number, &plan.shards, plan.claims.len()) =>
            {
                Ok(record.lacks(dirs)?.is_none())
            }
            Ok(_) => Ok(false),
            Err(error) if matches!(error.kind(), ErrorKind::Parts(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Shows a part that a run had made and did not get to show. Returns whether it is whole now.
    ///
    /// # Errors
    /// As reading and [`Store::rename_dir`].
    pub(crate) fn show_left(&self, number: PartNumber, digest: &str, plan: &Plan) -> Result<bool> {
        let place = self.place(number);
        let left = staged_beside(&place).expect("it has a name");
        if !self.is_whole_in(&left, &[&left], (number, digest, plan))? {
            return Ok(false);
        }
        match PartRename.publish(&left, &place, &Cancel::default()) {
            Ok(()) => Ok(true),
            // Somebody else did.
            Err(_) if left.stat("")?.is_none() => self.is_whole(number, digest, plan),
            Err(error) => Err(error),
        }
    }

    /// Removes what has the place of a part and is not whole.
    ///
    /// # Errors
    /// As [`Store::remove_dir`].
    pub(crate) fn forget(&self, number: PartNumber) -> Result<()> {
        self.place(number).remove_dir("")
    }

    /// Whether a run that is alive makes a part, as far as locks tell.
    ///
    /// # Errors
    /// As [`Store::stat`].
    pub(crate) fn is_being_made(&self, number: PartNumber) -> Result<bool> {
        let dir = staged_beside(&self.place(number)).expect("it has a name");
        if dir.stat("")?.is_none() {
            return Ok(false);
        }
        Ok(dir.lock("").is_err_and(|error| is_in_use(&error)))
    }

    /// The number of parts that another merge has, of which something lies here.
    ///
    /// # Errors
    /// As [`Store::list`].
    pub(crate) fn other_count(&self, count: u32) -> Result<Option<u32>> {
        let entries = self.dir.list("")?;
        let counts = entries.iter().filter_map(|entry| PartNumber::count_in(&entry.name));
        Ok(counts.into_iter().find(|found| *found != count))
    }

    /// Begins to stage a part, behind what an earlier run left of it.
    ///
    /// # Errors
    /// As [`Staging::begin`].
    pub(crate) fn stage(
        &self,
        number: PartNumber,
        earlier: &Earlier<'_>,
        tick: &mut dyn FnMut(&Snapshot),
    ) -> Result<Staging> {
        let place = self.place(number);
        let shared = staged_beside(&place).expect("it has a name");
        let at = |dir: &Location, tick: &mut dyn FnMut(&Snapshot)| {
            let place = StagingPlace { dir, state: dir, output: &place, is_new: false };
            Staging::begin(&PartRename, place, earlier, tick)
        };
        if self.is_locked {
            match at(&shared, tick) {
                Err(error) if is_in_use(&error) => {}
                begun => return begun,
            }
        }
        Ok(at(&unshared(&shared), tick)?.unshared())
    }

    /// Shows a part that is staged, and is whole with these files.
    ///
    /// # Errors
    /// As [`Staging::finish`] and [`Publish::publish`].
    pub(crate) fn publish(
        &self,
        number: PartNumber,
        staging: Staging,
        (files, access): (&[(String, u64)], u32),
    ) -> Result<()> {
        let is_shared = staging.is_shared();
        let (dir, _lock) = staging.finish(files, access)?;
        let published = PartRename.publish(&dir, &self.place(number), &Cancel::default());
        if published.is_err() && !is_shared {
            // Nobody would go on with it.
            let _ = dir.remove_dir("");
        }
        published
    }
}

/// Fails if directories cannot be renamed in `dir`: it would be found when a part is whole.
fn try_rename(dir: &Location, output: &Location) -> Result<()> {
    let [from, to] = [(), ()].map(|()| dir.join(&format!(".{}.tmp", unique())));
    write_small(&from, "a", b"")?;
    let renamed = from.move_to(&to);
    // What is left of it is only in the way.
    let _ = from.remove_dir("");
    let _ = to.remove_dir("");
    match renamed? {
        DirRename::Done => Ok(()),
        DirRename::Taken | DirRename::Unsupported => Err(no_renames(output)),
    }
}

/// The refusal of an output where a part cannot be renamed.
pub(crate) fn no_renames(output: &Location) -> Error {
    Error::new(PartsError::NoRenames { path: output.path() }).hint(
        "merge without `--part`, or name an output on a file system that all hosts share, and copy the result from there",
    )
}

/// Whether an error says that another process has a lock.
fn is_in_use(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Output(OutputError::OutputInUse { .. }))
}

/// The rename of a part's directory.
struct PartRename;

impl Publish for PartRename {
    fn staging(&self, output: &Location, _state: State) -> Option<Location> {
        staged_beside(output)
    }

    fn publish(&self, staging: &Location, output: &Location, _cancel: &Cancel) -> Result<()> {
        match staging.move_to(output)? {
            DirRename::Done => output.parent().map_or(Ok(()), |parent| parent.sync("")),
            DirRename::Taken => Err(Error::new(OutputError::OutputHolds { path: output.path() })),
            DirRename::Unsupported => Err(no_renames(output)),
        }
    }
}
