//! [`Store`]: a place with named files, and all that a merge does with it.

use std::any::Any;
use std::path::PathBuf;
use std::sync::Arc;

use crate::error::Result;
use crate::storage::io::settings::{IoSettings, Sharing};
use crate::storage::rules;
use crate::storage::scratch::ScratchFile;
use crate::storage::sink::{Patch, Scratch, Sink};
use crate::storage::source::Source;

/// A place with named files: a directory, a map in memory, a bucket.
///
/// A name is one or more parts joined by `/`, as `unet/config.json`; no part is empty, `.` or `..`. What takes a `dir` also
/// takes the empty name, which is the store itself. A directory is nothing but what the names below it have in common: it
/// is made with the first file in it.
///
/// Nothing that is asked about here is an error because it is not there, and nothing is taken for absent because it could
/// not be looked at. Every method that takes a name fails with
/// [`StorageError::LeadsOut`](crate::error::storage::StorageError::LeadsOut) for one that is not plainly inside the store.
///
/// The last few methods ask for what only some stores have. Each has a default that is right for a store without it.
pub trait Store: Send + Sync {
    /// Opens the file `name` for reading.
    ///
    /// # Errors
    /// [`StorageError::Missing`](crate::error::storage::StorageError::Missing);
    /// [`StorageError::Unreadable`](crate::error::storage::StorageError::Unreadable), also for what is no regular file.
    fn open(&self, name: &str) -> Result<Box<dyn Source>>;

    /// Begins the file `name`, which will have `len` bytes; room for them is reserved where that is possible. Its commit
    /// replaces a file that has the name.
    ///
    /// # Errors
    /// [`StorageError::Write`](crate::error::storage::StorageError::Write);
    /// [`StorageError::DiskFull`](crate::error::storage::StorageError::DiskFull) when there is no room for `len` bytes.
    fn create(&self, name: &str, len: u64) -> Result<Box<dyn Sink>>;

    /// Goes on with the file `name`, of which an earlier sink of this kind kept at least the first `kept` bytes; with none it is
    /// begun. What such a sink [kept](Sink::keep) stays when it is dropped. A store that keeps nothing begins the file.
    ///
    /// # Errors
    /// As [`create`](Store::create); [`StorageError::Missing`](crate::error::storage::StorageError::Missing) if so many bytes
    /// were not kept.
    fn resume(&self, name: &str, kept: u64, len: u64) -> Result<Box<dyn Sink>> {
        if kept > 0 {
            return Err(rules::missing("kept part of a file", &self.path_of(name)));
        }
        self.create(name, len)
    }

    /// Begins the file `name`, which is not there, under its own name: it is written once and in order, and its commit asks for
    /// nothing but that it is closed. For stores that rename nothing; others begin it as ever.
    ///
    /// # Errors
    /// As [`create`](Store::create).
    fn write_once(&self, name: &str, len: u64) -> Result<Box<dyn Sink>> {
        self.create(name, len)
    }

    /// Opens the file `name` to change it where it stands.
    ///
    /// # Errors
    /// [`StorageError::Missing`](crate::error::storage::StorageError::Missing),
    /// [`StorageError::Write`](crate::error::storage::StorageError::Write).
    fn patch(&self, name: &str) -> Result<Box<dyn Patch>>;

    /// What has the name `dir`, a file or a directory; `None` if nothing has. Links are followed; one that leads to nothing
    /// is [`EntryKind::Dangling`].
    ///
    /// # Errors
    /// [`StorageError::Unreadable`](crate::error::storage::StorageError::Unreadable) if it cannot be looked at.
    fn stat(&self, dir: &str) -> Result<Option<Stat>>;

    /// What is directly in `dir`, in the order of names. Links are followed, and one to a directory is an
    /// [`EntryKind::DirLink`].
    ///
    /// # Errors
    /// [`StorageError::Missing`](crate::error::storage::StorageError::Missing) if there is no such directory,
    /// [`StorageError::Unreadable`](crate::error::storage::StorageError::Unreadable) if it or something in it cannot be looked at.
    fn list(&self, dir: &str) -> Result<Vec<Entry>>;

    /// Gives the file `from` the name `to`, and takes it from a file that has it.
    ///
    /// # Errors
    /// [`StorageError::Write`](crate::error::storage::StorageError::Write).
    fn rename(&self, from: &str, to: &str) -> Result<()>;

    /// Gives the directory `from` the name `to` in one step, unless something but an empty directory has it.
    ///
    /// # Errors
    /// [`StorageError::Write`](crate::error::storage::StorageError::Write).
    fn rename_dir(&self, from: &str, to: &str) -> Result<DirRename>;

    /// Removes the file `name`. None is no error.
    ///
    /// # Errors
    /// [`StorageError::Write`](crate::error::storage::StorageError::Write).
    fn remove(&self, name: &str) -> Result<()>;

    /// Removes all that is in `dir`, and `dir`. Nothing is no error.
    ///
    /// # Errors
    /// [`StorageError::Write`](crate::error::storage::StorageError::Write).
    fn remove_dir(&self, dir: &str) -> Result<()>;

    /// Removes `dir` if it is a directory with nothing in it. Anything else stays, and is no error.
    ///
    /// # Errors
    /// As [`list`](Store::list) and [`remove_dir`](Store::remove_dir).
    fn remove_empty_dir(&self, dir: &str) -> Result<()> {
        let is_dir = self.stat(dir)?.is_some_and(|stat| stat.kind == EntryKind::Dir);
        if is_dir && self.list(dir)?.is_empty() { self.remove_dir(dir) } else { Ok(()) }
    }

    /// Makes the names in `dir` last: what was renamed into it or out of it or removed from it before this call.
    ///
    /// # Errors
    /// [`StorageError::Write`](crate::error::storage::StorageError::Write).
    fn sync(&self, dir: &str) -> Result<()>;

    /// Makes all files last that were shown [without that](Sink::commit_unsynced), with their names.
    ///
    /// # Errors
    /// [`StorageError::Write`](crate::error::storage::StorageError::Write).
    fn sync_all(&self) -> Result<()> {
        Ok(())
    }

    /// Locks `name`, a file or a directory that need not be there yet, against other processes for as long as the lock is
    /// held, also when it is renamed. A courtesy: a store without locks hands out one that holds nothing.
    ///
    /// # Errors
    /// [`OutputError::OutputInUse`](crate::error::output::OutputError::OutputInUse) if another process has it,
    /// [`StorageError::Write`](crate::error::storage::StorageError::Write) if the directory cannot be made.
    fn lock(&self, name: &str) -> Result<Lock> {
        let _ = name;
        Ok(Lock::default())
    }

    /// An unnamed file of `len` bytes, beside what is in `dir` where the store can have one, else a temporary file.
    ///
    /// # Errors
    /// [`StorageError::Write`](crate::error::storage::StorageError::Write).
    fn scratch(&self, dir: &str, len: u64) -> Result<Box<dyn Scratch>> {
        let _ = dir;
        Ok(Box::new(ScratchFile::new(&std::env::temp_dir(), len)?))
    }

    /// Bytes that may be written in `dir`, which need not be there yet; `None` if that cannot be told.
    fn free_bytes(&self, dir: &str) -> Option<u64> {
        let _ = dir;
        None
    }

    /// Whether the link `link` to a directory leads to one below `dir`, and not to one that `link` itself is in.
    fn leads_inside(&self, link: &str, dir: &str) -> bool {
        let _ = (link, dir);
        true
    }

    /// Where what has the name `name` is, with all links followed; `None` for a store without links, or if nothing is there.
    fn resolved(&self, name: &str) -> Option<PathBuf> {
        let _ = name;
        None
    }

    /// Whether `dir`, if it is there, is a directory of whoever runs this and no link, so that nobody else chose what is in it.
    ///
    /// # Errors
    /// [`StorageError::Read`](crate::error::storage::StorageError::Read) if it cannot be looked at.
    fn is_own_dir(&self, dir: &str) -> Result<bool> {
        let _ = dir;
        Ok(true)
    }

    /// Holds the directory `dir`, so that nobody replaces what is worked in; it is made if it is not there. It will take the place
    /// of `like`, if something is there; where that is `dir` itself, it is in its place already and stays whosever it is. `None`
    /// for a store in which nobody can.
    ///
    /// # Errors
    /// [`OutputError::StagingForeign`](crate::error::output::OutputError::StagingForeign) for a link, another user's directory,
    /// or one with links in it; [`StorageError::Write`](crate::error::storage::StorageError::Write).
    fn hold(&self, dir: &str, like: &str) -> Result<Option<Box<dyn HeldDir>>> {
        let _ = (dir, like);
        Ok(None)
    }

    /// Whether `dir` is where a file system is mounted, so that it cannot be renamed or replaced.
    fn is_mount_point(&self, dir: &str) -> bool {
        let _ = dir;
        false
    }

    /// Whether files are only written once here, whole and under their own names: nothing is renamed, appended to or changed.
    fn is_write_once(&self) -> bool {
        false
    }

    /// Bytes of memory that it takes for what is on its way into a file of it, beside the windows of [`use_io`](Store::use_io).
    fn write_memory(&self) -> u64 {
        0
    }

    /// The kind of network file system that `dir` is on, as users call it; none where it is on none, or nobody can tell.
    fn network(&self, dir: &str) -> Option<&'static str> {
        let _ = dir;
        None
    }

    /// Whether what is written in `dir`, which need not be there yet, takes memory that other limits count.
    fn is_in_memory(&self, dir: &str) -> bool {
        let _ = dir;
        false
    }

    /// Whether new names can be made in `dir`, as far as that can be told without trying.
    fn is_writable(&self, dir: &str) -> bool {
        let _ = dir;
        true
    }

    /// Says how large files are to be read and written from now on, those that are open too. A hint only.
    fn use_io(&self, settings: IoSettings) {
        let _ = settings;
    }

    /// What a new file in `dir` can share with `source` under the settings of [`use_io`](Store::use_io), found out by trying.
    fn sharing(&self, dir: &str, source: &dyn Source) -> Sharing {
        let _ = (dir, source);
        Sharing::default()
    }

    /// The name of the way of [`use_io`](Store::use_io) if it was refused for a file, which then took another.
    fn refused_io(&self) -> Option<&'static str> {
        None
    }

    /// What messages call `dir`, a file or a directory.
    fn path_of(&self, dir: &str) -> PathBuf {
        PathBuf::from(dir)
    }
}

/// A directory that is held, whoever renames it.
pub trait HeldDir: Send + Sync {
    /// Its files.
    fn files(&self) -> Arc<dyn Store>;

    /// Whether its name still leads to it.
    fn is_still_named(&self) -> bool;

    /// Gives it the rights that a directory has there, and leaves its files no more of theirs than `access`, bits of a mode.
    ///
    /// # Errors
    /// [`StorageError::Write`](crate::error::storage::StorageError::Write).
    fn open_up(&self, access: u32) -> Result<()>;
}

/// What has a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// What it is.
    pub kind: EntryKind,
    /// Length of a file in bytes; of anything else 0.
    pub bytes: u64,
}

/// One name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The name, without that of the directory.
    pub name: String,
    /// What it is.
    pub kind: EntryKind,
    /// Length of a file in bytes; of anything else 0.
    pub bytes: u64,
}

/// Brings entries into the order of their names; those of one name stay as they are.
pub(crate) fn sort_by_name(entries: &mut [Entry]) {
    entries.sort_by(|a, b| a.name.cmp(&b.name));
}

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A link to a directory.
    DirLink,
    /// A link that leads to nothing.
    Dangling,
    /// Anything else: a pipe, a device, a name that is not UTF-8.
    Other,
}

/// How the rename of a directory ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DirRename {
    /// It has the new name.
    Done,
    /// Something has that name already, and nothing was changed.
    Taken,
    /// The store renames no directories, or not to there, and nothing was changed.
    Unsupported,
}

/// A lock, held until it is dropped.
#[derive(Default)]
pub struct Lock(Option<Box<dyn Any + Send>>);

impl Lock {
    /// A lock that is held by keeping `held`.
    pub fn holding(held: impl Any + Send) -> Lock {
        Lock(Some(Box::new(held)))
    }

    /// Whether anything is held.
    pub fn is_held(&self) -> bool {
        self.0.is_some()
    }
}
