//! Finds the dialect of an adapter and opens it by that. What no dialect reads is refused by the name of its format, if that
//! is known ([`foreign`]).

use std::path::Path;

use crate::error::Result;
use crate::hub::Place;

use crate::adapters::adapter::Adapter;
use crate::adapters::dialect::{Detected, Dialect, Opening, TrainedOn};
use crate::adapters::foreign::foreign;
use crate::adapters::peft::folder::{Peft, not_found};

/// Every dialect. Of those that are equally sure the first is asked to read.
pub(crate) static DIALECTS: &[&dyn Dialect] = &[&Peft];

/// The dialect that reads what is at `path`, and how sure it is.
///
/// # Errors
/// As [`Dialect::detect`].
pub(crate) fn detect(path: &Path) -> Result<Option<(&'static dyn Dialect, Detected)>> {
    let mut likely = None;
    for &dialect in DIALECTS {
        match dialect.detect(path)? {
            Detected::Certain => return Ok(Some((dialect, Detected::Certain))),
            Detected::Likely => likely = likely.or(Some((dialect, Detected::Likely))),
            Detected::No => {}
        }
    }
    Ok(likely)
}

/// Opens the adapter in `place`, whatever its format.
///
/// # Errors
/// [`ErrorKind::AdapterFormat`](crate::error::kind::ErrorKind::AdapterFormat) for a format that is known and not read,
/// [`ErrorKind::Missing`](crate::error::kind::ErrorKind::Missing) for what is no adapter, or as [`Dialect::open`].
pub(crate) fn open(place: &Place, opening: Opening) -> Result<Adapter> {
    let opened = dialect_of(&place.path).and_then(|dialect| dialect.open(place, opening));
    opened.map_err(|error| place.explain(error))
}

/// The base that the adapter in `place` names.
///
/// # Errors
/// As [`open`], as far as that goes.
pub(crate) fn trained_on(place: &Place) -> Result<TrainedOn> {
    let found = dialect_of(&place.path).and_then(|dialect| dialect.trained_on(place));
    found.map_err(|error| place.explain(error))
}

fn dialect_of(path: &Path) -> Result<&'static dyn Dialect> {
    match detect(path)? {
        Some((dialect, _)) => Ok(dialect),
        None => Err(foreign(path).unwrap_or_else(|| not_found(path))),
    }
}
