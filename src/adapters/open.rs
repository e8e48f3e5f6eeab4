//! Finds the dialect of an adapter and opens it by that. What no dialect reads is refused by the name of its format, if that
//! is known ([`foreign`]).

use crate::error::adapter::AdapterError;
use crate::error::{Error, Result};
use crate::hub::resolved::Resolved;
use crate::storage::location::Location;

use crate::adapters::adapter::Adapter;
use crate::adapters::dialect::{Detection, Dialect, Opening, TrainedOn};
use crate::adapters::foreign::{Foreign, foreign, foreign_file};
use crate::adapters::gguf_lora::GgufLora;
use crate::adapters::image::file::ImageFile;
use crate::adapters::lone_file::check_header;
use crate::adapters::mlx_lm::MlxLm;
use crate::adapters::own_model::mistral::MistralFinetune;
use crate::adapters::own_model::torchtune::Torchtune;
use crate::adapters::peft::folder::{Peft, not_found};

/// Every dialect. Of those that are equally sure the first is asked to read: torchtune's own file before its export to PEFT.
pub(crate) static DIALECTS: &[&dyn Dialect] =
    &[&Torchtune, &Peft, &MlxLm, &GgufLora, &MistralFinetune, &ImageFile];

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

/// Whether tensors of an adapter in a file of that name are those of all of `dir`. Of one that cannot be read they are not.
pub(crate) fn has_directory(dir: &Location, file: &str) -> bool {
    let mut own = DIALECTS.iter().filter(|dialect| dialect.has(file));
    own.any(|dialect| dialect.detect(dir).is_ok_and(|found| found == Detection::Certain))
}

/// The directory of the adapter that a file of it is; what is no file, or another's, as it is. People give any file the name that a
/// trainer gives its own, so that what is one by itself stays one.
///
/// # Errors
/// As [`Resolved::names_file`] and [`detect`].
pub(crate) fn directory_of(place: Resolved) -> Result<Resolved> {
    let is_called =
        place.location.name().is_some_and(|file| DIALECTS.iter().any(|dialect| dialect.has(file)));
    if !is_called || !place.names_file()? {
        return Ok(place);
    }
    let is_certain = matches!(detect(&place.location)?, Some((_, Detection::Certain)));
    Ok(if is_certain { place } else { place.directory() })
}

/// The refusal of an adapter that is given as a base: `error` is why it is none. `others` are those given as adapters.
pub(crate) fn as_base(place: &Resolved, others: &[Resolved], error: Error) -> Error {
    let location = &place.location;
    let is_ours = is_adapter(place);
    let found = if is_ours { None } else { foreign(location) };
    if !is_ours && found.is_none() {
        return error;
    }
    let (mut adapters, bases): (Vec<&Resolved>, Vec<&Resolved>) =
        others.iter().partition(|other| is_adapter(other) || foreign(&other.location).is_some());
    if adapters.iter().all(|adapter| adapter.location.path() != location.path()) {
        adapters.insert(0, place);
    }
    let swapped = bases.first().map(|base| base.location.to_string());
    let named = || trained_on(place).ok().and_then(|trained_on| trained_on.base);
    let base = swapped.or_else(named).unwrap_or_else(|| "BASE".to_owned());
    let adapters: Vec<String> =
        adapters.into_iter().map(|place| format!("--adapter {}", place.location)).collect();
    let format = found.map(|found| found.format());
    Error::new(AdapterError::NotABase { path: location.path(), format }).hint(format!(
        "`--base` is the model that adapters are merged into; of several adapters each is named for itself: `--base {base} {}`",
        adapters.join(" ")
    ))
}

fn is_adapter(place: &Resolved) -> bool {
    detect(&place.location).is_ok_and(|found| found.is_some())
}

/// Opens the adapter in `place`, whatever its format.
///
/// # Errors
/// [`AdapterError::AdapterFormat`](crate::error::adapter::AdapterError::AdapterFormat) for a format that is known and not read,
/// [`StorageError::Missing`](crate::error::storage::StorageError::Missing) for what is no adapter, or as [`Dialect::open`].
pub(crate) fn open(place: &Resolved, opening: Opening<'_>) -> Result<Adapter> {
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
        None => {
            // Of a directory that would be one of ours the config is missing.
            let lacks_config = |foreign: &Foreign| {
                !foreign.is_of_another() && DIALECTS.iter().any(|dialect| dialect.has(foreign.file_name()))
            };
            let foreign = foreign_file(dir).filter(|foreign| !lacks_config(foreign));
            let Some(foreign) = foreign else {
                check_header(dir)?;
                return Err(not_found(dir));
            };
            Err(foreign.refused())
        }
    }
}
