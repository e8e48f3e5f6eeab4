//! [`Publish`]: one way of making a staged result visible, chosen by what is at the output.

use crate::cancel::Cancel;
use crate::error::Result;
use crate::note::Note;
use crate::publish::probe::{Ability, is_probe, probe_store};
use crate::storage::location::Location;
use crate::storage::rules::FOREIGN;
use crate::storage::store::{Entry, EntryKind, Store};

/// One way of making a staged result visible.
pub(crate) trait Publish: Sync {
    /// Where the result for `output` is staged, if this way serves for it.
    fn staging(&self, output: &Location, state: State) -> Option<Location>;

    /// Tries all that this way does where `staging` is, for `output`.
    ///
    /// # Errors
    /// What goes wrong, and is not that a call is refused.
    fn probe(&self, staging: &Location, output: &Location) -> Result<Ability> {
        probe_store(&staging.parent().unwrap_or_else(|| staging.clone()), output)
    }

    /// Whether the result is made where it will be, so that its journal must lie elsewhere.
    fn is_in_place(&self) -> bool {
        false
    }

    /// What files are written to that go to `staging`.
    fn store(&self, staging: &Location) -> Location {
        staging.clone()
    }

    /// What should be known of this way.
    fn note(&self, output: &Location) -> Option<Note> {
        let _ = output;
        None
    }

    /// Makes what is staged in `staging` visible as `output`, so that a power cut cannot undo it. `cancel` stops what may take long.
    ///
    /// # Errors
    /// [`OutputError::OutputHolds`](crate::error::output::OutputError::OutputHolds) if something appeared there,
    /// [`StorageError::Write`](crate::error::storage::StorageError::Write);
    /// [`ErrorKind::Stopped`](crate::error::kind::ErrorKind::Stopped). What is staged stays.
    fn publish(&self, staging: &Location, output: &Location, cancel: &Cancel) -> Result<()>;
}

/// The directory inside an output in which results are staged there.
pub(crate) const STAGED_IN: &str = ".shardfold.partial";

/// Whether a name is that of a directory inside an output in which a run stages, or staged before it was cut off, that shared it
/// with no other.
pub(crate) fn is_unshared(name: &str) -> bool {
    name.strip_prefix(STAGED_IN).is_some_and(|rest| rest.starts_with('-'))
}

/// What is at a location.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Nothing.
    Absent,
    /// A directory with nothing in it.
    EmptyDir,
    /// A directory with nothing in it but what a file system keeps for itself, as the root of a volume, or what a try or a run left
    /// that nobody goes on with.
    EmptyVolume,
    /// A directory with something in it.
    Dir,
    /// Something that is no directory.
    Other,
}

impl State {
    /// What is at `location` now.
    ///
    /// # Errors
    /// As [`Store::stat`] and [`Store::list`].
    pub(crate) fn of(location: &Location) -> Result<State> {
        match location.stat("")?.map(|stat| stat.kind) {
            None => return Ok(State::Absent),
            Some(EntryKind::Dir) => {}
            Some(_) => return Ok(State::Other),
        }
        let entries = location.list("")?;
        let is_foreign = |entry: &Entry| {
            FOREIGN.contains(&entry.name.as_str()) || is_probe(&entry.name) || is_unshared(&entry.name)
        };
        Ok(if entries.is_empty() {
            State::EmptyDir
        } else if entries.iter().all(is_foreign) {
            State::EmptyVolume
        } else {
            State::Dir
        })
    }
}
