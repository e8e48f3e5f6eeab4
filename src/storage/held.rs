//! A directory that is held by its handle: what gets its name later is another directory, and nothing of that is touched.
//!
//! In a directory that others may write to, another user can put a link in the place of one that is being worked in. Here
//! every path begins with the handle (`/proc/self/fd/N`), only its owner may enter it until it is opened up, and no link is
//! in it. Where there is no such path, the name must do.

use std::fs::{self, DirBuilder, File, Metadata, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Gid, OFlags};
use rustix::io::Errno;

use crate::error::Result;
use crate::error::output::OutputError;
use crate::storage::files::make_dirs;
use crate::storage::interrupted::uninterrupted;
use crate::storage::rules;
use crate::storage::shown::OPEN_FILES;
use crate::storage::store::{HeldDir, Store};

/// What only the owner may do.
const PRIVATE: u32 = 0o700;
const SET_GROUP: u32 = 0o2000;
/// A directory that is made to see what others may do with a new one.
const SAMPLE: &str = ".shardfold.mode.tmp";

/// A directory of the file system, and its handle.
pub(crate) struct HeldFolder {
    handle: Arc<File>,
    /// Its path by the handle.
    root: PathBuf,
    /// Its files by that path.
    files: Arc<dyn Store>,
    /// Its path when it was opened.
    path: PathBuf,
    /// What stood where it will be, whose owner and rights it takes.
    like: Option<Metadata>,
}

impl HeldFolder {
    /// Holds the directory at `path`, which is made if it is not there; what is at `like` is in its place later. `files` makes a
    /// store of its path by the handle.
    ///
    /// # Errors
    /// [`OutputError::StagingForeign`], [`StorageError::Write`](crate::error::storage::StorageError::Write).
    pub(crate) fn new(
        path: PathBuf,
        like: &Path,
        files: impl FnOnce(&Path, &Arc<File>) -> Arc<dyn Store>,
    ) -> Result<HeldFolder> {
        let foreign = || OutputError::StagingForeign { path: path.clone() };
        let fail = |cause: io::Error| match Errno::from_io_error(&cause) {
            Some(Errno::LOOP | Errno::NOTDIR) => foreign().into(),
            _ => rules::cannot_write(&path, cause),
        };
        path.parent().map_or(Ok(()), make_dirs).map_err(fail)?;
        let made = uninterrupted(|| DirBuilder::new().mode(PRIVATE).create(&path));
        match made {
            Err(cause) if cause.kind() != io::ErrorKind::AlreadyExists => return Err(fail(cause)),
            _ => {}
        }
        let flags = (OFlags::NOFOLLOW | OFlags::DIRECTORY).bits() as i32;
        let handle = fs::OpenOptions::new().read(true).custom_flags(flags).open(&path).map_err(fail)?;
        if uninterrupted(|| handle.metadata()).map_err(fail)?.uid() != rustix::process::geteuid().as_raw() {
            return Err(foreign().into());
        }
        let like = uninterrupted(|| fs::metadata(like)).ok().filter(Metadata::is_dir);
        let handle = Arc::new(handle);
        let by_handle = PathBuf::from(format!("{OPEN_FILES}/{}", handle.as_raw_fd()));
        let root = if is_same(&handle, &by_handle) { by_handle } else { path.clone() };
        let files = files(&root, &handle);
        let held = HeldFolder { handle, root, files, path: path.clone(), like };
        held.close_up();
        if has_links(&held.root).map_err(fail)? {
            return Err(foreign().into());
        }
        Ok(held)
    }

    /// Takes from others what they may do in it, and gives it the group that its files are to have. File systems without
    /// rights refuse it, and on these nobody can plant a link either.
    fn close_up(&self) {
        let group = self.like.as_ref().map(|like| Gid::from_raw(like.gid()));
        let _ = group.map(|group| rustix::fs::fchown(&*self.handle, None, Some(group)));
        let own = self.handle.metadata().map_or(0, |own| own.mode()) & SET_GROUP;
        let set_group = self.like.as_ref().map_or(0, |like| like.mode() & SET_GROUP);
        let _ = self.handle.set_permissions(Permissions::from_mode(PRIVATE | own | set_group));
    }

    /// What a new directory in it would have, had it been made as others are.
    fn usual_mode(&self) -> io::Result<u32> {
        let sample = self.root.join(SAMPLE);
        let _ = uninterrupted(|| fs::remove_dir(&sample));
        uninterrupted(|| fs::create_dir(&sample))?;
        let mode = uninterrupted(|| fs::symlink_metadata(&sample)).map(|sample| sample.mode());
        uninterrupted(|| fs::remove_dir(&sample))?;
        mode
    }
}

impl HeldDir for HeldFolder {
    fn files(&self) -> Arc<dyn Store> {
        self.files.clone()
    }

    fn is_still_named(&self) -> bool {
        let now = uninterrupted(|| fs::symlink_metadata(&self.path));
        let own = uninterrupted(|| self.handle.metadata());
        matches!((now, own), (Ok(now), Ok(own)) if (now.dev(), now.ino()) == (own.dev(), own.ino()))
    }

    fn open_up(&self, access: u32) -> Result<()> {
        let fail = |cause| rules::cannot_write(&self.path, cause);
        narrow(&self.root, access).map_err(fail)?;
        let mode = match &self.like {
            Some(like) => like.mode(),
            None => self.usual_mode().map_err(fail)?,
        };
        match self.handle.set_permissions(Permissions::from_mode(mode & 0o7777)) {
            // A file system without rights.
            Err(cause) if cause.kind() != io::ErrorKind::PermissionDenied => Err(fail(cause)),
            _ => Ok(()),
        }
    }
}

/// Whether `path` leads to what `handle` holds.
fn is_same(handle: &File, path: &Path) -> bool {
    let found = (uninterrupted(|| handle.metadata()), uninterrupted(|| fs::metadata(path)));
    matches!(found, (Ok(own), Ok(other)) if (own.dev(), own.ino()) == (other.dev(), other.ino()))
}

/// Whether a link is anywhere below `dir`.
fn has_links(dir: &Path) -> io::Result<bool> {
    for entry in uninterrupted(|| fs::read_dir(dir)?.collect::<io::Result<Vec<_>>>())? {
        let kind = uninterrupted(|| entry.file_type())?;
        if kind.is_symlink() || kind.is_dir() && has_links(&entry.path())? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Takes from all files below `dir` what `access` does not have.
fn narrow(dir: &Path, access: u32) -> io::Result<()> {
    for entry in uninterrupted(|| fs::read_dir(dir)?.collect::<io::Result<Vec<_>>>())? {
        let metadata = uninterrupted(|| entry.metadata())?;
        if metadata.is_dir() {
            narrow(&entry.path(), access)?;
        } else if metadata.mode() & 0o777 & !access != 0 {
            let mode = Permissions::from_mode(metadata.mode() & 0o777 & access);
            uninterrupted(|| fs::set_permissions(entry.path(), mode.clone()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::error::kind::ErrorKind;
    use crate::storage::files::write_small;
    use crate::storage::folder::Folder;

    fn hold(folder: &tempfile::TempDir, name: &str, like: &str) -> Result<Box<dyn HeldDir>> {
        Folder::new(folder.path()).hold(name, like).map(|held| held.expect("a folder is held"))
    }

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn what_takes_its_name_is_not_touched() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let held = hold(&folder, "held", "output").unwrap();
        assert_eq!(mode(&at("held")), 0o700);
        fs::create_dir(at("victim")).unwrap();
        fs::rename(at("held"), at("away")).unwrap();
        symlink(at("victim"), at("held")).unwrap();
        let files = held.files();
        write_small(&*files, "a/b", b"x").unwrap();
        assert!(!held.is_still_named() && fs::read_dir(at("victim")).unwrap().count() == 0);
        assert_eq!(fs::read(at("away/a/b")).unwrap(), b"x");
        assert!(files.open("gone").err().unwrap().to_string().contains("away/gone"), "its path is shown");
    }

    #[test]
    fn links_and_other_users_directories_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir_all(at("staging/below")).unwrap();
        symlink("/", at("staging/below/link")).unwrap();
        symlink(at("staging"), at("linked")).unwrap();
        fs::write(at("file"), "").unwrap();
        for name in ["staging", "linked", "file"] {
            let error = hold(&folder, name, "output").err().unwrap();
            assert!(
                matches!(error.kind(), ErrorKind::Output(OutputError::StagingForeign { .. })),
                "{name}: {error:?}"
            );
        }
    }

    #[test]
    fn rights_are_those_of_what_it_replaces_or_of_what_is_new() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("output")).unwrap();
        fs::create_dir(at("usual")).unwrap();
        fs::set_permissions(at("output"), Permissions::from_mode(0o2751)).unwrap();
        for (name, like, expected) in [("a", "output", 0o2751), ("b", "nothing", mode(&at("usual")))] {
            let held = hold(&folder, name, like).unwrap();
            write_small(&*held.files(), "sub/file", b"").unwrap();
            held.open_up(0o600).unwrap();
            assert_eq!((mode(&at(name)), mode(&at(name).join("sub/file"))), (expected, 0o600), "{name}");
            assert_eq!(fs::read_dir(at(name)).unwrap().count(), 1);
        }
    }
}
