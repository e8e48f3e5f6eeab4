//! A store in memory, for tests and for trying a run without a disk.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::{Error, Result};
use crate::storage::rules;
use crate::storage::rules::Length;
use crate::storage::{Sink, Source, Store};

type Files = BTreeMap<String, Arc<Vec<u8>>>;

/// Files in memory by name. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    files: Arc<Mutex<Files>>,
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

    fn files(&self) -> MutexGuard<'_, Files> {
        // The map changes in one step, so it is right even if another thread panicked.
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for Memory {
    fn source(&self, name: &str) -> Result<Box<dyn Source>> {
        let path = rules::place(Path::new(""), name)?;
        match self.get(name) {
            Some(bytes) => Ok(Box::new(MemorySource { name: name.into(), bytes })),
            None => Err(crate::storage::reading::missing("file", &path)),
        }
    }

    fn sink(&self, name: &str, len: u64) -> Result<Box<dyn Sink>> {
        rules::place(Path::new(""), name)?;
        Ok(Box::new(MemorySink {
            store: self.clone(),
            name: name.into(),
            bytes: Vec::new(),
            length: Length::new(len),
        }))
    }
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
}

impl MemorySink {
    fn cannot_write(&self, cause: std::io::Error) -> Error {
        rules::cannot_write(Path::new(&self.name), self.length.missing(), || 0, cause)
    }
}

impl Sink for MemorySink {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let held = &mut self.bytes;
        self.length
            .extend(bytes.len(), |_| {
                held.extend_from_slice(bytes);
                Ok(())
            })
            .map_err(|cause| self.cannot_write(cause))
    }

    fn commit(self: Box<Self>) -> Result<()> {
        self.length.check_whole().map_err(|cause| self.cannot_write(cause))?;
        self.store.files().insert(self.name, Arc::new(self.bytes));
        Ok(())
    }

    fn abort(self: Box<Self>) {}
}
