//! [`CloudFile`]: an object of which ranges are read, all of them of the same bytes.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use futures_util::StreamExt;
use object_store::path::Path as Key;
use object_store::{Error as CloudError, GetOptions, GetRange, ObjectMeta, ObjectStoreExt};

use crate::error::kind::ErrorKind;
use crate::error::storage::StorageError;
use crate::error::{Error, Result};
use crate::storage::cloud::client::{CloudClient, NoAnswer};
use crate::storage::io::read_ahead::Readable;
use crate::storage::remote::fetch::Fetch;
use crate::storage::remote::reads::failed_once;
use crate::storage::times::FileTimes;

/// The most that one request asks for: it is made again as a whole if its answer stalls.
const RANGE_MOST: usize = 8 << 20;

/// What tells the bytes of an object from those that had its key before, or have it after.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Edition {
    bytes: u64,
    tag: Option<String>,
    version: Option<String>,
    written: (i64, i64),
}

impl Edition {
    /// Of an object as the store tells of it.
    pub(crate) fn of(meta: &ObjectMeta) -> Edition {
        Edition {
            bytes: meta.size,
            tag: meta.e_tag.clone(),
            version: meta.version.clone(),
            // What tells more than seconds tells it in lists alone.
            written: (meta.last_modified.timestamp(), 0),
        }
    }
}

/// An object that is open for reading.
pub(crate) struct CloudFile {
    client: Arc<CloudClient>,
    key: Key,
    path: PathBuf,
    edition: Edition,
    clock: u64,
}

impl CloudFile {
    /// The object with this key, which is `edition` now.
    pub(crate) fn new(client: Arc<CloudClient>, key: Key, edition: Edition) -> CloudFile {
        static CLOCKS: AtomicU64 = AtomicU64::new(0);
        let path = client.path_of(key.as_ref());
        CloudFile { client, key, path, edition, clock: CLOCKS.fetch_add(1, Relaxed) }
    }

    /// What is asked for: a range, of no other bytes than when it was opened.
    fn options(&self, offset: u64, count: usize) -> GetOptions {
        // One that is weak is equal to none.
        let tag = self.edition.tag.clone().filter(|tag| !tag.starts_with("W/"));
        let range = Some(GetRange::Bounded(offset..offset + count as u64));
        GetOptions { range, if_match: tag, ..GetOptions::default() }
    }

    /// Asks once, and gives as many bytes as come.
    fn ask(&self, buf: &mut [u8], offset: u64) -> std::result::Result<usize, NoAnswer> {
        let count = buf.len().min(RANGE_MOST);
        let buf = &mut buf[..count];
        if buf.is_empty() {
            return Ok(0);
        }
        self.client.wait(async {
            let answer = self.client.objects.get_opts(&self.key, self.options(offset, count)).await?;
            let (range, bytes) = (answer.range.clone(), answer.meta.size);
            if range != (offset..offset + count as u64) || bytes != self.edition.bytes {
                return Err(strange(format!("bytes {range:?} of {bytes} came")));
            }
            let (mut stream, mut done) = (answer.into_stream(), 0);
            while let Some(piece) = stream.next().await {
                let piece = piece?;
                let room = buf.get_mut(done..done + piece.len());
                room.ok_or_else(|| strange("more came than was asked for"))?.copy_from_slice(&piece);
                done += piece.len();
            }
            Ok(done)
        })
    }

    fn changed(&self) -> Error {
        StorageError::Changed { path: self.path.clone() }.into()
    }

    fn cannot_read(&self, offset: u64, cause: NoAnswer) -> Error {
        match cause {
            NoAnswer::Refused(CloudError::Precondition { .. } | CloudError::NotFound { .. }) => {
                self.changed()
            }
            cause => self.client.explained(StorageError::Read { path: self.path.clone(), offset }, cause),
        }
    }
}

/// The error of an answer to another question.
fn strange(text: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> CloudError {
    CloudError::Generic { store: "range", source: text.into() }
}

impl Readable for CloudFile {
    fn read_some(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let count = (buf.len() as u64).min(self.edition.bytes.saturating_sub(offset));
        self.ask(&mut buf[..count as usize], offset).map_err(|cause| match cause {
            NoAnswer::Refused(refusal) => failed_once(refusal),
            NoAnswer::Stopped => failed_once("interrupted"),
        })
    }
}

impl Fetch for CloudFile {
    fn len(&self) -> u64 {
        self.edition.bytes
    }

    fn fetch(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let mut done = 0;
        while done < buf.len() {
            let at = offset + done as u64;
            let count = self.ask(&mut buf[done..], at).map_err(|cause| self.cannot_read(at, cause))?;
            if count == 0 {
                return Err(self.cannot_read(at, NoAnswer::Refused(strange("nothing came"))));
            }
            done += count;
        }
        Ok(())
    }

    fn path(&self) -> &Path {
        &self.path
    }

    /// None: what a store calls an object (an `ETag`) is no name of its bytes, as the same bytes in other parts have another.
    fn content_id(&self) -> Option<&str> {
        None
    }

    fn check_unchanged(&self) -> Result<()> {
        match self.client.wait(self.client.objects.head(&self.key)) {
            Ok(meta) if Edition::of(&meta) == self.edition => Ok(()),
            Ok(_) | Err(NoAnswer::Refused(CloudError::NotFound { .. })) => Err(self.changed()),
            Err(NoAnswer::Stopped) => Err(ErrorKind::Stopped.into()),
            Err(cause) => {
                let error = StorageError::Unreadable { path: self.path.clone() };
                Err(self.client.explained(error, cause))
            }
        }
    }

    /// By a clock that no other file has: what is sent in parts is as old as its first part, so that an object may have come after
    /// one that is younger.
    fn times(&self) -> Option<FileTimes> {
        let (second, _) = self.edition.written;
        // What happened within a second the tag tells.
        let tag = blake3::hash(self.edition.tag.as_deref().unwrap_or_default().as_bytes());
        let within = tag.as_bytes().iter().take(4).fold(0, |all, byte| (all << 8) | i64::from(*byte));
        let changed = (second, within % 1_000_000_000);
        Some(FileTimes { clock: self.clock, written: self.edition.written, changed, named: changed })
    }
}
