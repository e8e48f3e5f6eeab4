//! [`PartialFile`]: a file that several runs make, one after the other. What came of it stays under a name of its own, until all
//! of it is there and it is shown.
//!
//! Its length is how much of it there is, so that no room is reserved. Each byte is written where it belongs: should two processes
//! write the same file after all (some network file systems give a lock to everybody), they write the same bytes to the same
//! places.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::Arc;

use rustix::fs::OFlags;

use crate::error::storage::StorageError;
use crate::error::{Error, Result};
use crate::storage::files::{free_bytes, look, make_dirs, sync_folder};
use crate::storage::folder::Folder;
use crate::storage::interrupted::uninterrupted;
use crate::storage::io::store_io::StoreIo;
use crate::storage::io::way::FileWriter;
use crate::storage::rules;

/// A file of which a part may be there.
pub(crate) struct PartialFile {
    /// What writes behind the bytes that were there when it was opened.
    writer: Box<dyn FileWriter>,
    file: Arc<File>,
    path: PathBuf,
    /// The name by which it is shown.
    target: PathBuf,
    /// Bytes that are there, and that there will be.
    come: u64,
    bytes: u64,
}

impl PartialFile {
    /// Goes on with the file `part` of `folder`, which will be `name` and have `bytes` bytes, or begins it. One that has more than
    /// these is another: it is begun anew.
    ///
    /// # Errors
    /// [`StorageError::Write`], also for what is a link, or has a second name.
    pub(crate) fn open(folder: &Folder, part: &str, name: &str, bytes: u64) -> Result<PartialFile> {
        [part, name].into_iter().try_for_each(rules::check_name)?;
        let [path, target] = [part, name].map(|name| folder.path().join(name));
        let opened = open_for_both(&path).and_then(|file| {
            let found = uninterrupted(|| file.metadata())?;
            if !found.is_file() || found.nlink() > 1 {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "it is not a file of its own"));
            }
            if found.len() > bytes {
                file.set_len(0)?;
            }
            Ok((if found.len() > bytes { 0 } else { found.len() }, Arc::new(file)))
        });
        let (come, file) = opened.map_err(|cause| rules::cannot_write(&path, cause))?;
        let writer = StoreIo::default().writer(&file, come..bytes, false);
        Ok(PartialFile { writer, file, path, target, come, bytes })
    }

    /// Bytes that are there.
    pub(crate) fn come(&self) -> u64 {
        self.come
    }

    /// Hands on what is there, through `buf`, which is not empty.
    ///
    /// # Errors
    /// [`StorageError::Read`]; as `each`.
    pub(crate) fn read(&self, buf: &mut [u8], each: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let mut at = 0;
        while at < self.come {
            let step = (buf.len() as u64).min(self.come - at) as usize;
            uninterrupted(|| self.file.read_exact_at(&mut buf[..step], at)).map_err(|cause| {
                Error::new(StorageError::Read { path: self.path.clone(), offset: at }).because(cause)
            })?;
            each(&buf[..step])?;
            at += step as u64;
        }
        Ok(())
    }

    /// Adds bytes.
    ///
    /// # Errors
    /// [`StorageError::Write`], [`StorageError::DiskFull`].
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let written = self.writer.write(bytes);
        written.map_err(|cause| self.cannot_write(cause))?;
        self.come += bytes.len() as u64;
        Ok(())
    }

    /// Makes it last, and shows it by its name. Where another process has shown it meanwhile, it is there.
    ///
    /// # Errors
    /// [`StorageError::Write`]; then it has not that name, unless another process gave it.
    pub(crate) fn show(mut self) -> Result<()> {
        let is_whole = self.come == self.bytes;
        let whole = if is_whole { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
        let synced = whole.and_then(|()| self.writer.finish()).and_then(|()| self.file.sync_all());
        synced.map_err(|cause| self.cannot_write(cause))?;
        self.writer.forget();
        let PartialFile { writer, file, path, target, bytes, .. } = self;
        drop((writer, file));
        let renamed = match uninterrupted(|| fs::rename(&path, &target)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && is_there(&target, bytes) => Ok(()),
            renamed => renamed,
        };
        let above = target.parent().unwrap_or(&target);
        renamed.and_then(|()| sync_folder(above)).map_err(|cause| rules::cannot_write(&target, cause))
    }

    /// Throws it away.
    ///
    /// # Errors
    /// [`StorageError::Write`].
    pub(crate) fn remove(self) -> Result<()> {
        let PartialFile { writer, file, path, .. } = self;
        drop((writer, file));
        match uninterrupted(|| fs::remove_file(&path)) {
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => Err(rules::cannot_write(&path, cause)),
            _ => Ok(()),
        }
    }

    fn cannot_write(&self, cause: io::Error) -> Error {
        let free = || self.path.parent().and_then(|folder| free_bytes(folder).ok()).unwrap_or(0);
        rules::no_room(&self.path, self.bytes - self.come, free, cause)
    }
}

/// Opens a file for reading and writing, and makes it if it is not there. No link is followed.
fn open_for_both(path: &std::path::Path) -> io::Result<File> {
    make_dirs(path.parent().unwrap_or(path))?;
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32;
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).custom_flags(flags);
    uninterrupted(|| options.open(path))
}

fn is_there(path: &std::path::Path, bytes: u64) -> bool {
    look(path).is_ok_and(|found| found.is_file() && found.len() == bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> (tempfile::TempDir, Folder) {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::new(dir.path());
        (dir, folder)
    }

    #[test]
    fn what_came_stays_and_is_gone_on_with() {
        let (dir, folder) = folder();
        let open = || PartialFile::open(&folder, "blobs/x.incomplete", "blobs/x", 6).unwrap();
        let mut part = open();
        part.write(b"abc").unwrap();
        drop(part);
        let mut part = open();
        assert_eq!(part.come(), 3);
        let mut found = Vec::new();
        part.read(&mut [0; 2], &mut |bytes| {
            found.extend_from_slice(bytes);
            Ok(())
        })
        .unwrap();
        assert_eq!(found, b"abc");
        assert!(open().show().is_err(), "less than all of it is not shown");
        assert!(!dir.path().join("blobs/x").exists());
        part.write(b"def").unwrap();
        part.show().unwrap();
        assert_eq!(fs::read(dir.path().join("blobs/x")).unwrap(), b"abcdef");
        assert_eq!(fs::read_dir(dir.path().join("blobs")).unwrap().count(), 1);
    }

    #[test]
    fn one_of_two_that_make_it_at_once_finds_it_there() {
        let (dir, folder) = folder();
        let open = || PartialFile::open(&folder, "x.incomplete", "x", 4).unwrap();
        let (mut one, mut other) = (open(), open());
        one.write(b"ab").unwrap();
        other.write(b"abcd").unwrap();
        other.show().unwrap();
        one.write(b"cd").unwrap();
        one.show().unwrap();
        assert_eq!(fs::read(dir.path().join("x")).unwrap(), b"abcd");
        // One that was thrown away meanwhile is not there.
        let (mut one, other) = (open(), open());
        other.remove().unwrap();
        fs::remove_file(dir.path().join("x")).unwrap();
        one.write(b"abcd").unwrap();
        assert!(one.show().is_err());
    }

    #[test]
    fn what_is_no_part_of_it_is_not_gone_on_with() {
        let (dir, folder) = folder();
        let open = || PartialFile::open(&folder, "x.incomplete", "x", 3);
        let part = dir.path().join("x.incomplete");
        fs::write(&part, "longer").unwrap();
        assert_eq!(open().unwrap().come(), 0);
        fs::hard_link(&part, dir.path().join("second name")).unwrap();
        assert!(open().is_err());
        fs::remove_file(&part).unwrap();
        std::os::unix::fs::symlink("second name", &part).unwrap();
        assert!(open().is_err());
    }
}
