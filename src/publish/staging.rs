//! The folder in which a result is made before it is seen, with its journal and its lock.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use crate::error::kind::ErrorKind;
use crate::error::{Error, Result};
use crate::pipeline::writer::ShardDone;
use crate::storage::files::sync_folder;
use crate::storage::list::{State, state};

use crate::publish::journal::{JOURNAL, Journal};
use crate::publish::provenance::Provenance;

/// A staging folder that this process holds.
pub(crate) struct Staging {
    folder: PathBuf,
    /// Held until the result is shown: the journal goes before that. None where folders cannot be locked.
    lock: Option<File>,
    journal: Journal,
    shards: Vec<ShardDone>,
}

/// The digest of the plan that made what is in `folder`; `None` if nothing there tells.
pub(crate) fn owner(folder: &Path) -> Result<Option<String>> {
    if let Some(digest) = Journal::digest(folder)? {
        return Ok(Some(digest));
    }
    // The journal goes just before the result is shown: what is whole and not yet shown has its record.
    Ok(Provenance::read(folder)?.map(|record| record.plan))
}

/// Whether new files can be made in `folder`.
pub(crate) fn is_writable(folder: &Path) -> bool {
    if !folder.exists() {
        return folder.parent().is_some_and(is_writable);
    }
    rustix::fs::access(folder, rustix::fs::Access::WRITE_OK).is_ok()
}

/// Locks `folder` itself, which goes on when it is renamed.
fn lock(folder: &Path) -> Result<Option<File>> {
    let Ok(file) = File::open(folder) else { return Ok(None) };
    match file.try_lock() {
        // Whoever had it may have shown it, or thrown it away, since it was opened.
        Ok(()) if is_still(&file, folder) => Ok(Some(file)),
        Ok(()) | Err(TryLockError::WouldBlock) => {
            Err(ErrorKind::OutputInUse { path: folder.to_owned() }.into())
        }
        Err(TryLockError::Error(_)) => Ok(None),
    }
}

/// Whether `path` names what was opened as `file`.
fn is_still(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (file.metadata(), fs::metadata(path)) {
        (Ok(opened), Ok(now)) => (opened.dev(), opened.ino()) == (now.dev(), now.ino()),
        _ => false,
    }
}

impl Staging {
    /// Makes `folder` if it is not there, takes its lock, and clears what an earlier run left in it.
    pub(crate) fn begin(folder: &Path, digest: &str) -> Result<Staging> {
        let unwritable =
            |cause| Error::new(ErrorKind::OutputUnwritable { path: folder.to_owned() }).because(cause);
        fs::create_dir_all(folder).map_err(unwritable)?;
        let lock = lock(folder)?;
        let journal = Journal::begin(folder, digest)?;
        for entry in fs::read_dir(folder).map_err(unwritable)? {
            let entry = entry.map_err(unwritable)?;
            if entry.file_name() == JOURNAL {
                continue;
            }
            let is_folder = entry.file_type().map_err(unwritable)?.is_dir();
            let remove = if is_folder { fs::remove_dir_all } else { fs::remove_file };
            remove(entry.path()).map_err(unwritable)?;
        }
        Ok(Staging { folder: folder.to_owned(), lock, journal, shards: Vec::new() })
    }

    /// Where it is.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Records that a shard is whole and will last.
    ///
    /// # Errors
    /// [`ErrorKind::Write`].
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
        let _ = fs::remove_dir_all(&self.folder);
    }

    /// Takes the journal out of what is staged, which is then only the result, and hands its lock on.
    pub(crate) fn finish(self) -> Result<(PathBuf, Option<File>)> {
        let Staging { folder, lock, journal, .. } = self;
        journal.remove()?;
        let failed = |cause| Error::new(ErrorKind::Write { path: folder.clone() }).because(cause);
        sync_folder(&folder).map_err(failed)?;
        debug_assert_ne!(state(&folder)?, State::Absent);
        Ok((folder, lock))
    }
}
