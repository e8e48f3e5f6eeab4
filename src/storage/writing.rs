//! Writing a file of a directory: a temporary file beside the target, and one function that makes it last and shows it. How
//! its bytes get to the disk is for its [`FileWriter`].

use std::fs::{self, File};
use std::io;
use std::mem;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use rustix::fs::OFlags;

use crate::error::storage::StorageError;
use crate::error::{Error, Result};
use crate::storage::files::{free_bytes, make_dirs, sync_folder};
use crate::storage::interrupted::uninterrupted;
use crate::storage::io::block::BLOCK;
use crate::storage::io::way::FileWriter;
use crate::storage::rules::Length;
use crate::storage::shown::shown;
use crate::storage::sink::Sink;
use crate::storage::source::Source;
use crate::storage::{os, rules};

/// Names of temporary files are cut to this many bytes before the suffix: file systems allow 255.
const NAME_BYTES: usize = 200;

/// A file being made under a temporary name.
///
/// The order of fields matters: nothing is written any more, and the file is closed, before its temporary name is removed.
pub(crate) struct FileSink {
    writer: Box<dyn FileWriter>,
    file: Arc<File>,
    temporary: Temporary,
    /// Its final name, and what messages call it.
    target: PathBuf,
    /// The directory of `target` and those above it up to the store's root: all that may have a new name in them.
    folders: Vec<PathBuf>,
    length: Length,
    /// Whether ranges of other files may be shared: not any more once that was refused.
    shares: bool,
}

impl FileSink {
    /// Begins the file `target`, somewhere below `root`, with room for `len` bytes.
    ///
    /// Folders that are missing are made. `shares` says whether it may share ranges of other files, and `writer` makes what
    /// writes it.
    pub(crate) fn begin(
        root: &Path,
        target: PathBuf,
        len: u64,
        shares: bool,
        writer: impl FnOnce(&Arc<File>) -> Box<dyn FileWriter>,
    ) -> Result<FileSink> {
        FileSink::open(root, target, Length::new(len), shares, writer, Temporary::create)
    }

    /// Goes on with the file `target` behind the first bytes of what was kept of it under a name of its own, or begins what
    /// may be kept.
    pub(crate) fn resume(
        root: &Path,
        target: PathBuf,
        (part, kept): (PathBuf, u64),
        len: u64,
        shares: bool,
        writer: impl FnOnce(&Arc<File>) -> Box<dyn FileWriter>,
    ) -> Result<FileSink> {
        let open = |_: &Path, _: &Path| Temporary::kept(part, kept);
        FileSink::open(root, target, Length::resumed(len, kept), shares, writer, open)
    }

    fn open(
        root: &Path,
        target: PathBuf,
        length: Length,
        shares: bool,
        writer: impl FnOnce(&Arc<File>) -> Box<dyn FileWriter>,
        open: impl FnOnce(&Path, &Path) -> io::Result<(File, Temporary)>,
    ) -> Result<FileSink> {
        let len = length.missing();
        let folders: Vec<PathBuf> = target
            .ancestors()
            .skip(1)
            .take_while(|path| path.starts_with(root))
            .map(Path::to_path_buf)
            .collect();
        let folder = folders.first().map_or(root, PathBuf::as_path);
        let fail = |cause| rules::no_room(&target, len, || free_bytes(folder).unwrap_or(0), cause);

        make_dirs(folder).map_err(fail)?;
        let (file, temporary) = open(folder, &target).map_err(fail)?;
        // Reserving more than there is would fill the disk before it fails. Without an answer, reserving tells.
        let free = free_bytes(folder).unwrap_or(u64::MAX);
        let needed = length.announced().saturating_sub(allocated(&file).map_err(fail)?);
        if free < needed {
            return Err(StorageError::DiskFull { path: shown(&target), needed, free }.into());
        }
        os::reserve(&file, length.announced()).map_err(fail)?;
        let file = Arc::new(file);
        let writer = writer(&file);
        Ok(FileSink { writer, file, temporary, target, folders, length, shares })
    }

    fn cannot_write(&self, cause: io::Error) -> Error {
        let free = || self.target.parent().and_then(|folder| free_bytes(folder).ok()).unwrap_or(0);
        rules::no_room(&self.target, self.length.missing(), free, cause)
    }

    /// Everything up to the rename: the bytes and the length are on disk.
    fn sync(&mut self) -> io::Result<()> {
        self.length.check_whole()?;
        self.writer.finish()?;
        self.file.sync_all()?;
        self.length.check_found(uninterrupted(|| self.file.metadata())?.len())?;
        self.writer.forget();
        Ok(())
    }
}

impl Sink for FileSink {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let written = self.length.extend(bytes.len(), |_| self.writer.write(bytes));
        written.map_err(|cause| self.cannot_write(cause))
    }

    fn keep(&mut self) -> Result<bool> {
        if self.temporary.is_kept {
            self.writer.finish().map_err(|cause| self.cannot_write(cause))?;
            self.file.sync_all().map_err(|cause| self.cannot_write(cause))?;
            if !mem::replace(&mut self.temporary.is_named, true) {
                let folder = self.folders.first().map_or(Path::new("."), PathBuf::as_path);
                sync_folder(folder).map_err(|cause| self.cannot_write(cause))?;
            }
        }
        Ok(self.temporary.is_kept)
    }

    fn write_same(&mut self, bytes: &[u8], source: &dyn Source, offset: u64) -> Result<()> {
        let Some(from) = source.as_file().filter(|_| self.shares) else { return self.write(bytes) };
        let (file, writer, shares) = (&self.file, &mut self.writer, &mut self.shares);
        let written = self.length.extend(bytes.len(), |at| {
            let Some([head, middle]) = shared_part(bytes.len(), offset, at) else {
                return writer.write(bytes);
            };
            writer.write(&bytes[..head])?;
            let (from_at, to_at) = (offset + head as u64, at + head as u64);
            *shares = os::share_range(&from, from_at, middle as u64, (file, to_at))?;
            if !*shares {
                return writer.write(&bytes[head..]);
            }
            writer.skip(middle as u64)?;
            writer.write(&bytes[head + middle..])
        });
        written.map_err(|cause| self.cannot_write(cause))
    }

    fn commit(mut self: Box<Self>) -> Result<()> {
        self.sync().map_err(|cause| self.cannot_write(cause))?;
        let FileSink { writer, file, temporary, target, folders, .. } = *self;
        let fail = |cause| rules::cannot_write(&target, cause);
        drop((writer, file));
        temporary.rename(&target).map_err(fail)?;
        for (above, folder) in folders.iter().enumerate() {
            if let Err(cause) = sync_folder(folder) {
                // A directory further up that may not be read was there before: no name in it is new.
                if above > 0 && cause.kind() == io::ErrorKind::PermissionDenied {
                    continue;
                }
                // The name may be gone after a power cut, so it must not be seen before one either.
                let _ = uninterrupted(|| fs::remove_file(&target));
                return Err(fail(cause));
            }
        }
        Ok(())
    }

    fn commit_unsynced(mut self: Box<Self>) -> Result<()> {
        if !os::SYNCS_ALL {
            return self.commit();
        }
        let finished = self.length.check_whole().and_then(|()| self.writer.finish());
        finished.map_err(|cause| self.cannot_write(cause))?;
        let FileSink { writer, file, temporary, target, .. } = *self;
        drop((writer, file));
        temporary.rename(&target).map_err(|cause| rules::cannot_write(&target, cause))
    }

    fn abort(self: Box<Self>) {
        let mut temporary = self.temporary;
        temporary.is_kept = false;
    }
}

/// Bytes that the file has on its disk already.
fn allocated(file: &File) -> io::Result<u64> {
    const BLOCK: u64 = 512;
    Ok(uninterrupted(|| file.metadata())?.blocks().saturating_mul(BLOCK))
}

/// Bytes before the whole blocks of a range that begins at `from` in one file and at `to` in another, and bytes of these;
/// none where blocks of one are no blocks of the other, or there are none.
fn shared_part(bytes: usize, from: u64, to: u64) -> Option<[usize; 2]> {
    let (block, head) = (BLOCK as u64, (to.next_multiple_of(BLOCK as u64) - to) as usize);
    let middle = bytes.checked_sub(head)? / BLOCK * BLOCK;
    (from % block == to % block && middle > 0).then_some([head, middle])
}

/// The name of a file that nobody may see, removed when dropped unless it was renamed or is to be kept.
struct Temporary {
    path: PathBuf,
    is_renamed: bool,
    /// Whether what is written may be gone on with later.
    is_kept: bool,
    /// Whether the name lasts.
    is_named: bool,
}

impl Temporary {
    /// Makes a new file in `folder` whose name tells of `target`.
    ///
    /// A process number is not unique for long, nor across hosts, so a name that is taken means the next number.
    fn create(folder: &Path, target: &Path) -> io::Result<(File, Temporary)> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = target.file_name().and_then(|name| name.to_str()).unwrap_or("file");
        let name = &name[..name.floor_char_boundary(NAME_BYTES)];
        loop {
            let number = NEXT.fetch_add(1, Relaxed);
            let path = folder.join(format!(".{name}.{}-{number}.tmp", std::process::id()));
            match fs::OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(file) => return Ok((file, Temporary::named(path, false))),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Opens the file at `path`, of which the first `kept` bytes are wanted, or makes a new one if none are. No link is followed.
    fn kept(path: PathBuf, kept: u64) -> io::Result<(File, Temporary)> {
        if kept == 0 {
            match uninterrupted(|| fs::remove_file(&path)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32;
        let file =
            fs::OpenOptions::new().write(true).create_new(kept == 0).custom_flags(flags).open(&path)?;
        let found = uninterrupted(|| file.metadata())?;
        if !found.is_file() || found.len() < kept {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "what was kept of it is not there"));
        }
        Ok((file, Temporary::named(path, true)))
    }

    fn named(path: PathBuf, is_kept: bool) -> Temporary {
        Temporary { path, is_renamed: false, is_kept, is_named: false }
    }

    fn rename(mut self, to: &Path) -> io::Result<()> {
        uninterrupted(|| fs::rename(&self.path, to))?;
        self.is_renamed = true;
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.is_renamed && !self.is_kept {
            // Nobody is left to tell, and a temporary file that stays is only in the way.
            let _ = uninterrupted(|| fs::remove_file(&self.path));
        }
    }
}
