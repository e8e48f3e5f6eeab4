//! Staged in `OUTPUT.partial` beside the output and renamed when whole: whoever sees the output sees all of it.

use crate::cancel::Cancel;
use crate::error::output::OutputError;
use crate::error::{Error, Result};
use crate::publish::into_place;
use crate::publish::way::{Publish, State};
use crate::storage::location::Location;
use crate::storage::store::{DirRename, Store};

/// The rename of a directory.
pub(crate) struct Rename;

/// Where results are staged beside `output`.
pub(crate) fn staged_beside(output: &Location) -> Option<Location> {
    output.beside(&format!("{}.partial", output.name()?))
}

impl Publish for Rename {
    fn staging(&self, output: &Location, state: State) -> Option<Location> {
        (state != State::EmptyVolume && has_room_beside(output)).then(|| staged_beside(output)).flatten()
    }

    fn publish(&self, staging: &Location, output: &Location, cancel: &Cancel) -> Result<()> {
        match staging.move_to(output)? {
            DirRename::Done => output.parent().map_or(Ok(()), |parent| parent.sync("")),
            DirRename::Taken => Err(Error::new(OutputError::OutputHolds { path: output.path() })),
            // A mount point that did not look like one, or a store that renames no directories.
            DirRename::Unsupported => into_place::move_all_from_beside(staging, output, cancel),
        }
    }
}

/// Whether a new name can be made beside `output`: it is no mount point, and its directory can be written to.
fn has_room_beside(output: &Location) -> bool {
    !output.is_mount_point("") && output.parent().is_some_and(|parent| parent.is_writable(""))
}
