//! Questions to the file system and whole-file steps that need more than one call: free room, syncing a directory, renaming
//! without replacing, copying.
//!
//! ```
//! use shardfold::Memory;
//! use shardfold::testing::write_small;
//!
//! let store = Memory::new();
//! write_small(&store, "a", b"one")?;
//! write_small(&store, "a", b"two")?;
//! assert_eq!(store.get("a").as_deref().map(Vec::as_slice), Some(&b"two"[..]));
//! # Ok::<(), shardfold::Error>(())
//! ```

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::io::Errno;

use crate::cancel::Cancel;
use crate::error::Result;
use crate::storage::interrupted::uninterrupted;
use crate::storage::os;
use crate::storage::source::Source;
use crate::storage::store::Store;

/// What stands at `path`, links followed.
pub(crate) fn look(path: &Path) -> io::Result<fs::Metadata> {
    uninterrupted(|| fs::metadata(path))
}

/// Makes a directory and those above it, whichever are not there yet.
pub(crate) fn make_dirs(path: &Path) -> io::Result<()> {
    match uninterrupted(|| fs::create_dir_all(path)) {
        // What looks whether it is a directory that exists may have been interrupted.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            if look(path)?.is_dir() {
                Ok(())
            } else {
                Err(error)
            }
        }
        made => made,
    }
}

/// Bytes that may be written at `path`, or, if nothing is there yet, at the nearest directory above it.
///
/// A file system without a size of its own (an unlimited tmpfs, some FUSE ones) counts as endless. Quotas do not show.
///
/// # Errors
/// What `statvfs` says.
pub(crate) fn free_bytes(path: &Path) -> io::Result<u64> {
    let mut place = path;
    loop {
        if place.as_os_str().is_empty() {
            place = Path::new(".");
        }
        match rustix::io::retry_on_intr(|| rustix::fs::statvfs(place)) {
            Ok(room) if room.f_blocks == 0 => return Ok(u64::MAX),
            Ok(room) => return Ok(room.f_bavail.saturating_mul(room.f_frsize)),
            Err(Errno::NOENT) if place.parent().is_some() => place = place.parent().unwrap_or(place),
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Makes the names in a directory last: files renamed into it, out of it or removed from it before this call.
///
/// Where a file system has no such call (some FUSE and SMB ones), there is nothing to do and no error.
///
/// # Errors
/// What opening or syncing says.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    sync_if_possible(&File::open(path)?)
}

/// Makes a file or a directory last, or does nothing where there is no such call.
///
/// # Errors
/// What syncing says.
pub(crate) fn sync_if_possible(file: &File) -> io::Result<()> {
    match file.sync_all() {
        Err(error)
            if matches!(Errno::from_io_error(&error), Some(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP)) =>
        {
            Ok(())
        }
        result => result,
    }
}

/// Renames `from` to `to`, which must not exist: in one step where the file system can, else after looking.
///
/// Looking first leaves a gap in which somebody else may make `to`; callers hold a lock or a unique name against that.
///
/// # Errors
/// [`io::ErrorKind::AlreadyExists`] if there is anything at `to`, and what the rename says.
pub(crate) fn rename_no_replace(from: &Path, to: &Path) -> io::Result<()> {
    match uninterrupted(|| os::rename_no_replace(from, to)) {
        Err(error) if matches!(Errno::from_io_error(&error), Some(Errno::NOSYS | Errno::INVAL)) => {
            rename_after_looking(from, to)
        }
        result => result,
    }
}

fn rename_after_looking(from: &Path, to: &Path) -> io::Result<()> {
    match uninterrupted(|| fs::symlink_metadata(to)) {
        Ok(_) => Err(Errno::EXIST.into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => uninterrupted(|| fs::rename(from, to)),
        Err(error) => Err(error),
    }
}

/// Whether `path` is where a file system is mounted, so that it cannot be renamed or replaced.
///
/// Symlinks are followed. What cannot be looked at is none.
pub(crate) fn is_mount_point(path: &Path) -> bool {
    let Ok(path) = fs::canonicalize(path) else { return false };
    // The list also knows a directory bound to another of the same file system, which device numbers do not tell.
    os::is_listed_mount(&path) || is_other_device(&path)
}

fn is_other_device(path: &Path) -> bool {
    let Some(parent) = path.parent() else { return true };
    match (look(path), look(parent)) {
        (Ok(own), Ok(above)) => own.dev() != above.dev(),
        _ => false,
    }
}

/// Writes a whole small file that lasts, replacing what had its name.
///
/// # Errors
/// As [`Store::create`], [`Sink::write`](crate::storage::sink::Sink::write) and [`Sink::commit`](crate::storage::sink::Sink::commit).
pub fn write_small(store: &dyn Store, name: &str, bytes: &[u8]) -> Result<()> {
    let mut sink = store.create(name, bytes.len() as u64)?;
    sink.write(bytes)?;
    sink.commit()
}

/// Copies all of `from` to the file `name` of `store`, through `buf`. Returns the BLAKE3 of the bytes, in hex.
///
/// # Errors
/// As [`Source::read_at`], [`Store::create`], [`Sink::write`](crate::storage::sink::Sink::write) and [`Sink::commit`](crate::storage::sink::Sink::commit); then there is no copy.
///
/// # Panics
/// If `buf` is empty.
pub(crate) fn copy_file(
    from: &dyn Source,
    store: &dyn Store,
    name: &str,
    buf: &mut [u8],
    cancel: &Cancel,
) -> Result<String> {
    assert!(!buf.is_empty(), "copying needs a buffer");
    let mut sink = store.create(name, from.len())?;
    let (mut offset, mut hash) = (0, blake3::Hasher::new());
    while offset < from.len() {
        cancel.check()?;
        let step = (from.len() - offset).min(buf.len() as u64);
        let bytes = &mut buf[..step as usize];
        from.read_at(bytes, offset)?;
        sink.write(bytes)?;
        hash.update(bytes);
        offset += step;
        from.done_before(offset);
    }
    sink.commit()?;
    Ok(hash.finalize().to_hex().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::kind::ErrorKind;
    use crate::storage::folder::Folder;
    use crate::storage::memory::Memory;

    #[test]
    fn free_room_is_found_above_what_is_not_there_yet() {
        let folder = tempfile::tempdir().unwrap();
        let near = |a: u64, b: u64| a.abs_diff(b) < 1 << 30; // other programs write at the same time
        let here = free_bytes(folder.path()).unwrap();
        assert!(near(here, free_bytes(&folder.path().join("not/yet/there")).unwrap()));
        assert!(free_bytes(Path::new("not-yet-there")).is_ok());
    }

    #[test]
    fn renaming_replaces_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let [a, b, c] = ["a", "b", "c"].map(|name| folder.path().join(name));
        for rename in [rename_no_replace, rename_after_looking] {
            fs::write(&a, "a").unwrap();
            fs::write(&b, "b").unwrap();
            assert_eq!(rename(&a, &b).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
            assert_eq!(fs::read(&b).unwrap(), b"b");
            rename(&a, &c).unwrap();
            assert_eq!(fs::read(&c).unwrap(), b"a");
            assert!(!a.exists());
            fs::remove_file(&c).unwrap();

            // A dangling link is something, and so is an empty directory.
            std::os::unix::fs::symlink("nowhere", &c).unwrap();
            assert_eq!(rename(&b, &c).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
            fs::remove_file(&c).unwrap();
            fs::create_dir(&a).unwrap();
            fs::create_dir(&c).unwrap();
            assert_eq!(rename(&a, &c).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
            fs::remove_dir(&a).unwrap();
            fs::remove_dir(&c).unwrap();
        }
        assert_eq!(rename_no_replace(&a, &c).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn the_root_is_a_mount_point_and_a_new_folder_is_none() {
        let folder = tempfile::tempdir().unwrap();
        assert!(is_mount_point(Path::new("/")));
        assert!(!is_mount_point(folder.path()));
        assert!(!is_mount_point(&folder.path().join("absent")));
        sync_folder(folder.path()).unwrap();
        assert!(sync_folder(&folder.path().join("absent")).is_err());
    }

    /// A file of zeros that cancels its token when so many bytes of it were read.
    struct Cancelling {
        len: u64,
        at: u64,
        cancel: Cancel,
    }

    impl Source for Cancelling {
        fn len(&self) -> u64 {
            self.len
        }

        fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
            assert!(!self.cancel.is_cancelled(), "read after it was cancelled");
            buf.fill(0);
            if offset >= self.at {
                self.cancel.cancel();
            }
            Ok(())
        }

        fn done_before(&self, _: u64) {}
    }

    #[test]
    fn a_copy_ends_within_a_step_of_the_token_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let stores: [&dyn Store; 2] = [&Memory::new(), &Folder::new(folder.path())];
        for (store, at) in stores.into_iter().flat_map(|store| [(store, 0), (store, 1 << 20)]) {
            let cancel = Cancel::default();
            let from = Cancelling { len: 2 << 20, at, cancel: cancel.clone() };
            let error = copy_file(&from, store, "to", &mut [0; 1 << 16], &cancel).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::Stopped), "{error:?}");
            assert_eq!(store.list("").unwrap(), []);
        }
    }

    #[test]
    fn a_copy_is_whole_for_every_size_of_buffer() {
        let store = Memory::new();
        for len in [0, 1, 6, 7, 8, 14, 20] {
            let bytes: Vec<u8> = (0..len).collect();
            write_small(&store, "from", &bytes).unwrap();
            let from = store.open("from").unwrap();
            copy_file(&*from, &store, "to", &mut [0; 7], &Cancel::default()).unwrap();
            assert_eq!(*store.get("to").unwrap(), bytes);
        }
    }
}
