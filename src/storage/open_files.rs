//! Files that are open for reading: no more at a time than the process may have descriptors for, and each still the one
//! that was opened at first.
//!
//! A checkpoint may have more shards than a process may have open files. So a file keeps its descriptor for as long as few
//! are open; then the one that was opened first is closed, and opened again when it is read again. Whoever opens it again
//! compares it with what was found at first, and so does whoever is about to use what was read.

use std::collections::VecDeque;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::error::storage::StorageError;
use crate::error::{Error, Result};
use crate::storage::behind::Behind;
use crate::storage::files::look;
use crate::storage::interrupted::uninterrupted;
use crate::storage::shown::shown;
use crate::storage::times::FileTimes;
use crate::storage::{os, rules};

/// One store may have this part of the descriptors: base, adapters and output have one each.
const SHARE: u64 = 4;
const LEAST: u64 = 4;
const MOST: u64 = 1024;
/// Where no limit can be read.
const USUAL_LIMIT: u64 = 1024;
/// More descriptors than this are not asked for.
const ENOUGH: u64 = 1 << 16;

/// The files of one store that are open.
#[derive(Debug)]
pub(crate) struct OpenFiles {
    most: usize,
    /// In the order in which they were opened.
    open: Mutex<VecDeque<Weak<OpenFile>>>,
}

/// A file that is open, or will be again when it is read.
pub(crate) struct OpenFile {
    /// Where it was found.
    pub(crate) path: PathBuf,
    /// What it was when it was first opened.
    state: FileState,
    file: Mutex<Option<Arc<File>>>,
    /// What of it the cache has let go; `None` to leave the cache alone.
    pub(crate) behind: Option<Behind>,
}

/// What tells one state of a file from another without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileState {
    place: (u64, u64),
    bytes: u64,
    mode: u32,
    modified: (i64, i64),
    changed: (i64, i64),
    /// Names that it has.
    links: u64,
}

/// Asks for as many descriptors as the system lets this process have.
pub(crate) fn raise_limit() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = maximum.unwrap_or(ENOUGH).min(ENOUGH);
    if current.is_some_and(|current| current < wanted) {
        // With fewer, files are opened again more often.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum });
    }
}

impl Default for OpenFiles {
    fn default() -> OpenFiles {
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(USUAL_LIMIT);
        OpenFiles { most: (limit / SHARE).clamp(LEAST, MOST) as usize, open: Mutex::default() }
    }
}

impl OpenFiles {
    /// Opens the regular file at `path`, following symlinks.
    ///
    /// A pipe or a device is refused without being opened, and if it takes the file's place in between, without blocking.
    pub(crate) fn open(&self, path: PathBuf, behind: Option<Behind>) -> Result<Arc<OpenFile>> {
        match opened(&path) {
            Ok((file, state)) => {
                let file = Mutex::new(Some(Arc::new(file)));
                let open = Arc::new(OpenFile { path, state, file, behind });
                self.add(&open);
                Ok(open)
            }
            Err(cause) => Err(cannot_open(path, cause)),
        }
    }

    /// The descriptor of a file, which is opened again if it was closed.
    pub(crate) fn file(&self, open: &Arc<OpenFile>) -> Result<Arc<File>> {
        let mut held = open.held();
        if let Some(file) = &*held {
            return Ok(file.clone());
        }
        let (file, state) = opened(&open.path).map_err(|cause| cannot_open(open.path.clone(), cause))?;
        // Where a file system makes up its inode numbers, a file has another one by now.
        if !state.is_like(&open.state) {
            return Err(open.is_changed());
        }
        let file = Arc::new(file);
        *held = Some(file.clone());
        drop(held);
        self.add(open);
        Ok(file)
    }

    /// Counts a file that was opened, and closes the first if they are too many.
    fn add(&self, file: &Arc<OpenFile>) {
        let mut all = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|file| file.strong_count() > 0);
        all.push_back(Arc::downgrade(file));
        let first = if all.len() > self.most { all.pop_front() } else { None };
        drop(all);
        if let Some(first) = first.and_then(|first| first.upgrade()) {
            first.close();
        }
    }
}

impl OpenFile {
    /// Bytes when it was opened; a file that grows is read no further.
    pub(crate) fn len(&self) -> u64 {
        self.state.bytes
    }

    /// Fails unless the file is what it was when it was opened, and still the one at its path.
    pub(crate) fn check_unchanged(&self) -> Result<()> {
        let now = look(&self.path).map(|metadata| FileState::of(&metadata));
        let held = self.held();
        let is_same = match (&*held, now) {
            (_, Err(_)) => false,
            (None, Ok(now)) => now.is_like(&self.state),
            (Some(file), Ok(now)) => {
                let opened = uninterrupted(|| file.metadata()).map(|metadata| FileState::of(&metadata));
                now.is_kept(&self.state) && opened.is_ok_and(|opened| opened.is_kept(&self.state))
            }
        };
        if is_same { Ok(()) } else { Err(self.is_changed()) }
    }

    /// When it was written, and when it changed last: it, the link that leads to it, or the directory in which its name is, as
    /// when a directory takes the place of another.
    pub(crate) fn times(&self) -> Option<FileTimes> {
        let above = self.path.parent().filter(|above| !above.as_os_str().is_empty());
        let above = above.unwrap_or(Path::new("."));
        let name = uninterrupted(|| fs::symlink_metadata(&self.path)).ok()?;
        let above = uninterrupted(|| fs::metadata(above)).ok()?;
        let named = FileState::of(&name).changed.max(FileState::of(&above).changed);
        // Device numbers begin with 1.
        let clock = if os::has_local_clock(&self.path) { 0 } else { self.state.place.0 };
        Some(FileTimes { clock, written: self.state.modified, changed: self.state.changed, named })
    }

    /// Who may do what with it.
    pub(crate) fn access(&self) -> u32 {
        self.state.mode & 0o777
    }

    /// Says that the cache need not keep what comes before `offset`.
    pub(crate) fn done_before(&self, offset: u64) {
        let held = self.held();
        if let (Some(behind), Some(file)) = (&self.behind, &*held) {
            behind.advance(file, offset.min(self.len()), self.len());
        }
    }

    fn held(&self) -> MutexGuard<'_, Option<Arc<File>>> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self) {
        if let Some(file) = self.held().take()
            && let Some(behind) = &self.behind
        {
            behind.sweep(&file, self.len());
        }
    }

    fn is_changed(&self) -> Error {
        let error = Error::new(StorageError::Changed { path: shown(&self.path) });
        error.hint("let nothing write to the inputs of a merge, and run it again")
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        self.close();
    }
}

impl FileState {
    fn of(metadata: &Metadata) -> FileState {
        FileState {
            place: (metadata.dev(), metadata.ino()),
            bytes: metadata.len(),
            mode: metadata.mode(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            links: metadata.nlink(),
        }
    }

    /// Whether all but the place is the same.
    fn is_like(&self, other: &FileState) -> bool {
        FileState { place: other.place, ..*self }.is_kept(other)
    }

    /// Whether it is the same, but for names that it got or lost, which change it as everything else does.
    fn is_kept(&self, other: &FileState) -> bool {
        let FileState { changed, links, .. } = *other;
        self == other || self.links != links && FileState { changed, links, ..*self } == *other
    }
}

fn opened(path: &Path) -> io::Result<(File, FileState)> {
    regular(&look(path)?)?;
    let file = fs::OpenOptions::new().read(true).custom_flags(nonblocking()).open(path)?;
    let metadata = uninterrupted(|| file.metadata())?;
    regular(&metadata)?;
    Ok((file, FileState::of(&metadata)))
}

/// Fails unless `metadata` is of a regular file.
fn regular(metadata: &Metadata) -> io::Result<()> {
    if metadata.is_file() {
        return Ok(());
    }
    let what = if metadata.is_dir() { "it is a directory" } else { "it is a pipe, a socket or a device" };
    Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{what}, not a file")))
}

fn nonblocking() -> i32 {
    rustix::fs::OFlags::NONBLOCK.bits() as i32
}

fn cannot_open(path: PathBuf, cause: io::Error) -> Error {
    use io::ErrorKind::{NotADirectory, NotFound};
    let is_loop = rustix::io::Errno::from_io_error(&cause) == Some(rustix::io::Errno::LOOP);
    let is_missing = matches!(cause.kind(), NotFound | NotADirectory);
    if is_missing || is_loop {
        let target = uninterrupted(|| fs::read_link(&path)).ok();
        let error = target.map(|target| rules::broken_link(&path, target));
        return error.unwrap_or_else(|| rules::missing("file", &path).because(cause));
    }
    Error::new(StorageError::Unreadable { path: shown(&path) }).because(cause)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::kind::ErrorKind;

    fn files(most: usize) -> OpenFiles {
        OpenFiles { most, open: Mutex::default() }
    }

    #[test]
    fn no_more_are_open_than_may_be_and_each_can_still_be_read() {
        let folder = tempfile::tempdir().unwrap();
        let all = files(2);
        let open: Vec<_> = (0..5u8)
            .map(|i| {
                let path = folder.path().join(i.to_string());
                fs::write(&path, [i]).unwrap();
                all.open(path, None).unwrap()
            })
            .collect();
        let count = || open.iter().filter(|file| file.held().is_some()).count();
        assert_eq!(count(), 2);
        for (i, file) in open.iter().enumerate() {
            let mut byte = [9];
            std::os::unix::fs::FileExt::read_at(&*all.file(file).unwrap(), &mut byte, 0).unwrap();
            assert_eq!((byte[0] as usize, count()), (i, 2));
            file.check_unchanged().unwrap();
        }
    }

    #[test]
    fn a_file_that_got_another_name_is_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("name");
        fs::write(&path, "old").unwrap();
        std::thread::sleep(std::time::Duration::from_millis(20));
        let all = files(1);
        let file = all.open(path.clone(), None).unwrap();
        fs::hard_link(&path, folder.path().join("other")).unwrap();
        file.check_unchanged().unwrap();
        fs::write(&path, "new").unwrap();
        file.check_unchanged().unwrap_err();
    }

    #[test]
    fn a_file_that_changed_is_found_open_or_closed() {
        let grow = |path: &Path| fs::write(path, "longer").unwrap();
        let rewrite = |path: &Path| {
            let before = fs::metadata(path).unwrap().modified().unwrap();
            fs::write(path, "new").unwrap();
            // Not even one that puts its time back.
            File::options().write(true).open(path).unwrap().set_modified(before).unwrap();
        };
        let replace = |path: &Path| {
            fs::write(path.with_extension("new"), "old").unwrap();
            fs::rename(path.with_extension("new"), path).unwrap();
        };
        let remove = |path: &Path| fs::remove_file(path).unwrap();
        for change in [grow, rewrite, replace, remove] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("name");
            fs::write(&path, "old").unwrap();
            std::thread::sleep(std::time::Duration::from_millis(20));
            let all = files(2);
            let (held, closed) =
                (all.open(path.clone(), None).unwrap(), all.open(path.clone(), None).unwrap());
            closed.close();
            change(&path);
            for file in [&held, &closed] {
                let error = file.check_unchanged().unwrap_err();
                assert!(
                    matches!(error.kind(), ErrorKind::Storage(StorageError::Changed { .. })),
                    "{error:?}"
                );
            }
            assert!(all.file(&closed).is_err() && all.file(&held).is_ok());
        }
    }
}
