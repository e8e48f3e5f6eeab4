//! The directory in which a result is made before it is seen, with its journal and its lock.

use crate::error::kind::ErrorKind;
use crate::error::output::OutputError;
use crate::error::storage::StorageError;
use crate::error::{Error, Result};
use crate::pipeline::writer::ShardDone;
use crate::publish::journal::{HeadLine, JOURNAL, Journal, is_unfinished};
use crate::publish::provenance::Provenance;
use crate::storage::location::Location;
use crate::storage::store::{Entry, EntryKind, Lock, Store};

/// A staging directory that this process holds.
pub(crate) struct Staging {
    dir: Location,
    /// Held until the result is shown: the journal goes before that.
    lock: Lock,
    journal: Journal,
    shards: Vec<ShardDone>,
}

/// Whose a staging directory is.
pub(crate) enum Owner {
    /// Nobody's: there is nothing in it, or nothing but a beginning.
    Nobody,
    /// The merge of the plan with this digest.
    Plan(String),
    /// Nothing there tells.
    Unknown,
}

/// Whose the staging directory `dir` is.
///
/// # Errors
/// As [`Store::stat`], [`Store::list`] and [`Location::read_small`].
pub(crate) fn owner(dir: &Location) -> Result<Owner> {
    match HeadLine::read(dir)? {
        HeadLine::Plan(digest) => return Ok(Owner::Plan(digest)),
        HeadLine::Torn => return Ok(Owner::Nobody),
        HeadLine::Unknown => return Ok(Owner::Unknown),
        HeadLine::Absent => {}
    }
    // The journal goes just before the result is shown: what is whole and not yet shown has its record.
    if let Some(record) = Provenance::read(dir)? {
        return Ok(Owner::Plan(record.plan));
    }
    let is_begun = match dir.stat("")?.map(|stat| stat.kind) {
        None => true,
        Some(EntryKind::Dir) => dir.list("")?.iter().all(|entry| is_unfinished(&entry.name)),
        Some(_) => false,
    };
    Ok(if is_begun { Owner::Nobody } else { Owner::Unknown })
}

impl Staging {
    /// Makes `dir` if it is not there, takes its lock, and clears what an earlier run left in it.
    ///
    /// # Errors
    /// [`OutputError::OutputInUse`], [`OutputError::OutputUnwritable`]; as [`Store::list`].
    pub(crate) fn begin(dir: &Location, digest: &str) -> Result<Staging> {
        let unwritable = |error: Error| match error.kind() {
            ErrorKind::Storage(StorageError::Write { path }) => {
                Error::new(OutputError::OutputUnwritable { path: path.clone() }).because(error)
            }
            _ => error,
        };
        let lock = dir.lock("").map_err(unwritable)?;
        let journal = Journal::begin(dir, digest).map_err(unwritable)?;
        clear(dir).map_err(unwritable)?;
        Ok(Staging { dir: dir.clone(), lock, journal, shards: Vec::new() })
    }

    /// Where it is.
    pub(crate) fn dir(&self) -> &Location {
        &self.dir
    }

    /// Records that a shard is whole and will last.
    ///
    /// # Errors
    /// [`StorageError::Write`].
    pub(crate) fn shard_done(&mut self, shard: ShardDone) -> Result<()> {
        self.journal.append(&shard)?;
        self.shards.push(shard);
        Ok(())
    }

    /// The shards that are whole, in order.
    pub(crate) fn shards(&self) -> &[ShardDone] {
        &self.shards
    }

    /// Throws away all that is staged.
    pub(crate) fn discard(self) {
        // Nothing is lost if this fails: the next run clears it.
        let _ = self.dir.remove_dir("");
    }

    /// Takes the journal out of what is staged, which is then only the result, and hands its lock on.
    ///
    /// # Errors
    /// As [`Store::remove`] and [`Store::sync`].
    pub(crate) fn finish(self) -> Result<(Location, Lock)> {
        let Staging { dir, lock, journal, .. } = self;
        journal.remove()?;
        dir.sync("")?;
        Ok((dir, lock))
    }
}

/// Removes everything but the journal.
fn clear(dir: &Location) -> Result<()> {
    for Entry { name, kind, .. } in others(dir)? {
        match kind {
            EntryKind::Dir => dir.remove_dir(&name)?,
            _ => dir.remove(&name)?,
        }
    }
    let Some(entry) = others(dir)?.into_iter().next() else { return Ok(()) };
    Err(Error::new(StorageError::Write { path: dir.path_of(&entry.name) }).because("it cannot be removed"))
}

/// Everything but the journal.
fn others(dir: &Location) -> Result<Vec<Entry>> {
    let mut entries = dir.list("")?;
    entries.retain(|entry| entry.name != JOURNAL);
    Ok(entries)
}
