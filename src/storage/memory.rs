//! A store in memory, for tests and for trying a run without a disk.
//!
//! ```
//! use shardfold::{Memory, Store};
//!
//! let store = Memory::new();
//! let mut sink = store.create("config.json", 2)?;
//! sink.write(b"{}")?;
//! sink.commit()?;
//! assert_eq!(store.names(), ["config.json"]);
//! assert_eq!(store.get("config.json").as_deref().map(Vec::as_slice), Some(&b"{}"[..]));
//! # Ok::<(), shardfold::Error>(())
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::output::OutputError;
use crate::error::{Error, Result};
use crate::storage::rules;
use crate::storage::rules::{Length, part_name};
use crate::storage::sink::{Patch, Scratch, Sink};
use crate::storage::source::Source;
use crate::storage::store::{DirRename, Entry, EntryKind, Lock, Stat, Store, sort_by_name};

type FileMap = BTreeMap<String, Arc<Vec<u8>>>;

/// FileMap in memory by name. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    files: Arc<Mutex<FileMap>>,
    locked: Arc<Mutex<BTreeSet<String>>>,
}

/// A name that is locked for as long as this is kept.
struct Locked {
    all: Arc<Mutex<BTreeSet<String>>>,
    name: String,
}

impl Drop for Locked {
    fn drop(&mut self) {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.name);
    }
}

impl Memory {
    /// An empty store.
    pub fn new() -> Memory {
        Memory::default()
    }

    /// The bytes of the file `name`, if it was committed.
    pub fn get(&self, name: &str) -> Option<Arc<Vec<u8>>> {
        self.files().get(name).cloned()
    }

    /// The names of all committed files, in order.
    pub fn names(&self) -> Vec<String> {
        self.files().keys().cloned().collect()
    }

    fn files(&self) -> MutexGuard<'_, FileMap> {
        // The map changes in one step, so it is right even if another thread panicked.
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for Memory {
    fn open(&self, name: &str) -> Result<Box<dyn Source>> {
        rules::check_name(name)?;
        match self.get(name) {
            Some(bytes) => Ok(Box::new(MemorySource { name: name.into(), bytes })),
            None => Err(rules::missing("file", Path::new(name))),
        }
    }

    fn create(&self, name: &str, len: u64) -> Result<Box<dyn Sink>> {
        rules::check_name(name)?;
        Ok(Box::new(MemorySink {
            store: self.clone(),
            name: name.into(),
            bytes: Vec::new(),
            length: Length::new(len),
            is_kept: false,
        }))
    }

    fn resume(&self, name: &str, kept: u64, len: u64) -> Result<Box<dyn Sink>> {
        rules::check_name(name)?;
        let mut bytes = self.get(&part_name(name)).map_or(Vec::new(), |bytes| bytes.to_vec());
        if (bytes.len() as u64) < kept {
            return Err(rules::missing("kept part of a file", Path::new(name)));
        }
        bytes.truncate(kept as usize);
        let length = Length::resumed(len, kept);
        Ok(Box::new(MemorySink { store: self.clone(), name: name.into(), bytes, length, is_kept: true }))
    }

    fn patch(&self, name: &str) -> Result<Box<dyn Patch>> {
        self.open(name)?;
        Ok(Box::new(MemoryPatch { store: self.clone(), name: name.into() }))
    }

    fn stat(&self, dir: &str) -> Result<Option<Stat>> {
        rules::check_dir(dir)?;
        if let Some(bytes) = self.get(dir) {
            return Ok(Some(Stat { kind: EntryKind::File, bytes: bytes.len() as u64 }));
        }
        let is_dir = dir.is_empty() || below(&self.files(), dir).next().is_some();
        Ok(is_dir.then_some(Stat { kind: EntryKind::Dir, bytes: 0 }))
    }

    fn list(&self, dir: &str) -> Result<Vec<Entry>> {
        rules::check_dir(dir)?;
        let files = self.files();
        let mut found: Vec<Entry> = Vec::new();
        for (rest, bytes) in below(&files, dir) {
            let entry = match rest.split_once('/') {
                None => Entry { name: rest.to_owned(), kind: EntryKind::File, bytes: bytes.len() as u64 },
                Some((name, _)) => Entry { name: name.to_owned(), kind: EntryKind::Dir, bytes: 0 },
            };
            // Names below one directory need not follow each other: `a/x` comes after `a.b`.
            if !found.contains(&entry) {
                found.push(entry);
            }
        }
        if found.is_empty() && !dir.is_empty() {
            return Err(rules::missing("directory", Path::new(dir)));
        }
        sort_by_name(&mut found);
        Ok(found)
    }

    fn rename(&self, from: &str, to: &str) -> Result<()> {
        rules::check_name(from)?;
        rules::check_name(to)?;
        let mut files = self.files();
        let Some(bytes) = files.remove(from) else { return Err(nothing_to_rename(from)) };
        files.insert(to.to_owned(), bytes);
        Ok(())
    }

    fn rename_dir(&self, from: &str, to: &str) -> Result<DirRename> {
        rules::check_name(from)?;
        rules::check_name(to)?;
        let mut files = self.files();
        if files.contains_key(to) || below(&files, to).next().is_some() {
            return Ok(DirRename::Taken);
        }
        let moved: Vec<String> = below(&files, from).map(|(rest, _)| rest.to_owned()).collect();
        if moved.is_empty() {
            return Err(nothing_to_rename(from));
        }
        for rest in moved {
            if let Some(bytes) = files.remove(&rules::join(from, &rest)) {
                files.insert(rules::join(to, &rest), bytes);
            }
        }
        Ok(DirRename::Done)
    }

    fn remove(&self, name: &str) -> Result<()> {
        rules::check_name(name)?;
        self.files().remove(name);
        Ok(())
    }

    fn remove_dir(&self, dir: &str) -> Result<()> {
        rules::check_dir(dir)?;
        let start = if dir.is_empty() { String::new() } else { format!("{dir}/") };
        self.files().retain(|name, _| !name.starts_with(&start));
        Ok(())
    }

    fn sync(&self, dir: &str) -> Result<()> {
        rules::check_dir(dir)
    }

    fn lock(&self, name: &str) -> Result<Lock> {
        rules::check_dir(name)?;
        let mut all = self.locked.lock().unwrap_or_else(PoisonError::into_inner);
        if !all.insert(name.to_owned()) {
            return Err(OutputError::OutputInUse { path: name.into() }.into());
        }
        Ok(Lock::holding(Locked { all: self.locked.clone(), name: name.to_owned() }))
    }

    fn scratch(&self, _dir: &str, len: u64) -> Result<Box<dyn Scratch>> {
        Ok(Box::new(MemoryScratch { bytes: Mutex::new(vec![0; len as usize]), len }))
    }
}

/// The files below `dir`, named from there, in the order of names.
fn below<'f>(files: &'f FileMap, dir: &str) -> impl Iterator<Item = (&'f str, &'f Arc<Vec<u8>>)> {
    let start = if dir.is_empty() { String::new() } else { format!("{dir}/") };
    let from = files.range(start.clone()..);
    let names = from.map(move |(name, bytes)| (name.strip_prefix(&start), bytes));
    names.map_while(|(rest, bytes)| Some((rest?, bytes)))
}

fn nothing_to_rename(from: &str) -> Error {
    rules::cannot_write(Path::new(from), std::io::ErrorKind::NotFound.into())
}

struct MemorySource {
    name: String,
    bytes: Arc<Vec<u8>>,
}

impl Source for MemorySource {
    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let end = offset.saturating_add(buf.len() as u64);
        if end > self.len() {
            return Err(rules::past_the_end(Path::new(&self.name), end, self.len()));
        }
        buf.copy_from_slice(&self.bytes[offset as usize..end as usize]);
        Ok(())
    }

    fn done_before(&self, _offset: u64) {}
}

struct MemorySink {
    store: Memory,
    name: String,
    bytes: Vec<u8>,
    length: Length,
    /// Whether a part of it may be kept.
    is_kept: bool,
}

impl MemorySink {
    fn cannot_write(&self, cause: std::io::Error) -> Error {
        rules::no_room(Path::new(&self.name), self.length.missing(), || 0, cause)
    }
}

impl Sink for MemorySink {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let held = &mut self.bytes;
        self.length
            .extend(bytes.len() as u64, |_| {
                held.extend_from_slice(bytes);
                Ok(())
            })
            .map_err(|cause| self.cannot_write(cause))
    }

    fn keep(&mut self) -> Result<bool> {
        if self.is_kept {
            self.store.files().insert(part_name(&self.name), Arc::new(self.bytes.clone()));
        }
        Ok(self.is_kept)
    }

    fn skip(&mut self, bytes: u64) -> Result<()> {
        Err(rules::cannot_leave_out(Path::new(&self.name), bytes))
    }

    fn commit(self: Box<Self>) -> Result<()> {
        self.length.check_whole().map_err(|cause| self.cannot_write(cause))?;
        let mut files = self.store.files();
        if self.is_kept {
            files.remove(&part_name(&self.name));
        }
        files.insert(self.name, Arc::new(self.bytes));
        Ok(())
    }

    fn abort(self: Box<Self>) {}
}

struct MemoryPatch {
    store: Memory,
    name: String,
}

impl Patch for MemoryPatch {
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> Result<()> {
        let mut files = self.store.files();
        let Some(file) = files.get_mut(&self.name) else {
            return Err(rules::missing("file", Path::new(&self.name)));
        };
        let file = Arc::make_mut(file);
        let (start, end) = (offset as usize, offset as usize + bytes.len());
        file.resize(file.len().max(end), 0);
        file[start..end].copy_from_slice(bytes);
        Ok(())
    }

    fn sync(&mut self) -> Result<()> {
        Ok(())
    }
}

struct MemoryScratch {
    bytes: Mutex<Vec<u8>>,
    len: u64,
}

impl MemoryScratch {
    /// Calls `with` on the `len` bytes from `offset`.
    fn part(&self, offset: u64, len: usize, with: impl FnOnce(&mut [u8])) -> Result<()> {
        let end = offset.saturating_add(len as u64);
        if end > self.len {
            return Err(rules::past_the_end(Path::new("scratch"), end, self.len));
        }
        let mut bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        with(&mut bytes[offset as usize..end as usize]);
        Ok(())
    }
}

impl Source for MemoryScratch {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        self.part(offset, buf.len(), |part| buf.copy_from_slice(part))
    }

    fn done_before(&self, _offset: u64) {}
}

impl Scratch for MemoryScratch {
    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        self.part(offset, bytes.len(), |part| part.copy_from_slice(bytes))
    }

    fn settle(&self) -> Result<()> {
        Ok(())
    }
}
