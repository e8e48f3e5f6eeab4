//! What is in a folder, and its small files as a whole.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::error::kind::ErrorKind;
use crate::error::{Error, Result};

/// Folders deeper than this are not looked into; checkpoints have one or two levels.
const DEEPEST: usize = 4;

/// A regular file below a folder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Found {
    /// Path from the folder, with `/` between names.
    pub name: String,
    /// Length in bytes.
    pub bytes: u64,
}

/// Every regular file below `folder` in the order of names, symlinks followed. Folders for which `skip` says so (it gets
/// the name) are left out, as are names that are not UTF-8.
///
/// # Errors
/// [`ErrorKind::Missing`] if there is no such folder, else [`ErrorKind::Read`].
pub fn list(folder: &Path, skip: &dyn Fn(&str) -> bool) -> Result<Vec<Found>> {
    if !folder.is_dir() {
        return Err(ErrorKind::Missing { what: "directory", path: folder.to_owned() }.into());
    }
    let mut found = Vec::new();
    descend(folder, "", DEEPEST, skip, &mut found)?;
    found.sort();
    Ok(found)
}

fn descend(
    folder: &Path,
    prefix: &str,
    depth: usize,
    skip: &dyn Fn(&str) -> bool,
    found: &mut Vec<Found>,
) -> Result<()> {
    let failed = |cause| Error::new(ErrorKind::Read { path: folder.to_owned(), offset: 0 }).because(cause);
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        // A link whose target is gone is no file of the checkpoint.
        let Ok(metadata) = fs::metadata(entry.path()) else { continue };
        if metadata.is_dir() && depth > 1 && !skip(&name) {
            descend(&entry.path(), &format!("{prefix}{name}/"), depth - 1, skip, found)?;
        } else if metadata.is_file() {
            found.push(Found { name: format!("{prefix}{name}"), bytes: metadata.len() });
        }
    }
    Ok(())
}

/// The names of the folders directly in `folder`, in order.
///
/// # Errors
/// [`ErrorKind::Read`].
pub(crate) fn subfolders(folder: &Path) -> Result<Vec<String>> {
    let failed = |cause| Error::new(ErrorKind::Read { path: folder.to_owned(), offset: 0 }).because(cause);
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.path().is_dir() {
            names.extend(entry.file_name().into_string());
        }
    }
    names.sort();
    Ok(names)
}

/// All of a file that is expected to be small; `None` if there is no such file.
///
/// # Errors
/// [`ErrorKind::Read`], also when it is longer than `most` bytes.
pub(crate) fn read_small(path: &Path, most: u64) -> Result<Option<Vec<u8>>> {
    let failed = |cause: std::io::Error| {
        Error::new(ErrorKind::Read { path: path.to_owned(), offset: 0 }).because(cause)
    };
    match fs::metadata(path) {
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(cause) => return Err(failed(cause)),
        Ok(metadata) if !metadata.is_file() => return Ok(None),
        Ok(_) => {}
    }
    let mut bytes = Vec::new();
    File::open(path).map_err(failed)?.take(most + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > most {
        return Err(failed(std::io::Error::other(format!(
            "it is longer than the {most} bytes accepted for such a file"
        ))));
    }
    Ok(Some(bytes))
}

/// What `path` is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Nothing is there.
    Absent,
    /// A folder with nothing in it.
    EmptyFolder,
    /// A folder with something in it.
    Folder,
    /// Something that is no folder.
    Other,
}

/// What `path` is now.
///
/// # Errors
/// [`ErrorKind::Read`] when it cannot be looked at.
pub(crate) fn state(path: &Path) -> Result<State> {
    let failed = |cause| Error::new(ErrorKind::Read { path: path.to_owned(), offset: 0 }).because(cause);
    match fs::metadata(path) {
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => Ok(State::Absent),
        Err(cause) => Err(failed(cause)),
        Ok(metadata) if !metadata.is_dir() => Ok(State::Other),
        Ok(_) if fs::read_dir(path).map_err(failed)?.next().is_none() => Ok(State::EmptyFolder),
        Ok(_) => Ok(State::Folder),
    }
}

/// `path` with symlinks resolved, or as it is when that fails.
pub(crate) fn resolved(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}
