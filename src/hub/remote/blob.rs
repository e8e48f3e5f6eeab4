//! One file on its way into the cache: `blobs/HASH.incomplete` while it comes, `blobs/HASH` once it is whole and checked.

use std::time::{Duration, Instant};

use crate::error::kind::ErrorKind;
use crate::error::output::OutputError;
use crate::error::request::RequestError;
use crate::error::{Error, Result};
use crate::hub::fetching::{Fetching, Watch};
use crate::hub::remote::content_sum::ContentHash;
use crate::hub::remote::repository::RemoteRepository;
use crate::storage::files::write_small;
use crate::storage::folder::Folder;
use crate::storage::http::file::{HttpFile, HttpFileInfo};
use crate::storage::partial::PartialFile;
use crate::storage::store::{EntryKind, Lock, Stat, Store};

/// Bytes that are in memory at a time.
const STEP: usize = 64 << 10;
/// How often somebody looks how far it is.
const TICK: Duration = Duration::from_millis(100);

/// A file that goes into the cache.
pub(crate) struct KeptFile<'r> {
    /// Its name in the repository.
    pub(crate) name: &'r str,
    /// Where it is, and how long.
    pub(crate) info: &'r HttpFileInfo,
    /// What it is kept by.
    pub(crate) hash: ContentHash<'r>,
}

impl<'r> KeptFile<'r> {
    /// A file that was listed.
    ///
    /// # Errors
    /// [`RequestError::NoHash`].
    pub(crate) fn new(name: &'r str, info: &'r HttpFileInfo) -> Result<KeptFile<'r>> {
        let hash = info.content_id.as_deref().and_then(ContentHash::of).ok_or_else(|| {
            let error = Error::new(RequestError::NoHash { file: info.path.clone() });
            error.hint("leave out `--cache`: then it is read as it is needed")
        })?;
        Ok(KeptFile { name, info, hash })
    }

    /// The name of its bytes in the cache.
    pub(crate) fn blob(&self) -> String {
        format!("blobs/{}", self.hash.hex)
    }

    /// The name of as much of them as has come.
    pub(crate) fn part(&self) -> String {
        format!("blobs/{}.incomplete", self.hash.hex)
    }

    /// Whether a file of its length has the name.
    ///
    /// # Errors
    /// As [`Store::stat`].
    pub(crate) fn is_at(&self, folder: &Folder, name: &str) -> Result<bool> {
        Ok(folder.stat(name)? == Some(Stat { kind: EntryKind::File, bytes: self.info.bytes }))
    }

    /// Fails unless this is the hash that the hub lists.
    fn check(&self, found: String) -> Result<()> {
        let ContentHash { function, hex } = self.hash;
        if found == hex {
            return Ok(());
        }
        let (file, expected) = (self.info.path.clone(), hex.to_owned());
        let error = Error::new(RequestError::WrongBytes { file, function, expected, found });
        Err(error.hint(
            "nothing of it is kept: run the same command again; if it comes again, a proxy or a mirror (`HF_ENDPOINT`) changes what \
             it sends on",
        ))
    }
}

/// Counts what has come, and shows it now and then.
pub(crate) struct Meter<'m, 'w> {
    now: Fetching,
    watch: &'m mut Watch<'w>,
    last: Instant,
}

impl<'m, 'w> Meter<'m, 'w> {
    /// Shows that nothing has come.
    pub(crate) fn new(now: Fetching, watch: &'m mut Watch<'w>) -> Meter<'m, 'w> {
        watch(&now);
        Meter { now, watch, last: Instant::now() }
    }

    fn add(&mut self, bytes: u64) {
        self.now.done_bytes += bytes;
        if self.last.elapsed() >= TICK {
            self.last = Instant::now();
            (self.watch)(&self.now);
        }
    }

    fn next_file(&mut self) {
        self.now.file = (self.now.file + 1).min(self.now.files.saturating_sub(1));
    }
}

/// Fetches one file after the other.
pub(crate) struct Fetcher<'k, 'm, 'w> {
    /// The repository's directory in the cache, and that of its locks.
    folder: &'k Folder,
    locks: &'k Folder,
    repository: &'k RemoteRepository,
    meter: Meter<'m, 'w>,
    buf: Vec<u8>,
}

impl<'k, 'm, 'w> Fetcher<'k, 'm, 'w> {
    /// Into `folder`, with locks in `locks`.
    pub(crate) fn new(
        (folder, locks): (&'k Folder, &'k Folder),
        repository: &'k RemoteRepository,
        meter: Meter<'m, 'w>,
    ) -> Fetcher<'k, 'm, 'w> {
        Fetcher { folder, locks, repository, meter, buf: vec![0; STEP] }
    }

    /// Fetches what the cache lacks of a file, checks all of it, and shows it as a blob.
    ///
    /// # Errors
    /// [`RequestError::WrongBytes`], and then nothing of it is kept; as reading and writing.
    pub(crate) fn fetch(&mut self, file: &KeptFile<'_>) -> Result<()> {
        let _held = self.lock(file)?;
        // Whoever held the lock may have fetched it.
        if file.is_at(self.folder, &file.blob())? {
            self.meter.add(file.info.bytes);
        } else {
            self.fetch_blob(file)?;
        }
        self.meter.next_file();
        Ok(())
    }

    fn fetch_blob(&mut self, file: &KeptFile<'_>) -> Result<()> {
        let Fetcher { folder, repository, meter, buf, .. } = self;
        let cancel = &repository.client.cancel;
        let mut part = PartialFile::open(folder, &file.part(), &file.blob(), file.info.bytes)?;
        let mut sum = file.hash.begin(file.info.bytes);
        part.read(buf, &mut |bytes| {
            cancel.check()?;
            sum.update(bytes);
            meter.add(bytes.len() as u64);
            Ok(())
        })?;
        let remote = HttpFile::new(repository.client.clone(), file.info.clone());
        remote.download(part.come(), buf, &mut |bytes| {
            part.write(bytes)?;
            sum.update(bytes);
            meter.add(bytes.len() as u64);
            Ok(())
        })?;
        match file.check(sum.finish()) {
            Ok(()) => part.show(),
            Err(error) => part.remove().and(Err(error)),
        }
    }

    /// Waits until nobody else fetches the file.
    fn lock(&self, file: &KeptFile<'_>) -> Result<Lock> {
        let name = format!("{}.lock", file.hash.hex);
        if self.locks.stat(&name)?.is_none() {
            write_small(self.locks, &name, b"")?;
        }
        loop {
            match self.locks.lock(&name) {
                // That has waited for a moment itself.
                Err(error) if matches!(error.kind(), ErrorKind::Output(OutputError::OutputInUse { .. })) => {
                    self.repository.client.cancel.check()?;
                }
                locked => return locked,
            }
        }
    }
}
