//! Where the base and the adapters of a merge are, also a base that only an adapter's config names.

use std::path::Path;

use crate::adapters::dialect::TrainedOn;
use crate::adapters::open::trained_on;
use crate::cancel::Cancel;
use crate::error::exit::Code;
use crate::error::request::RequestError;
use crate::error::storage::StorageError;
use crate::error::{Error, Result};
use crate::hub::cache::Hub;
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
    /// The adapters in order.
    pub(crate) adapters: Vec<Resolved>,
    /// Which base was taken, where none was asked for.
    pub(crate) note: Option<Note>,
}

impl Places {
    /// Finds all that `request` asks for, by path or by name.
    ///
    /// # Errors
    /// Whatever is not found, all of it together; [`RequestError::NoBase`] for a base that nothing names.
    pub(crate) fn find(request: &Request) -> Result<Places> {
        let (mut adapters, mut errors) = (Vec::new(), Vec::new());
        let base = request.base.as_ref().map(|base| request.hub.resolve(base)).transpose();
        let base = base.unwrap_or_else(|error| {
            errors.push(error);
            None
        });
        for (origin, _) in &request.adapters {
            match request.hub.resolve(origin) {
                Ok(place) => adapters.push(place),
                Err(error) => errors.push(error),
            }
        }
        Error::all(errors)?;
        match base {
            Some(base) => Ok(Places { base, adapters, note: None }),
            None => {
                let (base, note) = base_of(&request.hub, adapters.first())?;
                Ok(Places { base, adapters, note: Some(note) })
            }
        }
    }

    /// The same, whose files stop being read once `cancel` says so.
    pub(crate) fn stopped_by(self, cancel: &Cancel) -> Places {
        let stopped = |place: Resolved| Resolved { location: place.location.stopped_by(cancel), ..place };
        Places {
            base: stopped(self.base),
            adapters: self.adapters.into_iter().map(stopped).collect(),
            note: self.note,
        }
    }
}

/// The base that an adapter's config names, and a note that it was taken.
fn base_of(hub: &Hub, adapter: Option<&Resolved>) -> Result<(Resolved, Note)> {
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
    let place = hub.find(Path::new(&named)).and_then(|place| {
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
