//! Finds the dialect of an adapter and opens it by that. What no dialect reads is refused by the name of its format, if that
//! is known ([`foreign`]).

use crate::error::Result;
use crate::hub::resolved::Resolved;
use crate::storage::location::Location;

use crate::adapters::adapter::Adapter;
use crate::adapters::dialect::{Detection, Dialect, Opening, TrainedOn};
use crate::adapters::foreign::foreign;
use crate::adapters::peft::folder::{Peft, not_found};

/// Every dialect. Of those that are equally sure the first is asked to read.
pub(crate) static DIALECTS: &[&dyn Dialect] = &[&Peft];

/// The dialect that reads what `dir` holds, and how sure it is.
///
/// # Errors
/// As [`Dialect::detect`].
pub(crate) fn detect(dir: &Location) -> Result<Option<(&'static dyn Dialect, Detection)>> {
    let mut likely = None;
    for &dialect in DIALECTS {
        match dialect.detect(dir)? {
            Detection::Certain => return Ok(Some((dialect, Detection::Certain))),
            Detection::Likely => likely = likely.or(Some((dialect, Detection::Likely))),
            Detection::No => {}
        }
    }
    Ok(likely)
}

/// Opens the adapter in `place`, whatever its format.
///
/// # Errors
/// [`AdapterError::AdapterFormat`](crate::error::adapter::AdapterError::AdapterFormat) for a format that is known and not read,
/// [`StorageError::Missing`](crate::error::storage::StorageError::Missing) for what is no adapter, or as [`Dialect::open`].
pub(crate) fn open(place: &Resolved, opening: Opening) -> Result<Adapter> {
    let opened = dialect_of(&place.location).and_then(|dialect| dialect.open(place, opening));
    opened.map_err(|error| place.explain(error))
}

/// The base that the adapter in `place` names.
///
/// # Errors
/// As [`open`], as far as that goes.
pub(crate) fn trained_on(place: &Resolved) -> Result<TrainedOn> {
    let found = dialect_of(&place.location).and_then(|dialect| dialect.trained_on(place));
    found.map_err(|error| place.explain(error))
}

fn dialect_of(dir: &Location) -> Result<&'static dyn Dialect> {
    match detect(dir)? {
        Some((dialect, _)) => Ok(dialect),
        None => Err(foreign(dir).unwrap_or_else(|| not_found(dir))),
    }
}
