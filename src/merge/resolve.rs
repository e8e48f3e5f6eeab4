//! Where the base and the adapters of a merge are, also a base that only an adapter's config names.

use std::path::Path;

use crate::adapters::dialect::TrainedOn;
use crate::adapters::open::trained_on;
use crate::error::kind::ErrorKind;
use crate::error::{Error, Result};
use crate::hub::{Hub, Place};

use crate::merge::Request;

/// Where a merge's inputs are.
pub(crate) struct Places {
    /// The base.
    pub(crate) base: Place,
    /// The adapters in order.
    pub(crate) adapters: Vec<Place>,
    /// Which base was taken, where none was asked for.
    pub(crate) notice: Option<String>,
}

impl Places {
    /// Finds all that `request` asks for, by path or by name.
    ///
    /// # Errors
    /// Whatever is not found, all of it together; [`ErrorKind::Usage`] for a base that nothing names.
    pub(crate) fn find(request: &Request) -> Result<Places> {
        let (mut adapters, mut errors) = (Vec::new(), Vec::new());
        let base = request.base.as_deref().map(|base| request.hub.find(base)).transpose();
        let base = base.unwrap_or_else(|error| {
            errors.push(error);
            None
        });
        for (path, _) in &request.adapters {
            match request.hub.find(path) {
                Ok(place) => adapters.push(place),
                Err(error) => errors.push(error),
            }
        }
        Error::all(errors)?;
        match base {
            Some(base) => Ok(Places { base, adapters, notice: None }),
            None => {
                let (base, notice) = base_of(&request.hub, adapters.first())?;
                Ok(Places { base, adapters, notice: Some(notice) })
            }
        }
    }
}

/// The base that an adapter's config names, and a notice that it was taken.
fn base_of(hub: &Hub, adapter: Option<&Place>) -> Result<(Place, String)> {
    let needed = |accepted: String| {
        Error::new(ErrorKind::Usage { flag: "--base".to_owned(), value: String::new(), accepted })
    };
    let Some(adapter) = adapter else {
        return Err(needed("a checkpoint to merge into is needed".to_owned()));
    };
    let TrainedOn { adapter, base, revision } = trained_on(adapter)?;
    let Some(base) = base else {
        return Err(needed(format!("it is needed, since the config of adapter `{adapter}` names no base")));
    };
    let named = match revision.filter(|_| !Path::new(&base).exists()) {
        Some(revision) => format!("{base}@{revision}"),
        None => base,
    };
    let place = hub.find(Path::new(&named)).and_then(|place| match place.path.is_dir() {
        true => Ok(place),
        false => Err(ErrorKind::Missing { what: "folder", path: named.clone().into() }.into()),
    });
    match place {
        Ok(place) => {
            let at = match &place.snapshot {
                Some(snapshot) => format!(", commit `{}` in the Hugging Face cache", snapshot.commit),
                None => String::new(),
            };
            let notice = format!("the base is `{named}`{at}, as the config of adapter `{adapter}` says");
            Ok((place, notice))
        }
        Err(error) if matches!(error.kind(), ErrorKind::Missing { .. }) => {
            let by_flag = "`--base` says where it is";
            let hint = error.advice().map_or(by_flag.to_owned(), |hint| format!("{hint}; or {by_flag}"));
            let accepted =
                format!("it is needed, since the base `{named}` of adapter `{adapter}` was not found");
            Err(needed(accepted).because(error).hint(hint))
        }
        Err(error) => Err(error),
    }
}
