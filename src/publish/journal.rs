//! The journal of a staging folder: whose it is, and which shards are whole. A JSON object a line, each line synced.
//!
//! The first line names the plan by its digest; each further one is a shard. The file is locked while a process writes the
//! output; on network file systems the lock is a courtesy only, and unique temporary names keep files whole.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Seek, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::kind::ErrorKind;
use crate::error::{Error, Result};
use crate::storage::list::read_small;

/// Its file name.
pub(crate) const JOURNAL: &str = "shardfold.journal";
const MOST_BYTES: u64 = 64 << 20;

#[derive(Serialize, Deserialize)]
struct Head {
    shardfold: String,
    plan: String,
}

/// A journal that this process writes.
pub(crate) struct Journal {
    file: File,
    path: PathBuf,
}

impl Journal {
    /// The digest in the journal of `folder`, if there is one that can be read.
    pub(crate) fn digest(folder: &Path) -> Result<Option<String>> {
        let bytes = read_small(&folder.join(JOURNAL), MOST_BYTES)?.unwrap_or_default();
        let first = bytes.split(|&byte| byte == b'\n').next().unwrap_or_default();
        Ok(serde_json::from_slice::<Head>(first).ok().map(|head| head.plan))
    }

    /// Locks the journal of `folder` and begins it anew.
    pub(crate) fn begin(folder: &Path, digest: &str) -> Result<Journal> {
        let path = folder.join(JOURNAL);
        let failed = |cause| Error::new(ErrorKind::OutputUnwritable { path: path.clone() }).because(cause);
        let file = OpenOptions::new().create(true).read(true).append(true).open(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(ErrorKind::OutputInUse { path: folder.to_owned() }.into());
            }
            // No locks on this file system: they are a courtesy.
            Err(TryLockError::Error(_)) => {}
        }
        file.set_len(0).map_err(failed)?;
        let mut journal = Journal { file, path: path.clone() };
        journal.file.rewind().map_err(failed)?;
        journal.append(&Head { shardfold: env!("CARGO_PKG_VERSION").to_owned(), plan: digest.to_owned() })?;
        Ok(journal)
    }

    /// Adds a line that lasts.
    pub(crate) fn append(&mut self, line: &impl Serialize) -> Result<()> {
        let mut text = serde_json::to_string(line).expect("strings and numbers");
        text.push('\n');
        let written = self.file.write_all(text.as_bytes()).and_then(|()| self.file.sync_all());
        written.map_err(|cause| Error::new(ErrorKind::Write { path: self.path.clone() }).because(cause))
    }

    /// Removes it.
    pub(crate) fn remove(self) -> Result<()> {
        std::fs::remove_file(&self.path)
            .map_err(|cause| Error::new(ErrorKind::Write { path: self.path.clone() }).because(cause))
    }
}
