//! What every store holds its callers to: names stay inside, announced lengths are kept, a full disk is told apart.

use std::error::Error as _;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::storage::StorageError;
use crate::error::{Error, Result};
use crate::storage::at_byte::at_byte;
use crate::storage::shown::shown;
use crate::tensor::size::show_size;

/// Whether `name` is one or more parts joined by `/`, none of them empty, `.` or `..`: one spelling for each file. A NUL, which
/// no file name may hold, is refused as well.
pub(crate) fn is_inside(name: &str) -> bool {
    !name.contains('\0') && name.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

/// Refuses the name of a file that does not lie plainly inside its store.
///
/// # Errors
/// [`StorageError::LeadsOut`].
pub(crate) fn check_name(name: &str) -> Result<()> {
    if is_inside(name) {
        return Ok(());
    }
    Err(StorageError::LeadsOut { path: PathBuf::from(name) }.into())
}

/// Refuses the name of a directory that does not lie plainly inside its store. The empty one is the store itself.
///
/// # Errors
/// [`StorageError::LeadsOut`].
pub(crate) fn check_dir(name: &str) -> Result<()> {
    if name.is_empty() { Ok(()) } else { check_name(name) }
}

/// `name` below `dir`, either of which may be empty.
pub(crate) fn join(dir: &str, name: &str) -> String {
    match (dir, name) {
        ("", name) => name.to_owned(),
        (dir, "") => dir.to_owned(),
        (dir, name) => format!("{dir}/{name}"),
    }
}

/// Directories that a file system or an operating system keeps for itself.
pub(crate) const FOREIGN: &[&str] = &["lost+found", "System Volume Information", "$RECYCLE.BIN"];

/// The name of what is kept of a file that is not whole.
pub(crate) fn part_name(name: &str) -> String {
    let (dir, file) = name.rsplit_once('/').unwrap_or(("", name));
    join(dir, &format!(".{file}.part"))
}

/// The error for a file or directory that is not there.
pub(crate) fn missing(what: &'static str, path: &Path) -> Error {
    StorageError::Missing { what, path: shown(path) }.into()
}

/// The error for a link `path` that leads to nothing.
pub(crate) fn broken_link(path: &Path, target: PathBuf) -> Error {
    let error = Error::new(StorageError::BrokenLink { path: shown(path), target });
    error.hint("restore what it leads to, or remove the link if nothing needs it")
}

/// Whether something could not be looked at because that is not allowed.
pub(crate) fn is_denied(error: &Error) -> bool {
    let cause = error.source().and_then(|cause| cause.downcast_ref::<io::Error>());
    cause.is_some_and(|cause| cause.kind() == io::ErrorKind::PermissionDenied)
}

/// The error of a read that wanted the bytes up to `end` of a source of `len` bytes, where `end` lies past the end.
pub(crate) fn past_the_end(path: &Path, end: u64, len: u64) -> Error {
    StorageError::Truncated { path: shown(path), expected: end, found: len }.into()
}

/// The error for a write to `path` that failed by `cause`, with `needed` bytes still to come.
///
/// A full disk becomes [`StorageError::DiskFull`] where `free`, which is only called then, says that there is no room for
/// them; where there is, something else is spent, as [`cannot_write`] says.
pub(crate) fn no_room(path: &Path, needed: u64, free: impl FnOnce() -> u64, cause: io::Error) -> Error {
    if cause.kind() != io::ErrorKind::StorageFull {
        return cannot_write(path, cause);
    }
    match free() {
        free if free > needed => cannot_write(path, cause).hint(format!(
            "{} are free there: it may be the number of files (inodes, `df -i`) that is spent, or a quota",
            show_size(free)
        )),
        free => Error::new(StorageError::DiskFull { path: shown(path), needed, free }).because(cause),
    }
}

/// The error for a change of `path` that failed by `cause`, with what helps where the cause tells.
pub(crate) fn cannot_write(path: &Path, cause: io::Error) -> Error {
    let hint = match cause.kind() {
        io::ErrorKind::StorageFull => Some(
            "nothing is left there, be it bytes (`df`) or the number of files (`df -i`): free some, or name an output \
             elsewhere",
        ),
        io::ErrorKind::FileTooLarge => Some(
            "the file system or a limit (`ulimit -f`) allows no file of that size; FAT32 allows 4 GiB: name an output \
             elsewhere",
        ),
        io::ErrorKind::QuotaExceeded => {
            Some("a quota is spent, which the free space of the file system does not show")
        }
        _ => None,
    };
    let error = Error::new(StorageError::Write { path: shown(path) }).because(cause);
    match hint {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

/// The error of leaving `bytes` bytes out of the file `path`, which is to be whole.
pub(crate) fn cannot_leave_out(path: &Path, bytes: u64) -> Error {
    Error::new(StorageError::Write { path: shown(path) })
        .because(format!("{bytes} bytes of it would not be there"))
}

/// How much of an announced length has come, and whether the sink is lost.
pub(crate) struct Length {
    /// Bytes announced when the sink was begun.
    announced: u64,
    /// Bytes that are written.
    come: u64,
    /// Whether a write has failed: the bytes behind it are unknown, so nothing more may come.
    lost: bool,
}

impl Length {
    pub(crate) fn new(announced: u64) -> Length {
        Length { announced, come: 0, lost: false }
    }

    /// The same, of which `come` bytes are there from before.
    pub(crate) fn resumed(announced: u64, come: u64) -> Length {
        Length { announced, come: come.min(announced), lost: false }
    }

    /// Bytes announced when the sink was begun.
    pub(crate) fn announced(&self) -> u64 {
        self.announced
    }

    /// Bytes that are written.
    pub(crate) fn come(&self) -> u64 {
        self.come
    }

    /// Bytes still to come.
    pub(crate) fn missing(&self) -> u64 {
        self.announced.saturating_sub(self.come)
    }

    /// Does one write of `bytes` more bytes by `write`, unless they are too many or an earlier write failed.
    pub(crate) fn extend(&mut self, bytes: u64, write: impl FnOnce(u64) -> io::Result<()>) -> io::Result<()> {
        if self.lost {
            return Err(io::Error::other("an earlier write failed"));
        }
        self.lost = true;
        if bytes > self.missing() {
            let text = format!("{} bytes were announced, more came", self.announced);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        write(self.come).map_err(|cause| at_byte(cause, self.come))?;
        self.come += bytes;
        self.lost = false;
        Ok(())
    }

    /// Whether everything announced has come, and nothing failed.
    pub(crate) fn check_whole(&self) -> io::Result<()> {
        if self.lost {
            return Err(io::Error::other("an earlier write failed"));
        }
        check_length(self.announced, self.come)
    }

    /// Whether `found` bytes, what the file system says is there, are what was announced.
    pub(crate) fn check_found(&self, found: u64) -> io::Result<()> {
        check_length(self.announced, found)
    }
}

fn check_length(announced: u64, found: u64) -> io::Result<()> {
    if announced == found {
        return Ok(());
    }
    let text = format!("{announced} bytes were announced, {found} are there");
    Err(io::Error::new(io::ErrorKind::InvalidData, text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::kind::ErrorKind;

    #[test]
    fn only_plain_names_stay_inside() {
        for name in ["a", "a/b", "..a", "a..", ".hidden", "a b", "ü/…"] {
            check_name(name).unwrap();
            check_dir(name).unwrap();
        }
        for name in ["/", "/a", "a/", "a//b", ".", "..", "./a", "a/.", "a/../b", "../a", "a/..", "a\0"] {
            for error in [check_name(name).unwrap_err(), check_dir(name).unwrap_err()] {
                assert!(
                    matches!(error.kind(), ErrorKind::Storage(StorageError::LeadsOut { .. })),
                    "{name:?} gave {error:?}"
                );
            }
        }
        assert!(check_name("").is_err() && check_dir("").is_ok());
    }

    #[test]
    fn a_full_disk_and_a_spent_quota_are_told_apart_from_other_failures() {
        let error = |kind: io::ErrorKind| no_room(Path::new("f"), 7, || 5, kind.into());
        let full = error(io::ErrorKind::StorageFull);
        assert!(matches!(full.kind(), ErrorKind::Storage(StorageError::DiskFull { needed: 7, free: 5, .. })));
        assert_eq!(full.advice(), None);
        let spent = no_room(Path::new("f"), 7, || 9, io::ErrorKind::StorageFull.into());
        assert!(matches!(spent.kind(), ErrorKind::Storage(StorageError::Write { .. })));
        assert!(spent.advice().unwrap().contains("inodes"));
        let unknown = cannot_write(Path::new("f"), io::ErrorKind::StorageFull.into());
        assert!(matches!(unknown.kind(), ErrorKind::Storage(StorageError::Write { .. })));
        assert!(unknown.advice().unwrap().contains("`df -i`"));
        assert!(error(io::ErrorKind::FileTooLarge).advice().unwrap().contains("FAT32"));
        let quota = error(io::ErrorKind::QuotaExceeded);
        assert!(matches!(quota.kind(), ErrorKind::Storage(StorageError::Write { .. })));
        assert!(quota.advice().unwrap().contains("quota"));
        assert!(matches!(
            error(io::ErrorKind::PermissionDenied).kind(),
            ErrorKind::Storage(StorageError::Write { .. })
        ));
    }

    #[test]
    fn a_failed_write_loses_the_length() {
        let mut length = Length::new(4);
        length.extend(2, |at| (at == 0).then_some(()).ok_or(io::ErrorKind::Other.into())).unwrap();
        assert_eq!(length.missing(), 2);
        length.extend(3, |_| panic!("too many bytes reach no file")).unwrap_err();
        length.extend(2, |_| panic!("nothing is written after an error")).unwrap_err();
        assert!(length.check_whole().is_err());
    }
}
