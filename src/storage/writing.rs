//! Writing a file of a directory: a temporary file beside the target, and one function that makes it last and shows it. How
//! its bytes get to the disk is for its [`FileWriter`].

use std::fs::{self, File, OpenOptions};
use std::io;
use std::mem;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::cancel::Cancel;
use crate::error::storage::StorageError;
use crate::error::{Error, Result};
use crate::storage::files::{free_bytes, make_dirs, sync_folder};
use crate::storage::interrupted::uninterrupted;
use crate::storage::io::block::BLOCK;
use crate::storage::io::settings::Unchanged;
use crate::storage::io::way::FileWriter;
use crate::storage::rules::Length;
use crate::storage::shown::shown;
use crate::storage::sink::{Sink, append_by_steps};
use crate::storage::source::Source;
use crate::storage::temporary::Temporary;
use crate::storage::{os, rules};

/// A file being made under a temporary name.
///
/// The order of fields matters: nothing is written any more, and the writer has let go of the file, before its name is removed.
pub(crate) struct FileSink {
    writer: Box<dyn FileWriter>,
    temporary: Temporary,
    /// Its final name, and what messages call it.
    target: PathBuf,
    /// The directory of `target` and those above it up to the store's root: all that may have a new name in them.
    folders: Vec<PathBuf>,
    length: Length,
    /// What becomes of bytes that other files have: nothing is shared any more once that was refused.
    unchanged: Unchanged,
    /// Whether it is another file under a new name.
    is_link: bool,
    /// Whether the name of what is kept lasts.
    is_named: bool,
}

impl FileSink {
    /// Begins the file `target`, somewhere below `root`, with room for `len` bytes.
    ///
    /// Folders that are missing are made. `unchanged` says what it may share with other files, and `writer` makes what writes it.
    pub(crate) fn begin(
        root: &Path,
        target: PathBuf,
        len: u64,
        unchanged: Unchanged,
        writer: impl FnOnce(&Arc<File>) -> Box<dyn FileWriter>,
    ) -> Result<FileSink> {
        let open = |folder: &Path, target: &Path| Temporary::create(folder, target, &OpenOptions::new());
        FileSink::open(root, target, Length::new(len), unchanged, writer, open)
    }

    /// Goes on with the file `target` behind the first bytes of what was kept of it under a name of its own, or begins what
    /// may be kept.
    pub(crate) fn resume(
        root: &Path,
        target: PathBuf,
        (part, kept): (PathBuf, u64),
        len: u64,
        unchanged: Unchanged,
        writer: impl FnOnce(&Arc<File>) -> Box<dyn FileWriter>,
    ) -> Result<FileSink> {
        let open = |_: &Path, _: &Path| Temporary::kept(part, kept);
        FileSink::open(root, target, Length::resumed(len, kept), unchanged, writer, open)
    }

    fn open(
        root: &Path,
        target: PathBuf,
        length: Length,
        unchanged: Unchanged,
        writer: impl FnOnce(&Arc<File>) -> Box<dyn FileWriter>,
        open: impl FnOnce(&Path, &Path) -> io::Result<Temporary>,
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
        let temporary = open(folder, &target).map_err(fail)?;
        let file = &temporary.file;
        // Reserving more than there is would fill the disk before it fails. Without an answer, reserving tells.
        let free = free_bytes(folder).unwrap_or(u64::MAX);
        let needed = length.announced().saturating_sub(allocated(file).map_err(fail)?);
        if free < needed {
            return Err(StorageError::DiskFull { path: shown(&target), needed, free }.into());
        }
        os::reserve(file, length.announced()).map_err(fail)?;
        let writer = writer(file);
        Ok(FileSink {
            writer,
            temporary,
            target,
            folders,
            length,
            unchanged,
            is_link: false,
            is_named: false,
        })
    }

    fn cannot_write(&self, cause: io::Error) -> Error {
        let free = || self.target.parent().and_then(|folder| free_bytes(folder).ok()).unwrap_or(0);
        rules::no_room(&self.target, self.length.missing(), free, cause)
    }

    /// The file behind `source`, if something may be shared with it.
    fn shared_with(&self, source: &dyn Source) -> Option<Arc<File>> {
        source.as_file().filter(|_| self.unchanged != Unchanged::Copy)
    }

    /// Bytes before the whole blocks of a range of another file that comes next, and bytes of these; none where blocks of one
    /// file are no blocks of the other, or there are none.
    fn shared_part(&self, range: &Range<u64>) -> Option<[u64; 2]> {
        let (block, to) = (BLOCK as u64, self.length.come());
        let head = to.next_multiple_of(block) - to;
        let middle = (range.end - range.start).checked_sub(head)? / block * block;
        (range.start % block == to % block && middle > 0).then_some([head, middle])
    }

    /// Shares whole blocks of `from`, if the file system can.
    fn share(&mut self, from: &File, offset: u64, bytes: u64) -> Result<bool> {
        let (file, at) = (&self.temporary.file, self.length.come());
        match os::share_range(from, offset, bytes, (file, at)) {
            Ok(true) => {}
            Ok(false) => {
                self.unchanged = Unchanged::Copy;
                return Ok(false);
            }
            Err(cause) => return Err(self.cannot_write(cause)),
        }
        let written = self.length.extend(bytes, |_| self.writer.skip(bytes));
        written.map(|()| true).map_err(|cause| self.cannot_write(cause))
    }

    /// Becomes a second name of `from`, if all of its bytes come next, and that was asked for and can be.
    fn link(&mut self, from: &File) -> Result<bool> {
        if self.unchanged != Unchanged::Link || self.length.come() > 0 {
            return Ok(false);
        }
        let linked = self.temporary.become_link(from).map_err(|cause| self.cannot_write(cause))?;
        if linked {
            from.sync_all().map_err(|cause| self.cannot_write(cause))?;
            let all = self.length.announced();
            self.length.extend(all, |_| Ok(())).map_err(|cause| self.cannot_write(cause))?;
            self.is_link = true;
        }
        Ok(linked)
    }

    fn append_steps(&mut self, source: &dyn Source, range: Range<u64>, cancel: &Cancel) -> Result<()> {
        append_by_steps(&mut |bytes| self.write(bytes), source, range, cancel)
    }

    /// Everything up to the rename: the bytes and the length are on disk.
    fn sync(&mut self) -> io::Result<()> {
        self.length.check_whole()?;
        if self.is_link {
            // The bytes are another file's and were there before; the directory is synced with the name.
            return Ok(());
        }
        self.writer.finish()?;
        self.temporary.file.sync_all()?;
        self.length.check_found(uninterrupted(|| self.temporary.file.metadata())?.len())?;
        self.writer.forget();
        Ok(())
    }
}

impl Sink for FileSink {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let written = self.length.extend(bytes.len() as u64, |_| self.writer.write(bytes));
        written.map_err(|cause| self.cannot_write(cause))
    }

    fn keep(&mut self) -> Result<bool> {
        if self.temporary.is_kept() {
            self.writer.finish().map_err(|cause| self.cannot_write(cause))?;
            self.temporary.file.sync_all().map_err(|cause| self.cannot_write(cause))?;
            if !mem::replace(&mut self.is_named, true) {
                let folder = self.folders.first().map_or(Path::new("."), PathBuf::as_path);
                sync_folder(folder).map_err(|cause| self.cannot_write(cause))?;
            }
        }
        Ok(self.temporary.is_kept())
    }

    fn write_same(&mut self, bytes: &[u8], source: &dyn Source, offset: u64) -> Result<()> {
        let range = offset..offset + bytes.len() as u64;
        let Some(from) = self.shared_with(source) else { return self.write(bytes) };
        let Some([head, middle]) = self.shared_part(&range) else { return self.write(bytes) };
        let (head, middle) = (head as usize, middle as usize);
        self.write(&bytes[..head])?;
        let behind =
            if self.share(&from, offset + head as u64, middle as u64)? { head + middle } else { head };
        self.write(&bytes[behind..])
    }

    fn append_from(&mut self, source: &dyn Source, offset: u64, bytes: u64, cancel: &Cancel) -> Result<()> {
        let range = offset..offset + bytes;
        if let Some(from) = self.shared_with(source) {
            if range == (0..source.len()) && self.length.announced() == bytes && self.link(&from)? {
                return Ok(());
            }
            if let Some([head, middle]) = self.shared_part(&range) {
                let (start, end) = (offset + head, offset + head + middle);
                self.append_steps(source, offset..start, cancel)?;
                let behind = if self.share(&from, start, middle)? { end } else { start };
                return self.append_steps(source, behind..range.end, cancel);
            }
        }
        self.append_steps(source, range, cancel)
    }

    fn skip(&mut self, bytes: u64) -> Result<()> {
        Err(rules::cannot_leave_out(&self.target, bytes))
    }

    fn commit(mut self: Box<Self>) -> Result<()> {
        self.sync().map_err(|cause| self.cannot_write(cause))?;
        let FileSink { writer, temporary, target, folders, .. } = *self;
        let fail = |cause| rules::cannot_write(&target, cause);
        drop(writer);
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
        if self.is_link {
            return self.commit();
        }
        let finished = self.length.check_whole().and_then(|()| self.writer.finish());
        finished.map_err(|cause| self.cannot_write(cause))?;
        let FileSink { writer, temporary, target, .. } = *self;
        drop(writer);
        temporary.rename(&target).map_err(|cause| rules::cannot_write(&target, cause))
    }

    fn abort(self: Box<Self>) {
        let FileSink { writer, temporary, .. } = *self;
        drop(writer);
        temporary.remove();
    }
}

/// Bytes that the file has on its disk already.
fn allocated(file: &File) -> io::Result<u64> {
    const BLOCK: u64 = 512;
    Ok(uninterrupted(|| file.metadata())?.blocks().saturating_mul(BLOCK))
}
