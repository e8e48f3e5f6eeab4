//! A directory that is held by its handle: what gets its name later is another directory, and nothing of that is touched.
//!
//! In a directory that others may write to, another user can put a link in the place of one that is being worked in. Here
//! every path begins with the handle (`/proc/self/fd/N`), only its owner may enter it until it is opened up, and no link is
//! in it. Where there is no such path, the name must do. A directory that is in its place already may be a volume of another
//! user, or on a store without rights: it keeps what others may do in it.

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
use crate::storage::rules::FOREIGN;
use crate::storage::shown::OPEN_FILES;
use crate::storage::store::{HeldDir, Store};

/// What only the owner may do.
const PRIVATE: u32 = 0o700;
/// What anybody may do whom the process lets.
const ALL: u32 = 0o777;
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
    /// Whose rights it takes.
    rights: Rights,
}

/// What others may do in a directory when it is shown.
enum Rights {
    /// What they may do in what stood where it will be.
    Like(Metadata),
    /// What they may do in any new directory there.
    Usual,
    /// What they may do in it now.
    Kept,
}

impl Rights {
    /// Of a directory at `path` that will be at `like`.
    fn of(path: &Path, like: &Path) -> Rights {
        if path == like {
            return Rights::Kept;
        }
        let found = uninterrupted(|| fs::metadata(like)).ok().filter(Metadata::is_dir);
        found.map_or(Rights::Usual, Rights::Like)
    }
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
        let rights = Rights::of(&path, like);
        let is_kept = matches!(rights, Rights::Kept);
        path.parent().map_or(Ok(()), make_dirs).map_err(fail)?;
        let mode = if is_kept { ALL } else { PRIVATE };
        let made = uninterrupted(|| DirBuilder::new().mode(mode).create(&path));
        match made {
            Err(cause) if cause.kind() != io::ErrorKind::AlreadyExists => return Err(fail(cause)),
            _ => {}
        }
        let flags = (OFlags::NOFOLLOW | OFlags::DIRECTORY).bits() as i32;
        let handle = fs::OpenOptions::new().read(true).custom_flags(flags).open(&path).map_err(fail)?;
        let owner = uninterrupted(|| handle.metadata()).map_err(fail)?.uid();
        if !is_kept && owner != rustix::process::geteuid().as_raw() {
            return Err(foreign().into());
        }
        let handle = Arc::new(handle);
        let by_handle = PathBuf::from(format!("{OPEN_FILES}/{}", handle.as_raw_fd()));
        let root = if is_same(&handle, &by_handle) { by_handle } else { path.clone() };
        let files = files(&root, &handle);
        let held = HeldFolder { handle, root, files, path: path.clone(), rights };
        held.close_up();
        if has_links(&held.root).map_err(fail)? {
            return Err(foreign().into());
        }
        Ok(held)
    }

    /// Takes from others what they may do in it, and gives it the group that its files are to have. File systems without
    /// rights refuse it, and on these nobody can plant a link either.
    fn close_up(&self) {
        let like = match &self.rights {
            Rights::Kept => return,
            Rights::Usual => None,
            Rights::Like(like) => Some(like),
        };
        let group = like.map(|like| Gid::from_raw(like.gid()));
        let _ = group.map(|group| rustix::fs::fchown(&*self.handle, None, Some(group)));
        let own = self.handle.metadata().map_or(0, |own| own.mode()) & SET_GROUP;
        let set_group = like.map_or(0, |like| like.mode() & SET_GROUP);
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
        let narrowed = narrow(&self.root, access);
        let mode = match &self.rights {
            // A store without rights has nobody who could do more.
            Rights::Kept if narrowed.as_ref().is_err_and(is_refusal) => return Ok(()),
            Rights::Kept => return narrowed.map_err(fail),
            Rights::Like(like) => like.mode(),
            Rights::Usual => self.usual_mode().map_err(fail)?,
        };
        narrowed.map_err(fail)?;
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

/// Whether rights cannot be changed there.
fn is_refusal(cause: &io::Error) -> bool {
    matches!(cause.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::Unsupported)
}

/// Whether a link is anywhere below `dir`, but for what a file system keeps for itself.
fn has_links(dir: &Path) -> io::Result<bool> {
    for entry in uninterrupted(|| fs::read_dir(dir)?.collect::<io::Result<Vec<_>>>())? {
        if FOREIGN.iter().any(|name| entry.file_name() == *name) {
            continue;
        }
        let is_one = || {
            let kind = uninterrupted(|| entry.file_type())?;
            Ok(kind.is_symlink() || kind.is_dir() && has_links(&entry.path())?)
        };
        match is_one() {
            Ok(true) => return Ok(true),
            // Another part of the same merge, which works here too, has moved it.
            Err(cause) if io::Error::kind(&cause) == io::ErrorKind::NotFound => {}
            found => drop(found?),
        }
    }
    Ok(false)
}

/// Takes from all files below `dir` what `access` does not have.
fn narrow(dir: &Path, access: u32) -> io::Result<()> {
    for entry in uninterrupted(|| fs::read_dir(dir)?.collect::<io::Result<Vec<_>>>())? {
        let metadata = uninterrupted(|| entry.metadata())?;
        if FOREIGN.iter().any(|name| entry.file_name() == *name) {
            continue;
        }
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
        // What is in these gives no reason: that it is reached by a link, or another user's, does.
        fs::create_dir(at("plain")).unwrap();
        symlink(at("plain"), at("linked-plain")).unwrap();
        symlink(at("gone"), at("linked-nowhere")).unwrap();
        fs::write(at("file"), "").unwrap();
        fs::create_dir(at("foreign")).unwrap();
        let is_given = std::os::unix::fs::chown(at("foreign"), Some(12_345), None).is_ok();
        let foreign = is_given.then_some("foreign");
        for name in ["staging", "linked", "linked-plain", "linked-nowhere", "file"].into_iter().chain(foreign)
        {
            let error = hold(&folder, name, "output").err().unwrap();
            assert!(
                matches!(error.kind(), ErrorKind::Output(OutputError::StagingForeign { .. })),
                "{name}: {error:?}"
            );
        }
        assert!(hold(&folder, "plain", "output").is_ok());
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

    #[test]
    fn what_is_in_its_place_keeps_its_rights_and_is_held_all_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("usual")).unwrap();
        let held = hold(&folder, "new", "new").unwrap();
        assert_eq!(mode(&at("new")), mode(&at("usual")), "as any new directory");
        drop(held);
        fs::create_dir_all(at("volume/lost+found")).unwrap();
        fs::set_permissions(at("volume"), Permissions::from_mode(0o1777)).unwrap();
        let is_given = std::os::unix::fs::chown(at("volume"), Some(12_345), None).is_ok();
        let held = hold(&folder, "volume", "volume").unwrap();
        assert_eq!(mode(&at("volume")), 0o1777);
        fs::rename(at("volume"), at("away")).unwrap();
        fs::create_dir(at("volume")).unwrap();
        write_small(&*held.files(), "sub/file", b"x").unwrap();
        assert!(!held.is_still_named() && fs::read_dir(at("volume")).unwrap().count() == 0);
        held.open_up(0o600).unwrap();
        assert_eq!((mode(&at("away")), mode(&at("away/sub/file"))), (0o1777, 0o600));
        symlink("/", at("away/sub/link")).unwrap();
        assert!(hold(&folder, "away", "away").is_err(), "a link is in it");
        assert!(is_given || rustix::process::geteuid().as_raw() != 0);
    }
}
