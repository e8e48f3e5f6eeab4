//! [`CloudStore`]: the objects of a bucket as files. Their keys are names; a directory is what keys have in common.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::StreamExt;
use object_store::path::Path as Key;
use object_store::{Error as CloudError, ObjectMeta, ObjectStoreExt};

use crate::error::Result;
use crate::storage::cloud::client::{CloudClient, NoAnswer};
use crate::storage::cloud::file::{CloudFile, Edition};
use crate::storage::cloud::upload::{UploadSink, WRITE_MEMORY};
use crate::storage::io::settings::IoSettings;
use crate::storage::remote::reads::RemoteReads;
use crate::storage::remote::source::RemoteSource;
use crate::storage::rules;
use crate::storage::sink::{Patch, Sink};
use crate::storage::source::Source;
use crate::storage::store::{DirRename, Entry, EntryKind, Stat, Store, sort_by_name};

/// The objects of a bucket.
pub(crate) struct CloudStore {
    client: Arc<CloudClient>,
    reads: Arc<RemoteReads>,
    /// The number of every edition of an object that was opened: what is kept of it serves as long as it is the same.
    numbers: Mutex<HashMap<(Key, Edition), usize>>,
    server: &'static str,
}

impl CloudStore {
    /// What `client` asks for; messages call the network `server`.
    pub(crate) fn new(client: CloudClient, server: &'static str) -> CloudStore {
        let reads = Arc::new(RemoteReads::new(client.cancel.clone()));
        CloudStore { client: Arc::new(client), reads, numbers: Mutex::default(), server }
    }

    /// What asks for it.
    #[cfg(test)]
    pub(crate) fn client(&self) -> &CloudClient {
        &self.client
    }

    /// The object with that key; none if there is none.
    fn look(&self, key: &Key) -> std::result::Result<Option<ObjectMeta>, NoAnswer> {
        match self.client.wait(self.client.objects.head(key)) {
            Ok(meta) => Ok(Some(meta)),
            Err(NoAnswer::Refused(CloudError::NotFound { .. })) => Ok(None),
            Err(cause) => Err(cause),
        }
    }

    /// Whether there are objects below a key; of none at all, whether the bucket is there.
    fn is_dir(&self, key: &Key) -> std::result::Result<bool, NoAnswer> {
        let found = self.client.wait(async {
            let mut below = self.client.objects.list(Some(key).filter(|key| !key.is_root()));
            while let Some(object) = below.next().await {
                // What is made to show a directory has its name, and a slash that is left out.
                if object?.location != *key {
                    return Ok(true);
                }
            }
            Ok(key.is_root())
        });
        match found {
            Err(NoAnswer::Refused(CloudError::NotFound { .. })) => Ok(false),
            found => found,
        }
    }

    fn number(&self, key: &Key, edition: &Edition) -> usize {
        // Each change is one step, so it is right even if another thread panicked.
        let mut numbers = self.numbers.lock().unwrap_or_else(PoisonError::into_inner);
        let next = numbers.len();
        *numbers.entry((key.clone(), edition.clone())).or_insert(next)
    }

    fn delete(&self, key: &Key) -> Result<()> {
        match self.client.wait_to_remove(self.client.objects.delete(key)) {
            Ok(()) | Err(NoAnswer::Refused(CloudError::NotFound { .. })) => Ok(()),
            Err(cause) => Err(self.client.unwritable(&self.client.path_of(key.as_ref()), cause)),
        }
    }

    /// The refusal of a change that no bucket allows.
    fn unsupported<T>(&self, name: &str) -> Result<T> {
        Err(rules::cannot_write(&self.path_of(name), io::ErrorKind::Unsupported.into()))
    }
}

impl Store for CloudStore {
    fn open(&self, name: &str) -> Result<Box<dyn Source>> {
        rules::check_name(name)?;
        let (key, path) = (self.client.key(name)?, self.path_of(name));
        let found = self.look(&key).map_err(|cause| self.client.unreadable("file", &path, cause))?;
        let Some(meta) = found else { return Err(rules::missing("file", &path)) };
        let edition = Edition::of(&meta);
        let number = self.number(&key, &edition);
        let file = Arc::new(CloudFile::new(self.client.clone(), key, edition));
        Ok(Box::new(RemoteSource::new(file, number, self.reads.clone())))
    }

    fn create(&self, name: &str, len: u64) -> Result<Box<dyn Sink>> {
        rules::check_name(name)?;
        let key = self.client.key(name)?;
        Ok(Box::new(UploadSink::begin(self.client.clone(), key, len, self.reads.clone())?))
    }

    fn patch(&self, name: &str) -> Result<Box<dyn Patch>> {
        rules::check_name(name)?;
        self.unsupported(name)
    }

    fn stat(&self, dir: &str) -> Result<Option<Stat>> {
        let key = self.client.key(dir)?;
        let unreadable = |cause| self.client.unreadable("object", &self.path_of(dir), cause);
        if !key.is_root()
            && let Some(meta) = self.look(&key).map_err(unreadable)?
        {
            return Ok(Some(Stat { kind: EntryKind::File, bytes: meta.size }));
        }
        let is_dir = self.is_dir(&key).map_err(unreadable)?;
        Ok(is_dir.then_some(Stat { kind: EntryKind::Dir, bytes: 0 }))
    }

    fn list(&self, dir: &str) -> Result<Vec<Entry>> {
        let (key, path) = (self.client.key(dir)?, self.path_of(dir));
        let below = Some(&key).filter(|key| !key.is_root());
        let found = self.client.wait(self.client.objects.list_with_delimiter(below));
        let found = found.map_err(|cause| self.client.unreadable("directory", &path, cause))?;
        let named = |key: &Key, kind, bytes| {
            Some(Entry { name: key.filename().filter(|name| !name.is_empty())?.to_owned(), kind, bytes })
        };
        let objects = found.objects.iter().filter(|object| object.location != key);
        let files = objects.filter_map(|object| named(&object.location, EntryKind::File, object.size));
        let dirs = found.common_prefixes.iter().filter_map(|below| named(below, EntryKind::Dir, 0));
        let mut entries: Vec<Entry> = files.chain(dirs).collect();
        if entries.is_empty() && !key.is_root() {
            return Err(rules::missing("directory", &path));
        }
        // An object that others are below of is a file, as for whoever opens it: the order is stable.
        sort_by_name(&mut entries);
        entries.dedup_by(|later, first| later.name == first.name);
        Ok(entries)
    }

    fn rename(&self, from: &str, to: &str) -> Result<()> {
        rules::check_name(from).and_then(|()| rules::check_name(to))?;
        self.unsupported(from)
    }

    fn rename_dir(&self, from: &str, to: &str) -> Result<DirRename> {
        rules::check_name(from).and_then(|()| rules::check_name(to))?;
        Ok(DirRename::Unsupported)
    }

    fn remove(&self, name: &str) -> Result<()> {
        rules::check_name(name)?;
        self.delete(&self.client.key(name)?)
    }

    fn remove_dir(&self, dir: &str) -> Result<()> {
        let key = self.client.key(dir)?;
        let found = self.client.wait(async {
            let mut below = self.client.objects.list(Some(&key).filter(|key| !key.is_root()));
            let mut keys = Vec::new();
            while let Some(object) = below.next().await {
                keys.push(object?.location);
            }
            Ok(keys)
        });
        let found = found.map_err(|cause| self.client.unwritable(&self.path_of(dir), cause))?;
        found.iter().try_for_each(|key| self.delete(key))
    }

    fn remove_empty_dir(&self, dir: &str) -> Result<()> {
        // A directory goes with the last that is in it.
        rules::check_dir(dir)
    }

    fn sync(&self, dir: &str) -> Result<()> {
        rules::check_dir(dir)
    }

    fn is_write_once(&self) -> bool {
        true
    }

    fn write_memory(&self) -> u64 {
        WRITE_MEMORY
    }

    fn network(&self, _dir: &str) -> Option<&'static str> {
        Some(self.server)
    }

    fn use_io(&self, settings: IoSettings) {
        self.reads.use_io(settings);
    }

    fn path_of(&self, dir: &str) -> PathBuf {
        self.client.path_of(dir)
    }
}
