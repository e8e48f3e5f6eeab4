//! Where the base and the adapters of a merge are, also a base that only an adapter's config names.

use std::path::Path;

use crate::adapters::dialect::TrainedOn;
use crate::adapters::open;
use crate::adapters::open::trained_on;
use crate::cancel::Cancel;
use crate::checkpoint::discover::NO_CHECKPOINT;
use crate::checkpoint::single_file;
use crate::error::checkpoint::CheckpointError;
use crate::error::exit::Code;
use crate::error::kind::ErrorKind;
use crate::error::request::RequestError;
use crate::error::storage::StorageError;
use crate::error::{Error, Result};
use crate::hub::cache::Hub;
use crate::hub::fetching::Watch;
use crate::hub::resolved::Resolved;
use crate::note::Note;
use crate::note::input::InputNote;
use crate::storage::location::Location;
use crate::storage::store::Store;

use crate::merge::request::Request;

/// Where a merge's inputs are.
pub(crate) struct Places {
    /// The base.
    pub(crate) base: Resolved,
    /// The checkpoint beside it, and its variant likewise: the one that the base was quantized from, or a template.
    pub(crate) beside: Option<(Resolved, Option<String>)>,
    /// The variant of the base that its file's name says, where a file was given.
    pub(crate) variant: Option<String>,
    /// The adapters in order.
    pub(crate) adapters: Vec<Resolved>,
    /// Which base was taken, where none was asked for, and what is read from the hub.
    pub(crate) notes: Vec<Note>,
}

impl Places {
    /// Finds all that `request` asks for, by path or by name.
    ///
    /// # Errors
    /// Whatever is not found, all of it together; [`RequestError::NoBase`] for a base that nothing names.
    pub(crate) fn find(request: &Request) -> Result<Places> {
        Places::find_watched(request, &mut |_| {})
    }

    /// The same; `watch` sees what is put into the hub's cache.
    ///
    /// # Errors
    /// As [`find`](Places::find).
    pub(crate) fn find_watched(request: &Request, watch: &mut Watch<'_>) -> Result<Places> {
        let hub = request.hub.clone().stopped_by(&request.cancel);
        let (mut adapters, mut errors) = (Vec::new(), Vec::new());
        let base = request.base.as_ref().map(|base| hub.resolve_watched(base, watch)).transpose();
        let base = base.unwrap_or_else(|error| {
            errors.push(error);
            None
        });
        let beside = request.base16.as_ref().or(request.template.as_ref());
        let beside = beside.map(|beside| hub.resolve_watched(beside, watch)).transpose();
        let beside = beside.unwrap_or_else(|error| {
            errors.push(error);
            None
        });
        for (origin, _) in &request.adapters {
            match hub.resolve_watched(origin, watch).and_then(open::directory_of) {
                Ok(place) => adapters.push(place),
                Err(error) => errors.push(error),
            }
        }
        Error::all(errors)?;
        let (base, variant, note) = match base {
            Some(base) => {
                let found = single_file::directory_of(base.clone());
                let (base, variant) = found.map_err(|error| explained(&base, &adapters, error))?;
                (base, variant, None)
            }
            None => {
                let (base, note) = base_of(&hub, adapters.first(), watch)?;
                (base, None, Some(note))
            }
        };
        let from_hub = [&base].into_iter().chain(&adapters).filter_map(Resolved::on_hub);
        let from_hub = from_hub.map(|what| InputNote::ReadFromHub { what }.into());
        let notes = note.into_iter().chain(from_hub).collect();
        let beside = beside.map(single_file::directory_of).transpose()?;
        Ok(Places { base, beside, variant, adapters, notes })
    }

    /// The same, whose files stop being read once `cancel` says so.
    pub(crate) fn stopped_by(self, cancel: &Cancel) -> Places {
        let stopped = |place: Resolved| Resolved { location: place.location.stopped_by(cancel), ..place };
        Places {
            base: stopped(self.base),
            beside: self.beside.map(|(place, variant)| (stopped(place), variant)),
            variant: self.variant,
            adapters: self.adapters.into_iter().map(stopped).collect(),
            notes: self.notes,
        }
    }
}

/// Why there is no checkpoint in `place`: perhaps it is an adapter, and stands where the base should.
pub(crate) fn explained(place: &Resolved, adapters: &[Resolved], error: Error) -> Error {
    let holds_none = matches!(
        error.kind(),
        ErrorKind::Storage(StorageError::Missing { what: NO_CHECKPOINT, .. })
            | ErrorKind::Checkpoint(CheckpointError::SingleFile { .. })
    );
    if holds_none { open::as_base(place, adapters, error) } else { error }
}

/// The base that an adapter's config names, and a note that it was taken.
fn base_of(hub: &Hub, adapter: Option<&Resolved>, watch: &mut Watch<'_>) -> Result<(Resolved, Note)> {
    let Some(adapter) = adapter else {
        return Err(RequestError::Required { flag: "--base <DIR|NAME>" }.into());
    };
    let TrainedOn { adapter, base, revision } = trained_on(adapter)?;
    let Some(base) = base else {
        return Err(RequestError::NoBase { adapter }.into());
    };
    let is_path = Location::of_path(&base).stat("")?.is_some();
    let named = match revision.filter(|_| !is_path) {
        Some(revision) => format!("{base}@{revision}"),
        None => base.clone(),
    };
    let place = hub.find_watched(Path::new(&named), watch).and_then(|place| {
        if place.location.is_directory()? {
            return Ok(place);
        }
        Err(StorageError::Missing { what: "directory", path: named.clone().into() }.into())
    });
    match place {
        Ok(place) => {
            let found = match &place.snapshot {
                Some(snapshot) => format!("{base}@{}", snapshot.commit),
                None => named,
            };
            Ok((place, InputNote::BaseFromAdapter { base: found, adapter }.into()))
        }
        Err(error) if error.exit_code() == Code::NoInput => {
            let by_flag = "name it with `--base`";
            let hint = error.advice().map_or(by_flag.to_owned(), |hint| format!("{hint}; or {by_flag}"));
            let uncached = RequestError::BaseNotCached { adapter, base: named };
            Err(Error::new(uncached).because(error).hint(hint))
        }
        Err(error) => Err(error),
    }
}
