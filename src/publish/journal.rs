//! The journal of a staging directory: whose it is, and which shards are whole. A JSON object a line, each line synced.
//!
//! The first line names the plan by its digest; each further one is a shard. The file is locked while a process writes the
//! output; on network file systems the lock is a courtesy only, and unique temporary names keep files whole.

use serde::{Deserialize, Serialize};

use crate::error::output::OutputError;
use crate::error::{Error, Result};
use crate::plan::output_files::WORK;
use crate::publish::probe::unique;
use crate::storage::files::write_small;
use crate::storage::location::Location;
use crate::storage::sink::Patch;
use crate::storage::store::{Lock, Store};

/// Its file name.
pub(crate) const JOURNAL: &str = WORK;
/// The first line is far shorter.
const MOST_HEAD_BYTES: u64 = 4096;

#[derive(Serialize, Deserialize)]
struct JournalHead {
    shardfold: String,
    plan: String,
    /// Which run began it: where locks cannot be trusted, another may have begun it anew.
    #[serde(default)]
    run: String,
}

/// What a journal says of its plan.
pub(crate) enum HeadLine {
    /// There is no journal.
    Absent,
    /// There is one without a whole first line: whoever began it did not get to write anything.
    Torn,
    /// The digest of its plan.
    Plan(String),
    /// A first line that is not ours.
    Unknown,
}

impl HeadLine {
    /// What the journal in `dir` says.
    ///
    /// # Errors
    /// As [`Location::read_start`].
    pub(crate) fn read(dir: &Location) -> Result<HeadLine> {
        let Some(start) = dir.read_start(JOURNAL, MOST_HEAD_BYTES)? else { return Ok(HeadLine::Absent) };
        let Some(end) = start.bytes.iter().position(|&byte| byte == b'\n') else {
            return Ok(if start.is_whole { HeadLine::Torn } else { HeadLine::Unknown });
        };
        let head = serde_json::from_slice::<JournalHead>(&start.bytes[..end]);
        Ok(head.map_or(HeadLine::Unknown, |head| HeadLine::Plan(head.plan)))
    }
}

/// Whether a name is that of a journal that was about to be made.
pub(crate) fn is_unfinished(name: &str) -> bool {
    let rest = name.strip_prefix('.').and_then(|name| name.strip_prefix(JOURNAL));
    rest.is_some_and(|rest| rest.ends_with(".tmp"))
}

/// A journal that this process writes.
pub(crate) struct Journal {
    dir: Location,
    file: Box<dyn Patch>,
    /// Bytes written.
    len: u64,
    lock: Lock,
    run: String,
}

impl Journal {
    /// Begins the journal of `dir` anew, and locks it.
    ///
    /// # Errors
    /// [`OutputError::OutputInUse`](crate::error::output::OutputError::OutputInUse) if another process writes it; as [`write_small`].
    pub(crate) fn begin(dir: &Location, digest: &str) -> Result<Journal> {
        if dir.has_file(JOURNAL)? {
            dir.lock(JOURNAL)?;
        }
        let (shardfold, run) = (env!("CARGO_PKG_VERSION").to_owned(), unique());
        let head = line(&JournalHead { shardfold, plan: digest.to_owned(), run: run.clone() });
        write_small(dir, JOURNAL, head.as_bytes())?;
        let lock = dir.lock(JOURNAL)?;
        Ok(Journal { dir: dir.clone(), file: dir.patch(JOURNAL)?, len: head.len() as u64, lock, run })
    }

    /// Adds a line that lasts.
    ///
    /// # Errors
    /// As [`Patch::write_at`] and [`Patch::sync`].
    pub(crate) fn append(&mut self, entry: &impl Serialize) -> Result<()> {
        let text = line(entry);
        self.file.write_at(text.as_bytes(), self.len)?;
        self.len += text.len() as u64;
        self.file.sync()
    }

    /// Removes it, if it is still the one that this run began.
    ///
    /// # Errors
    /// [`OutputError::OutputInUse`] if another run began it anew; as [`Store::remove`].
    pub(crate) fn remove(self) -> Result<()> {
        let Journal { dir, file, lock, run, .. } = self;
        let head = first_line(&dir)?.and_then(|line| serde_json::from_slice::<JournalHead>(&line).ok());
        if head.is_none_or(|head| head.run != run) {
            return Err(Error::new(OutputError::OutputInUse { path: dir.path() }));
        }
        // Some file systems remove no file that is open, and others keep it under another name.
        drop((file, lock));
        dir.remove(JOURNAL)
    }
}

/// The journal's first line, if it is whole.
fn first_line(dir: &Location) -> Result<Option<Vec<u8>>> {
    let start = dir.read_start(JOURNAL, MOST_HEAD_BYTES)?.map(|start| start.bytes).unwrap_or_default();
    Ok(start.iter().position(|&byte| byte == b'\n').map(|end| start[..end].to_vec()))
}

fn line(entry: &impl Serialize) -> String {
    let mut text = serde_json::to_string(entry).expect("strings and numbers");
    text.push('\n');
    text
}
