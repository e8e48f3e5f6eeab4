//! A store over one directory of the file system.

use std::fs::{self, File, Metadata, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustix::io::Errno;

use crate::error::output::OutputError;
use crate::error::storage::StorageError;
use crate::error::{Error, Result};
use crate::storage::files::{free_bytes, is_mount_point, look, make_dirs, rename_no_replace, sync_folder};
use crate::storage::held::HeldFolder;
use crate::storage::interrupted::uninterrupted;
use crate::storage::io::settings::{IoSettings, Sharing};
use crate::storage::io::store_io::StoreIo;
use crate::storage::once_sink::OnceSink;
use crate::storage::open_files::OpenFiles;
use crate::storage::os;
use crate::storage::patching::FilePatch;
use crate::storage::reading::FileSource;
use crate::storage::rules;
use crate::storage::rules::part_name;
use crate::storage::scratch::ScratchFile;
use crate::storage::sharing::sharing_in;
use crate::storage::shown::shown;
use crate::storage::sink::{Patch, Scratch, Sink};
use crate::storage::source::Source;
use crate::storage::store::{DirRename, Entry, EntryKind, HeldDir, Lock, Stat, Store, sort_by_name};
use crate::storage::writing::FileSink;

/// The files of one directory, subdirectories included.
///
/// Symlinks of the file system are followed, out of the directory too: a Hugging Face cache is made of them. A name itself
/// never leads out.
///
/// Reading drops cache pages behind itself, and writing keeps a window of about three steps of dirty pages, so that a
/// run's page cache stays small however large its files are.
#[derive(Clone, Debug)]
pub struct Folder {
    root: PathBuf,
    /// How files are read and written. Clones share it.
    io: Arc<StoreIo>,
    /// What is open for reading. Clones share it.
    open_files: Arc<OpenFiles>,
    keeping_cache: bool,
    /// The handle that `root` is of, and what messages call it.
    held: Option<(Arc<File>, PathBuf)>,
}

impl Folder {
    /// The directory at `path`, which is made with the first file if it is not there.
    ///
    /// Whoever needs the directory's own name to last makes a store of the directory above it.
    pub fn new(path: impl Into<PathBuf>) -> Folder {
        Folder {
            root: path.into(),
            io: Arc::default(),
            open_files: Arc::default(),
            keeping_cache: false,
            held: None,
        }
    }

    /// The same, whose path is by that handle of the directory that messages call `shown`.
    pub(crate) fn held_by(mut self, handle: Arc<File>, shown: PathBuf) -> Folder {
        self.held = Some((handle, shown));
        self
    }

    /// Whether to leave read and written pages in the cache, for a machine where they will soon be wanted again. Off at
    /// first.
    #[must_use]
    pub fn keeping_cache(mut self, keep: bool) -> Folder {
        self.keeping_cache = keep;
        self
    }

    /// Sets the step of the write window, in bytes, rounded up to whole pages. About three steps are in the cache at a
    /// time. 8 MiB at first, 64 KiB at least.
    #[must_use]
    pub fn write_step(self, bytes: u64) -> Folder {
        self.io.set_write_bytes(bytes);
        self
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// The path of the file `name`.
    fn file(&self, name: &str) -> Result<PathBuf> {
        rules::check_name(name)?;
        Ok(self.root.join(name))
    }

    /// The path of a directory in it, or of itself.
    fn dir(&self, name: &str) -> Result<PathBuf> {
        rules::check_dir(name)?;
        Ok(self.at(name))
    }

    /// The path by which a file or a directory is found.
    fn at(&self, name: &str) -> PathBuf {
        if name.is_empty() { self.root.clone() } else { self.root.join(name) }
    }
}

/// Looks at a held lock so often, and waits so long between two looks. A process that is being started has what the one that starts
/// it holds until it becomes another program, also where that one has let go meanwhile.
const LOOKS: u32 = 10;
const BETWEEN_LOOKS: Duration = Duration::from_millis(20);

/// Locks a file unless another holds it for longer than it takes to start a process.
fn try_lock_for_a_moment(file: &File) -> std::result::Result<(), TryLockError> {
    for _ in 1..LOOKS {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => thread::sleep(BETWEEN_LOOKS),
            settled => return settled,
        }
    }
    file.try_lock()
}

impl Store for Folder {
    fn open(&self, name: &str) -> Result<Box<dyn Source>> {
        Ok(Box::new(FileSource::open(self.file(name)?, &self.open_files, &self.io, self.keeping_cache)?))
    }

    fn create(&self, name: &str, len: u64) -> Result<Box<dyn Sink>> {
        let target = self.file(name)?;
        let writer = |file: &Arc<File>| self.io.writer(file, 0..len, self.keeping_cache);
        Ok(Box::new(FileSink::begin(&self.root, target, len, self.io.unchanged(), writer)?))
    }

    fn resume(&self, name: &str, kept: u64, len: u64) -> Result<Box<dyn Sink>> {
        let target = self.file(name)?;
        let part = self.root.join(part_name(name));
        let writer = |file: &Arc<File>| self.io.writer(file, kept..len, self.keeping_cache);
        Ok(Box::new(FileSink::resume(&self.root, target, (part, kept), len, self.io.unchanged(), writer)?))
    }

    fn write_once(&self, name: &str, len: u64) -> Result<Box<dyn Sink>> {
        Ok(Box::new(OnceSink::begin(self.file(name)?, len, self.io.windows(self.keeping_cache))?))
    }

    fn is_own_dir(&self, dir: &str) -> Result<bool> {
        let path = self.dir(dir)?;
        match uninterrupted(|| fs::symlink_metadata(&path)) {
            Ok(metadata) => Ok(metadata.is_dir() && metadata.uid() == rustix::process::geteuid().as_raw()),
            Err(cause) if is_absent(&cause) => Ok(true),
            Err(cause) => Err(cannot_look(path, cause)),
        }
    }

    fn hold(&self, dir: &str, like: &str) -> Result<Option<Box<dyn HeldDir>>> {
        rules::check_dir(like)?;
        let shown = self.path_of(dir);
        let files = |root: &Path, handle: &Arc<File>| -> Arc<dyn Store> {
            Arc::new(Folder::new(root).held_by(handle.clone(), shown))
        };
        Ok(Some(Box::new(HeldFolder::new(self.dir(dir)?, &self.at(like), files)?)))
    }

    fn patch(&self, name: &str) -> Result<Box<dyn Patch>> {
        Ok(Box::new(FilePatch::open(self.file(name)?)?))
    }

    fn stat(&self, dir: &str) -> Result<Option<Stat>> {
        let path = self.dir(dir)?;
        match look(&path) {
            Ok(metadata) => Ok(Some(stat_of(&metadata))),
            Err(cause) if is_absent(&cause) => unfollowed(path),
            Err(cause) => Err(cannot_look(path, cause)),
        }
    }

    fn list(&self, dir: &str) -> Result<Vec<Entry>> {
        let path = self.dir(dir)?;
        // A listing that is interrupted has ended for the standard library, so all of it is made again.
        let entries = match uninterrupted(|| fs::read_dir(&path)?.collect::<io::Result<Vec<_>>>()) {
            Err(cause) if is_absent(&cause) => {
                return Err(rules::missing("directory", &path).because(cause));
            }
            entries => entries.map_err(|cause| cannot_look(path, cause))?,
        };
        let mut found = Vec::new();
        for entry in &entries {
            found.extend(entry_of(entry)?);
        }
        sort_by_name(&mut found);
        Ok(found)
    }

    fn rename(&self, from: &str, to: &str) -> Result<()> {
        let (from, to) = (self.file(from)?, self.file(to)?);
        let above = to.parent().unwrap_or(&to);
        let renamed = make_dirs(above).and_then(|()| uninterrupted(|| fs::rename(&from, &to)));
        renamed.map_err(|cause| rules::cannot_write(&to, cause))
    }

    fn rename_dir(&self, from: &str, to: &str) -> Result<DirRename> {
        use io::ErrorKind as Io;
        let (from, to) = (self.file(from)?, self.file(to)?);
        let renamed = match uninterrupted(|| fs::symlink_metadata(&to)) {
            // An empty directory is replaced in one step; one that is not empty is not, and the rename says so.
            Ok(metadata) if metadata.is_dir() => uninterrupted(|| fs::rename(&from, &to)),
            _ => rename_no_replace(&from, &to),
        };
        let Err(cause) = renamed else { return Ok(DirRename::Done) };
        match cause.kind() {
            Io::AlreadyExists | Io::DirectoryNotEmpty => Ok(DirRename::Taken),
            // A mount point, another file system, one that renames no directories.
            Io::CrossesDevices
            | Io::ResourceBusy
            | Io::Unsupported
            | Io::InvalidInput
            | Io::PermissionDenied => Ok(DirRename::Unsupported),
            _ => Err(rules::cannot_write(&to, cause)),
        }
    }

    fn remove(&self, name: &str) -> Result<()> {
        let path = self.file(name)?;
        removed(uninterrupted(|| fs::remove_file(&path)), &path)
    }

    fn remove_dir(&self, dir: &str) -> Result<()> {
        let path = self.dir(dir)?;
        removed(uninterrupted(|| fs::remove_dir_all(&path)), &path)
    }

    fn remove_empty_dir(&self, dir: &str) -> Result<()> {
        let path = self.dir(dir)?;
        match uninterrupted(|| fs::remove_dir(&path)) {
            Err(cause)
                if matches!(
                    cause.kind(),
                    io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::NotADirectory
                ) =>
            {
                Ok(())
            }
            result => removed(result, &path),
        }
    }

    fn sync(&self, dir: &str) -> Result<()> {
        let path = self.dir(dir)?;
        sync_folder(&path).map_err(|cause| rules::cannot_write(&path, cause))
    }

    fn sync_all(&self) -> Result<()> {
        let fail = |cause| rules::cannot_write(&self.root, cause);
        let root = if self.root.as_os_str().is_empty() { Path::new(".") } else { &self.root };
        File::open(root).and_then(|root| os::sync_file_system(&root)).map_err(fail)
    }

    fn lock(&self, name: &str) -> Result<Lock> {
        let path = self.dir(name)?;
        let opened = if look(&path).is_ok_and(|found| found.is_file()) {
            // Some network file systems lock only what is open for writing.
            fs::OpenOptions::new().append(true).open(&path)
        } else {
            make_dirs(&path).map_err(|cause| rules::cannot_write(&path, cause))?;
            File::open(&path)
        };
        let Ok(file) = opened else { return Ok(Lock::default()) };
        match try_lock_for_a_moment(&file) {
            // Whoever had it may have moved it away since it was opened.
            Ok(()) if is_still(&file, &path) => Ok(Lock::holding(file)),
            Ok(()) | Err(TryLockError::WouldBlock) => {
                Err(OutputError::OutputInUse { path: shown(&path) }.into())
            }
            Err(TryLockError::Error(_)) => Ok(Lock::default()),
        }
    }

    fn scratch(&self, dir: &str, len: u64) -> Result<Box<dyn Scratch>> {
        // Where files are only written in order, there is another place.
        let here = ScratchFile::new(&self.dir(dir)?, len);
        Ok(Box::new(here.or_else(|_| ScratchFile::new(&std::env::temp_dir(), len))?))
    }

    fn free_bytes(&self, dir: &str) -> Option<u64> {
        free_bytes(&self.at(dir)).ok()
    }

    fn leads_inside(&self, link: &str, dir: &str) -> bool {
        let holder = link.rsplit_once('/').map_or("", |(holder, _)| holder);
        let places = (self.resolved(link), self.resolved(holder), self.resolved(dir));
        let (Some(target), Some(holder), Some(dir)) = places else { return false };
        target.starts_with(&dir) && !holder.starts_with(&target)
    }

    fn resolved(&self, name: &str) -> Option<PathBuf> {
        let path = self.at(name);
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { &path };
        uninterrupted(|| fs::canonicalize(path)).ok()
    }

    fn is_mount_point(&self, dir: &str) -> bool {
        is_mount_point(&self.at(dir))
    }

    fn network(&self, dir: &str) -> Option<&'static str> {
        os::network_of(&self.at(dir))
    }

    fn is_in_memory(&self, dir: &str) -> bool {
        let path = self.at(dir);
        path.ancestors().find(|above| look(above).is_ok()).is_some_and(os::is_in_memory)
    }

    fn is_writable(&self, dir: &str) -> bool {
        let path = self.at(dir);
        let mut places =
            path.ancestors().map(|above| if above.as_os_str().is_empty() { Path::new(".") } else { above });
        let Some(there) = places.find(|above| look(above).is_ok()) else { return false };
        rustix::fs::access(there, rustix::fs::Access::WRITE_OK).is_ok()
    }

    fn use_io(&self, settings: IoSettings) {
        self.io.set(settings);
    }

    fn sharing(&self, dir: &str, source: &dyn Source) -> Sharing {
        let (Ok(dir), Some(from)) = (self.dir(dir), source.as_file()) else { return Sharing::default() };
        sharing_in(&dir, &from, self.io.unchanged())
    }

    fn refused_io(&self) -> Option<&'static str> {
        self.io.refused()
    }

    fn path_of(&self, dir: &str) -> PathBuf {
        let root = self.held.as_ref().map_or(&self.root, |(_, shown)| shown);
        if dir.is_empty() { root.clone() } else { root.join(dir) }
    }
}

fn stat_of(metadata: &Metadata) -> Stat {
    if metadata.is_file() {
        return Stat { kind: EntryKind::File, bytes: metadata.len() };
    }
    let kind = if metadata.is_dir() { EntryKind::Dir } else { EntryKind::Other };
    Stat { kind, bytes: 0 }
}

/// What an entry of a directory is; `None` if it is gone by now.
fn entry_of(entry: &fs::DirEntry) -> Result<Option<Entry>> {
    let path = entry.path();
    let name = match entry.file_name().into_string() {
        Ok(name) => name,
        // No name of a store can say it, but the directory is not empty.
        Err(name) => {
            let name = name.to_string_lossy().into_owned();
            return Ok(Some(Entry { name, kind: EntryKind::Other, bytes: 0 }));
        }
    };
    match look(&path) {
        Ok(metadata) => {
            let Stat { kind, bytes } = stat_of(&metadata);
            let is_link = uninterrupted(|| entry.file_type()).is_ok_and(|kind| kind.is_symlink());
            let kind = if is_link && kind == EntryKind::Dir { EntryKind::DirLink } else { kind };
            Ok(Some(Entry { name, kind, bytes }))
        }
        Err(cause) if is_absent(&cause) => {
            Ok(unfollowed(path)?.map(|Stat { kind, bytes }| Entry { name, kind, bytes }))
        }
        Err(cause) => Err(cannot_look(path, cause)),
    }
}

/// What has a name that leads to nothing: a link, or nothing at all.
fn unfollowed(path: PathBuf) -> Result<Option<Stat>> {
    match uninterrupted(|| fs::symlink_metadata(&path)) {
        Ok(metadata) if metadata.is_symlink() => Ok(Some(Stat { kind: EntryKind::Dangling, bytes: 0 })),
        // It has come since it was looked for.
        Ok(metadata) => Ok(Some(stat_of(&metadata))),
        Err(cause) if is_absent(&cause) => Ok(None),
        Err(cause) => Err(cannot_look(path, cause)),
    }
}

/// Whether looking failed because nothing can be there: no such name, a file where a directory should be, a name too long for
/// the file system, a link that leads back to itself.
fn is_absent(cause: &io::Error) -> bool {
    use io::ErrorKind::{InvalidFilename, NotADirectory, NotFound};
    matches!(cause.kind(), NotFound | NotADirectory | InvalidFilename)
        || Errno::from_io_error(cause) == Some(Errno::LOOP)
}

fn cannot_look(path: PathBuf, cause: io::Error) -> Error {
    Error::new(StorageError::Unreadable { path: shown(&path) }).because(cause)
}

/// How a removal ended: what was not there is gone as well.
fn removed(result: io::Result<()>, path: &Path) -> Result<()> {
    match result {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => Err(rules::cannot_write(path, cause)),
        _ => Ok(()),
    }
}

/// Whether `path` names what was opened as `file`.
fn is_still(file: &File, path: &Path) -> bool {
    match (uninterrupted(|| file.metadata()), look(path)) {
        (Ok(opened), Ok(now)) => (opened.dev(), opened.ino()) == (now.dev(), now.ino()),
        _ => false,
    }
}

#[cfg(test)]
#[path = "folder_tests.rs"]
mod tests;
