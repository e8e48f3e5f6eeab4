//! Staged in `OUTPUT.partial` beside the output and renamed when whole: whoever sees the output sees all of it.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::kind::ErrorKind;
use crate::error::{Error, Result};
use crate::storage::files::{rename_no_replace, sync_folder};
use crate::storage::list::{State, state};

use crate::publish::{Publish, has_room_beside, into_place};

/// The rename of a folder.
pub(crate) struct Rename;

impl Publish for Rename {
    fn staging(&self, output: &Path, _: State) -> Option<PathBuf> {
        let mut name = OsString::from(output.file_name()?);
        name.push(".partial");
        has_room_beside(output).then(|| output.with_file_name(name))
    }

    fn publish(&self, staging: &Path, output: &Path) -> Result<()> {
        let renamed = match state(output)? {
            // An empty folder is replaced in one step; a folder that is not empty is not, and the rename says so.
            State::EmptyFolder => std::fs::rename(staging, output),
            _ => rename_no_replace(staging, output),
        };
        match renamed {
            Ok(()) => {}
            Err(cause)
                if matches!(
                    cause.kind(),
                    io::ErrorKind::AlreadyExists | io::ErrorKind::DirectoryNotEmpty
                ) =>
            {
                return Err(Error::new(ErrorKind::OutputHolds { path: output.to_owned() }).because(cause));
            }
            // A mount point that did not look like one, or a file system that renames no folders.
            Err(_) => return into_place::move_all(staging, output),
        }
        let parent = output.parent().unwrap_or(output);
        sync_folder(parent)
            .map_err(|cause| Error::new(ErrorKind::Write { path: parent.to_owned() }).because(cause))
    }
}
