//! [`Checksummed`]: a directory that takes the SHA-256 of every file as it is written into it, so that no file is read again.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest, Sha256};

use crate::cancel::Cancel;
use crate::error::Result;
use crate::storage::io::settings::IoSettings;
use crate::storage::location::Location;
use crate::storage::rules::part_name;
use crate::storage::sink::{Patch, Scratch, Sink};
use crate::storage::source::Source;
use crate::storage::store::{DirRename, Entry, Lock, Stat, Store};

/// Bytes of a kept part that are read at a time.
const STEP: u64 = 1 << 20;

/// The SHA-256 of files in hex, by name.
pub(crate) type Sums = Arc<Mutex<HashMap<String, String>>>;

/// A directory whose new files are hashed.
pub(crate) struct Checksummed {
    inner: Location,
    sums: Sums,
    cancel: Cancel,
}

/// Hashes and counts what is written to it.
#[derive(Default)]
pub(crate) struct Sha256Writer {
    hash: Sha256,
    bytes: u64,
}

impl Sha256Writer {
    /// How many bytes were written.
    #[cfg(any(feature = "cloud", feature = "hub"))]
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many bytes were written, and their hash in hex.
    pub(crate) fn finish(self) -> (u64, String) {
        (self.bytes, hex(self.hash))
    }
}

impl io::Write for Sha256Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.hash.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The hash of the first `len` bytes of a file, in hex.
///
/// # Errors
/// As [`Source::read_at`]; [`ErrorKind::Stopped`](crate::error::kind::ErrorKind::Stopped).
pub(crate) fn sha256_of(source: &dyn Source, cancel: &Cancel) -> Result<String> {
    read(source, source.len(), cancel).map(hex)
}

fn hex(hash: Sha256) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn read(source: &dyn Source, len: u64, cancel: &Cancel) -> Result<Sha256> {
    let (mut hash, mut at) = (Sha256::new(), 0);
    let mut buf = vec![0; len.min(STEP) as usize];
    while at < len {
        cancel.check()?;
        let step = (len - at).min(STEP) as usize;
        source.read_at(&mut buf[..step], at)?;
        hash.update(&buf[..step]);
        at += step as u64;
    }
    Ok(hash)
}

impl Checksummed {
    /// The directory `inner`, whose hashes go into `sums` as files are committed.
    pub(crate) fn new(inner: Location, sums: Sums, cancel: Cancel) -> Checksummed {
        Checksummed { inner, sums, cancel }
    }

    fn hashed(&self, name: &str, sink: Box<dyn Sink>, hash: Sha256) -> Box<dyn Sink> {
        Box::new(HashedSink { name: name.to_owned(), sink, hash, sums: self.sums.clone() })
    }
}

impl Store for Checksummed {
    fn open(&self, name: &str) -> Result<Box<dyn Source>> {
        self.inner.open(name)
    }

    fn create(&self, name: &str, len: u64) -> Result<Box<dyn Sink>> {
        Ok(self.hashed(name, self.inner.create(name, len)?, Sha256::new()))
    }

    fn resume(&self, name: &str, kept: u64, len: u64) -> Result<Box<dyn Sink>> {
        // The state of this hash is not kept, so that what was kept of the file is read again.
        let hash = match kept {
            0 => Sha256::new(),
            kept => read(self.inner.open(&part_name(name))?.as_ref(), kept, &self.cancel)?,
        };
        Ok(self.hashed(name, self.inner.resume(name, kept, len)?, hash))
    }

    fn write_once(&self, name: &str, len: u64) -> Result<Box<dyn Sink>> {
        Ok(self.hashed(name, self.inner.write_once(name, len)?, Sha256::new()))
    }

    fn patch(&self, name: &str) -> Result<Box<dyn Patch>> {
        self.inner.patch(name)
    }

    fn stat(&self, dir: &str) -> Result<Option<Stat>> {
        self.inner.stat(dir)
    }

    fn list(&self, dir: &str) -> Result<Vec<Entry>> {
        self.inner.list(dir)
    }

    fn rename(&self, from: &str, to: &str) -> Result<()> {
        self.inner.rename(from, to)
    }

    fn rename_dir(&self, from: &str, to: &str) -> Result<DirRename> {
        self.inner.rename_dir(from, to)
    }

    fn remove(&self, name: &str) -> Result<()> {
        self.inner.remove(name)
    }

    fn remove_dir(&self, dir: &str) -> Result<()> {
        self.inner.remove_dir(dir)
    }

    fn sync(&self, dir: &str) -> Result<()> {
        self.inner.sync(dir)
    }

    fn lock(&self, name: &str) -> Result<Lock> {
        self.inner.lock(name)
    }

    fn scratch(&self, dir: &str, len: u64) -> Result<Box<dyn Scratch>> {
        self.inner.scratch(dir, len)
    }

    fn free_bytes(&self, dir: &str) -> Option<u64> {
        self.inner.free_bytes(dir)
    }

    fn is_in_memory(&self, dir: &str) -> bool {
        self.inner.is_in_memory(dir)
    }

    fn use_io(&self, settings: IoSettings) {
        self.inner.use_io(settings);
    }

    fn refused_io(&self) -> Option<&'static str> {
        self.inner.refused_io()
    }

    fn path_of(&self, dir: &str) -> PathBuf {
        self.inner.path_of(dir)
    }
}

/// A new file and the hash of what was written.
struct HashedSink {
    name: String,
    sink: Box<dyn Sink>,
    hash: Sha256,
    sums: Sums,
}

impl Sink for HashedSink {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.sink.write(bytes)?;
        self.hash.update(bytes);
        Ok(())
    }

    fn keep(&mut self) -> Result<bool> {
        self.sink.keep()
    }

    fn write_same(&mut self, bytes: &[u8], source: &dyn Source, offset: u64) -> Result<()> {
        self.sink.write_same(bytes, source, offset)?;
        self.hash.update(bytes);
        Ok(())
    }

    fn skip(&mut self, bytes: u64) -> Result<()> {
        self.sink.skip(bytes)
    }

    fn commit(self: Box<Self>) -> Result<()> {
        self.sink.commit()?;
        self.sums.lock().unwrap_or_else(PoisonError::into_inner).insert(self.name, hex(self.hash));
        Ok(())
    }

    fn abort(self: Box<Self>) {
        self.sink.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::files::write_small;

    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn a_file_is_hashed_however_it_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let sums = Sums::default();
        let inner = Location::of_path(folder.path());
        let store = Checksummed::new(inner.clone(), sums.clone(), Cancel::default());
        write_small(&store, "dir/small", b"abc").unwrap();
        let mut sink = store.create("same", 3).unwrap();
        sink.write(b"a").unwrap();
        sink.write_same(b"bc", store.open("dir/small").unwrap().as_ref(), 1).unwrap();
        sink.commit().unwrap();
        // One that an earlier run kept a part of.
        let mut sink = inner.resume("long", 0, 3).unwrap();
        sink.write(b"ab").unwrap();
        assert!(sink.keep().unwrap());
        drop(sink);
        let mut sink = store.resume("long", 2, 3).unwrap();
        sink.write(b"c").unwrap();
        sink.commit().unwrap();
        let mut sink = store.create("dropped", 3).unwrap();
        sink.write(b"abc").unwrap();
        sink.abort();
        let found = sums.lock().unwrap();
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(["dir/small", "same", "long"].iter().all(|name| found[*name] == ABC), "{found:?}");
        let mut writer = Sha256Writer::default();
        io::Write::write_all(&mut writer, b"abc").unwrap();
        assert_eq!(writer.finish(), (3, ABC.to_owned()));
        assert_eq!(sha256_of(inner.open("long").unwrap().as_ref(), &Cancel::default()).unwrap(), ABC);
    }
}
