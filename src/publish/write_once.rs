//! Written in place: every file once, under its own name, for a store that renames nothing, as a mounted bucket does.
//!
//! Nothing is staged, so that a run which is cut off leaves an output without its record: the index and the config come late,
//! and the record last of all. The journal lies elsewhere, in the directory for the state of programs, by the name of the output.

use crate::cancel::Cancel;
use crate::error::Result;
use crate::note::Note;
use crate::note::run::RunNote;
use crate::publish::probe::{Ability, clear_probes, probe_once};
use crate::publish::way::{Publish, State};
use crate::storage::location::Location;
use crate::storage::once::Once;

/// The writing in place.
pub(crate) struct WriteOnce;

/// Where the journal of `output` lies below the directory `state`.
pub(crate) fn journal_of(output: &Location, state: &Location) -> Location {
    let name = blake3::hash(output.path().as_os_str().as_encoded_bytes()).to_hex();
    state.join(&name[..32])
}

impl Publish for WriteOnce {
    fn staging(&self, output: &Location, state: State) -> Option<Location> {
        let is_free = matches!(state, State::Absent | State::EmptyDir | State::EmptyVolume);
        is_free.then(|| output.clone())
    }

    fn probe(&self, staging: &Location, output: &Location) -> Result<Ability> {
        probe_once(staging, output)
    }

    fn is_in_place(&self) -> bool {
        true
    }

    fn store(&self, staging: &Location) -> Location {
        Location::new(Once::new(staging.clone()))
    }

    fn note(&self, output: &Location) -> Option<Note> {
        Some(RunNote::WrittenInPlace { output: output.to_string() }.into())
    }

    fn publish(&self, _staging: &Location, output: &Location, _cancel: &Cancel) -> Result<()> {
        // The record, which was the last to be written, shows that it is whole.
        clear_probes(output)
    }
}
