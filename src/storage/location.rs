//! [`Location`]: a directory of a store, and what is asked of a directory as a whole.
//!
//! A location is a store itself, of what is below it, so that whoever gets one does not care how deep it lies:
//!
//! ```
//! use shardfold::testing::write_small;
//! use shardfold::{Location, Memory, Store};
//!
//! let bucket = Location::new(Memory::new());
//! let base = bucket.join("models/base");
//! write_small(&base, "config.json", b"{}")?;
//! assert_eq!(bucket.files(&|_| false)?[0].name, "models/base/config.json");
//! assert_eq!((base.name(), base.to_string()), (Some("base"), "models/base".to_owned()));
//! assert!(base.open("../other").is_err(), "no name leads out of it");
//! # Ok::<(), shardfold::Error>(())
//! ```
//!
//! ```
//! use shardfold::{Location, Memory};
//!
//! let base = Location::new(Memory::new()).join("models").join("base");
//! assert_eq!(base.name(), Some("base"));
//! assert_eq!(base.parent().and_then(|above| above.name().map(str::to_owned)).as_deref(), Some("models"));
//! assert_eq!(base.beside("merged").and_then(|other| other.name().map(str::to_owned)).as_deref(), Some("merged"));
//! ```

use std::fmt;
use std::fs::{self, File};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use crate::cancel::Cancel;
use crate::error::storage::StorageError;
use crate::error::{Error, Result};
use crate::storage::folder::Folder;
use crate::storage::io::settings::{IoSettings, Sharing};
use crate::storage::rules;
use crate::storage::sink::{Patch, Scratch, Sink};
use crate::storage::source::Source;
use crate::storage::store::{DirRename, Entry, EntryKind, HeldDir, Lock, Stat, Store};
use crate::storage::times::FileTimes;
use crate::storage::together::Together;
use crate::storage::walk::Walk;

/// A directory of a store, or a file of it; it need not be there.
#[derive(Clone)]
pub struct Location {
    store: Arc<dyn Store>,
    /// The names that lead to it, joined by `/`; empty for the store itself.
    prefix: String,
    /// What ends the reading of its files, if anything does.
    cancel: Option<Cancel>,
    /// Whether files that are made in it last only with [`Store::sync_all`].
    is_together: bool,
}

impl Location {
    /// The whole of `store`.
    pub fn new(store: impl Store + 'static) -> Location {
        Location { store: Arc::new(store), prefix: String::new(), cancel: None, is_together: false }
    }

    /// The same place, whose files stop being read once `cancel` says so: whatever reads them, in whichever phase.
    #[must_use]
    pub(crate) fn stopped_by(self, cancel: &Cancel) -> Location {
        Location { cancel: Some(cancel.clone()), ..self }
    }

    /// What has that path in the file system.
    ///
    /// Its store is the directory above, so that it has a name and others can be made beside it; only a path without a
    /// last name (`/`, `..`), or with one that is not UTF-8, is the root of its store.
    pub fn of_path(path: impl AsRef<Path>) -> Location {
        let path = path.as_ref();
        let last = path.components().next_back();
        let name = match last {
            Some(Component::Normal(name)) => name.to_str().filter(|name| rules::is_inside(name)),
            _ => None,
        };
        let (root, prefix) = match (name, path.parent()) {
            (Some(name), Some(parent)) => (parent, name),
            _ => (path, ""),
        };
        Location {
            store: Arc::new(Folder::new(root)),
            prefix: prefix.to_owned(),
            cancel: None,
            is_together: false,
        }
    }

    /// What has that path in the file system once links are resolved, in the directory's path if nothing has it yet. What
    /// is then made beside it is on the same file system.
    pub fn of_resolved_path(path: impl AsRef<Path>) -> Location {
        let path = path.as_ref();
        if let Ok(real) = fs::canonicalize(path) {
            return Location::of_path(real);
        }
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Location::of_path(path);
        };
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        let parent = fs::canonicalize(parent).unwrap_or_else(|_| parent.to_owned());
        Location::of_path(parent.join(name))
    }

    /// Its last name; none if it is the whole of a store.
    pub fn name(&self) -> Option<&str> {
        self.prefix.rsplit('/').next().filter(|name| !name.is_empty())
    }

    /// What has the name `name` below it. A name that would lead out fails when it is used.
    #[must_use]
    pub fn join(&self, name: &str) -> Location {
        Location { prefix: self.at(name), ..self.clone() }
    }

    /// What has the name `name` beside it; none if it is the whole of a store.
    pub fn beside(&self, name: &str) -> Option<Location> {
        Some(self.parent()?.join(name))
    }

    /// The directory it is in; none if it is the whole of a store.
    pub fn parent(&self) -> Option<Location> {
        self.name()?;
        let above = self.prefix.rsplit_once('/').map_or("", |(above, _)| above);
        Some(Location { prefix: above.to_owned(), ..self.clone() })
    }

    /// Whether it is `dir`, or will be somewhere below it.
    pub(crate) fn lies_in(&self, dir: &Location) -> bool {
        if Arc::ptr_eq(&self.store, &dir.store) {
            let below = self.prefix.strip_prefix(&dir.prefix);
            return below
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || dir.prefix.is_empty());
        }
        if self.is_write_once() {
            // Not of a file system: the path is what it is called, and one place has one.
            return self.path().starts_with(dir.path());
        }
        let Ok(dir) = fs::canonicalize(dir.path()) else { return false };
        // What is not there yet is below the last directory that is.
        let path = self.path();
        let there = path.ancestors().find_map(|above| {
            let above = if above.as_os_str().is_empty() { Path::new(".") } else { above };
            fs::canonicalize(above).ok()
        });
        there.is_some_and(|there| there.starts_with(&dir))
    }

    /// What messages call it.
    pub fn path(&self) -> PathBuf {
        self.store.path_of(&self.prefix)
    }

    /// Whether it is a directory.
    ///
    /// # Errors
    /// As [`Store::stat`].
    pub(crate) fn is_directory(&self) -> Result<bool> {
        Ok(self.stat("")?.is_some_and(|stat| stat.kind == EntryKind::Dir))
    }

    /// Fails unless it is a directory.
    ///
    /// # Errors
    /// [`StorageError::Missing`] if nothing is there, [`StorageError::Unreadable`] if something else is; as [`Store::stat`].
    pub(crate) fn check_dir(&self) -> Result<()> {
        match self.stat("")? {
            Some(Stat { kind: EntryKind::Dir, .. }) => Ok(()),
            // Opening says what it leads to.
            Some(Stat { kind: EntryKind::Dangling, .. }) => self.store.open(&self.prefix).map(drop),
            Some(_) => {
                let error = Error::new(StorageError::Unreadable { path: self.path() });
                Err(error.because("it is not a directory"))
            }
            None => Err(rules::missing("directory", &self.path())),
        }
    }

    /// Whether it has a file `name`.
    ///
    /// # Errors
    /// As [`Store::stat`]; [`StorageError::BrokenLink`].
    pub(crate) fn has_file(&self, name: &str) -> Result<bool> {
        match self.stat(name)?.map(|stat| stat.kind) {
            // Opening says what it leads to.
            Some(EntryKind::Dangling) => self.open(name).map(|_| true),
            kind => Ok(kind == Some(EntryKind::File)),
        }
    }

    /// Every regular file below it, named from here, in the order of names. Directories for which `skip` says so (it gets
    /// the last name) are left out, as is what is neither a file nor a directory that can be read.
    ///
    /// # Errors
    /// As [`Store::list`].
    pub fn files(&self, skip: &dyn Fn(&str) -> bool) -> Result<Vec<Entry>> {
        Ok(Walk::of(self, &|_, name| skip(name))?.files)
    }

    /// The names of the directories directly in it, in order.
    ///
    /// # Errors
    /// As [`Store::list`].
    pub(crate) fn dirs(&self) -> Result<Vec<String>> {
        let is_dir = |entry: &Entry| matches!(entry.kind, EntryKind::Dir | EntryKind::DirLink);
        let dirs = self.list("")?.into_iter().filter(is_dir);
        Ok(dirs.map(|entry| entry.name).collect())
    }

    /// All of a file that is expected to be small; `None` if nothing has its name.
    ///
    /// # Errors
    /// [`StorageError::TooLong`] when it is longer than `most` bytes; as [`Store::stat`] and [`Store::open`], also for what is no
    /// regular file.
    pub(crate) fn read_small(&self, name: &str, most: u64) -> Result<Option<Vec<u8>>> {
        match self.stat(name)? {
            Some(Stat { kind: EntryKind::File, bytes }) if bytes > most => {
                Err(StorageError::TooLong { path: self.path_of(name), bytes, most }.into())
            }
            // Opening says what it is or leads to.
            Some(Stat { kind: EntryKind::Dir | EntryKind::DirLink | EntryKind::Other, .. }) => {
                self.open(name).map(|_| None)
            }
            _ => Ok(self.read_start(name, most)?.map(|start| start.bytes)),
        }
    }

    /// The first `most` bytes of a file, or all of it; `None` if there is no such file.
    ///
    /// # Errors
    /// As [`Store::stat`], [`Store::open`] and [`Source::read_at`].
    pub(crate) fn read_start(&self, name: &str, most: u64) -> Result<Option<FileStart>> {
        if !self.has_file(name)? {
            return Ok(None);
        }
        let source = self.open(name)?;
        let mut bytes = vec![0; source.len().min(most) as usize];
        source.read_at(&mut bytes, 0)?;
        Ok(Some(FileStart { bytes, is_whole: source.len() <= most }))
    }

    /// Moves its file `name` to that name below `to`, in place of a file that has it.
    ///
    /// # Errors
    /// As [`Store::rename`].
    pub(crate) fn move_file(&self, name: &str, to: &Location) -> Result<()> {
        self.is_beside(to)?;
        self.store.rename(&self.file(name)?, &to.file(name)?)
    }

    /// Gives it the name of `to`, unless something is there.
    ///
    /// # Errors
    /// As [`Store::rename_dir`].
    pub(crate) fn move_to(&self, to: &Location) -> Result<DirRename> {
        self.is_beside(to)?;
        self.store.rename_dir(&self.prefix, &to.prefix)
    }

    /// Holds it until it takes the place of `like`, which may be itself; none where nobody can replace it.
    ///
    /// # Errors
    /// As [`Store::hold`].
    pub(crate) fn held_for(&self, like: &Location) -> Result<Option<Box<dyn HeldDir>>> {
        self.store.hold(&self.prefix, &like.prefix)
    }

    /// The same, where files last only with [`Store::sync_all`].
    pub(crate) fn together(&self) -> Location {
        Location { is_together: true, ..self.clone() }
    }

    /// All of a store that is shared.
    pub(crate) fn of_store(store: Arc<dyn Store>) -> Location {
        Location { store, prefix: String::new(), cancel: None, is_together: false }
    }

    /// Fails unless `to` is in the same store.
    fn is_beside(&self, to: &Location) -> Result<()> {
        if Arc::ptr_eq(&self.store, &to.store) {
            return Ok(());
        }
        let error = Error::new(StorageError::Write { path: to.path() });
        Err(error.because("nothing is moved from one store to another"))
    }

    /// The store's name of a file or directory below it.
    fn at(&self, name: &str) -> String {
        rules::join(&self.prefix, name)
    }

    /// The store's name of a file below it.
    fn file(&self, name: &str) -> Result<String> {
        rules::check_name(name)?;
        Ok(self.at(name))
    }

    /// The store's name of a directory below it, or of itself.
    fn dir(&self, name: &str) -> Result<String> {
        rules::check_dir(name)?;
        Ok(self.at(name))
    }
}

/// What a file begins with.
pub(crate) struct FileStart {
    /// Its first bytes.
    pub(crate) bytes: Vec<u8>,
    /// Whether these are all.
    pub(crate) is_whole: bool,
}

/// A source that ends with a token.
struct Stoppable {
    source: Box<dyn Source>,
    cancel: Cancel,
}

impl Source for Stoppable {
    fn len(&self) -> u64 {
        self.source.len()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        self.cancel.check()?;
        self.source.read_at(buf, offset)
    }

    fn done_before(&self, offset: u64) {
        self.source.done_before(offset);
    }

    fn as_file(&self) -> Option<Arc<File>> {
        self.source.as_file()
    }

    fn check_unchanged(&self) -> Result<()> {
        self.source.check_unchanged()
    }

    fn times(&self) -> Option<FileTimes> {
        self.source.times()
    }

    fn access(&self) -> Option<u32> {
        self.source.access()
    }

    fn content_id(&self) -> Option<String> {
        self.source.content_id()
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path().display().fmt(f)
    }
}

impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Location({})", self.path().display())
    }
}

impl Store for Location {
    fn open(&self, name: &str) -> Result<Box<dyn Source>> {
        let source = self.store.open(&self.file(name)?)?;
        Ok(match &self.cancel {
            Some(cancel) => Box::new(Stoppable { source, cancel: cancel.clone() }),
            None => source,
        })
    }

    fn create(&self, name: &str, len: u64) -> Result<Box<dyn Sink>> {
        let sink = self.store.create(&self.file(name)?, len)?;
        Ok(if self.is_together { Box::new(Together(sink)) } else { sink })
    }

    fn resume(&self, name: &str, kept: u64, len: u64) -> Result<Box<dyn Sink>> {
        self.store.resume(&self.file(name)?, kept, len)
    }

    fn write_once(&self, name: &str, len: u64) -> Result<Box<dyn Sink>> {
        self.store.write_once(&self.file(name)?, len)
    }

    fn is_own_dir(&self, dir: &str) -> Result<bool> {
        self.store.is_own_dir(&self.dir(dir)?)
    }

    fn patch(&self, name: &str) -> Result<Box<dyn Patch>> {
        self.store.patch(&self.file(name)?)
    }

    fn stat(&self, dir: &str) -> Result<Option<Stat>> {
        self.store.stat(&self.dir(dir)?)
    }

    fn list(&self, dir: &str) -> Result<Vec<Entry>> {
        self.store.list(&self.dir(dir)?)
    }

    fn rename(&self, from: &str, to: &str) -> Result<()> {
        self.store.rename(&self.file(from)?, &self.file(to)?)
    }

    fn rename_dir(&self, from: &str, to: &str) -> Result<DirRename> {
        self.store.rename_dir(&self.file(from)?, &self.file(to)?)
    }

    fn remove(&self, name: &str) -> Result<()> {
        self.store.remove(&self.file(name)?)
    }

    fn remove_dir(&self, dir: &str) -> Result<()> {
        self.store.remove_dir(&self.dir(dir)?)
    }

    fn remove_empty_dir(&self, dir: &str) -> Result<()> {
        self.store.remove_empty_dir(&self.dir(dir)?)
    }

    fn sync(&self, dir: &str) -> Result<()> {
        self.store.sync(&self.dir(dir)?)
    }

    fn sync_all(&self) -> Result<()> {
        self.store.sync_all()
    }

    fn lock(&self, name: &str) -> Result<Lock> {
        self.store.lock(&self.dir(name)?)
    }

    fn scratch(&self, dir: &str, len: u64) -> Result<Box<dyn Scratch>> {
        self.store.scratch(&self.dir(dir)?, len)
    }

    fn free_bytes(&self, dir: &str) -> Option<u64> {
        self.store.free_bytes(&self.at(dir))
    }

    fn leads_inside(&self, link: &str, dir: &str) -> bool {
        self.store.leads_inside(&self.at(link), &self.at(dir))
    }

    fn resolved(&self, name: &str) -> Option<PathBuf> {
        self.store.resolved(&self.at(name))
    }

    fn hold(&self, dir: &str, like: &str) -> Result<Option<Box<dyn HeldDir>>> {
        self.store.hold(&self.dir(dir)?, &self.dir(like)?)
    }

    fn is_mount_point(&self, dir: &str) -> bool {
        self.store.is_mount_point(&self.at(dir))
    }

    fn is_write_once(&self) -> bool {
        self.store.is_write_once()
    }

    fn write_memory(&self) -> u64 {
        self.store.write_memory()
    }

    fn network(&self, dir: &str) -> Option<&'static str> {
        self.store.network(&self.at(dir))
    }

    fn is_in_memory(&self, dir: &str) -> bool {
        self.store.is_in_memory(&self.at(dir))
    }

    fn is_writable(&self, dir: &str) -> bool {
        self.store.is_writable(&self.at(dir))
    }

    fn use_io(&self, settings: IoSettings) {
        self.store.use_io(settings);
    }

    fn sharing(&self, dir: &str, source: &dyn Source) -> Sharing {
        self.dir(dir).map_or(Sharing::default(), |dir| self.store.sharing(&dir, source))
    }

    fn refused_io(&self) -> Option<&'static str> {
        self.store.refused_io()
    }

    fn path_of(&self, dir: &str) -> PathBuf {
        self.store.path_of(&self.at(dir))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::kind::ErrorKind;
    use crate::storage::files::write_small;
    use crate::storage::memory::Memory;

    #[test]
    fn names_join_and_lead_back() {
        let all = Location::new(Memory::new());
        assert!(all.name().is_none() && all.parent().is_none() && all.beside("x").is_none());
        let deep = all.join("a/b").join("c");
        assert_eq!((deep.name(), deep.to_string()), (Some("c"), "a/b/c".to_owned()));
        assert_eq!(deep.parent().expect("above").to_string(), "a/b");
        assert_eq!(deep.beside("d").expect("above").to_string(), "a/b/d");
        assert_eq!(all.join("a").beside("d").expect("above").to_string(), "d");
    }

    #[test]
    fn a_path_keeps_its_spelling() {
        for path in ["x", "./x", "../x", "/x", "a/b/x", "x/"] {
            let location = Location::of_path(path);
            assert_eq!((location.name(), location.path()), (Some("x"), PathBuf::from(path)), "{path}");
        }
        for path in ["/", "..", ".", "a/..", ""] {
            assert_eq!(Location::of_path(path).name(), None, "{path}");
        }
        assert!(Location::of_path(".").is_directory().expect("it is here"));
        assert!(Location::of_path("src").is_directory().expect("it is here"));
        assert!(
            Location::of_path("src").parent().expect("above").has_file("Cargo.toml").expect("it is here")
        );
    }

    #[test]
    fn files_are_found_in_directories_that_are_not_skipped() {
        let all = Location::new(Memory::new());
        for name in ["b", "a/x", "a/b/y", "skipped/z", "1/2/3/4", "1/2/3/4x/5"] {
            write_small(&all, &format!("top/{name}"), name.as_bytes()).expect("memory");
        }
        let found = all.join("top").files(&|name| name == "skipped").expect("memory");
        let names: Vec<&str> = found.iter().map(|entry| entry.name.as_str()).collect();
        assert_eq!(names, ["1/2/3/4", "1/2/3/4x/5", "a/b/y", "a/x", "b"]);
        assert_eq!(all.join("top").dirs().expect("memory"), ["1", "a", "skipped"]);
        let error = all.join("nowhere").files(&|_| false).expect_err("nothing is there");
        assert!(
            matches!(error.kind(), ErrorKind::Storage(StorageError::Missing { what: "directory", .. })),
            "{error:?}"
        );
    }

    #[test]
    fn small_files_are_read_whole_or_not_at_all() {
        let all = Location::new(Memory::new());
        write_small(&all, "dir/name", b"bytes").expect("memory");
        assert_eq!(all.read_small("dir/name", 5).expect("memory"), Some(b"bytes".to_vec()));
        assert!(matches!(
            all.read_small("dir/name", 4).unwrap_err().kind(),
            ErrorKind::Storage(StorageError::TooLong { bytes: 5, most: 4, .. })
        ));
        assert!(all.read_small("dir", 4).is_err(), "a directory is no file");
        assert!(all.read_small("nothing", 4).expect("memory").is_none());
        let start = all.read_start("dir/name", 2).expect("memory").expect("it is there");
        assert_eq!((start.bytes.as_slice(), start.is_whole), (&b"by"[..], false));
    }

    #[test]
    fn nothing_moves_between_stores() {
        let (one, other) = (Location::new(Memory::new()), Location::new(Memory::new()));
        write_small(&one, "name", b"bytes").expect("memory");
        assert!(one.move_file("name", &other).is_err() && one.join("a").move_to(&other.join("a")).is_err());
        one.move_file("name", &one.join("sub")).expect("memory");
        assert!(one.has_file("sub/name").expect("memory"));
    }

    #[test]
    fn files_stop_being_read_when_the_token_says_so() {
        let memory = Memory::new();
        let mut sink = memory.create("dir/file", 2).unwrap();
        sink.write(b"ab").unwrap();
        sink.commit().unwrap();
        let cancel = Cancel::default();
        let source = Location::new(memory).stopped_by(&cancel).join("dir").open("file").unwrap();
        source.read_at(&mut [0; 2], 0).unwrap();
        cancel.cancel();
        let error = source.read_at(&mut [0; 2], 0).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Stopped), "{error:?}");
    }
}
