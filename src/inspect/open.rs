//! What a directory holds: a checkpoint or an adapter, by its content.

use std::path::Path;

use serde::Serialize;

use crate::adapters::adapter_weight::AdapterWeight;
use crate::adapters::dialect::{Detection, Opening};
use crate::adapters::foreign::{Foreign, foreign};
use crate::adapters::{open, unmerged};
use crate::cancel::Cancel;
use crate::checkpoint::diffusers::is_pipeline;
use crate::checkpoint::discover::Checkpoint;
use crate::checkpoint::header_room::HeaderRoom;
use crate::checkpoint::single_file;
use crate::error::kind::ErrorKind;
use crate::error::storage::StorageError;
use crate::error::{Error, Result};
use crate::hub::resolved::Resolved;
use crate::note::Note;
use crate::note::input::InputNote;
use crate::storage::location::Location;
use crate::tensor::reference::FileId;

use crate::inspect::adapter::AdapterReport;
use crate::inspect::checkpoint::CheckpointReport;

/// How names of files end that hold a model's weights, or say where they are.
const WEIGHTS: &[&str] = &[".safetensors", ".safetensors.index.json", ".bin", ".gguf"];

/// What a directory holds.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "what", rename_all = "lowercase")]
pub enum Inspected {
    /// A checkpoint.
    Checkpoint(Box<CheckpointReport>),
    /// An adapter.
    Adapter(Box<AdapterReport>),
}

impl Inspected {
    /// Things worth saying that are no part of the report.
    pub fn notes(&self) -> &[Note] {
        match self {
            Inspected::Checkpoint(report) => &report.notes,
            Inspected::Adapter(report) => &report.notes,
        }
    }
}

/// Reads the directory `place`: headers and configs of a checkpoint (of its weights' `variant`), all of an adapter.
///
/// # Errors
/// [`StorageError::Missing`] if it holds neither, `AdapterError::AdapterFormat` for an adapter of another format, or as
/// opening a base or an adapter for a merge; [`ErrorKind::Stopped`] when it is cancelled.
pub fn inspect(place: &Resolved, variant: Option<&str>, cancel: &Cancel) -> Result<Inspected> {
    let place = &open::directory_of(place.clone())?;
    if place.names_file()? && open::detect(&place.location)?.is_some() {
        return read(place, variant, cancel);
    }
    let refused = |error| foreign(&place.location).map_or(error, Foreign::refused);
    let (place, of_file) = single_file::directory_of(place.clone()).map_err(refused)?;
    let (place, variant) = (&place, variant.or(of_file.as_deref()));
    read(place, variant, cancel).map_err(|error| match error.kind() {
        ErrorKind::Storage(StorageError::Missing { .. }) => {
            foreign(&place.location).map_or(error, Foreign::refused)
        }
        _ => error,
    })
}

/// Whether `place` is an adapter, and no checkpoint.
///
/// # Errors
/// [`StorageError::Missing`] if it is neither; as looking at it.
pub(crate) fn is_adapter(place: &Resolved) -> Result<bool> {
    let place = open::directory_of(place.clone())?;
    if place.names_file()? {
        return Ok(open::detect(&place.location)?.is_some());
    }
    holds_adapter(&place.location).map_err(|error| place.explain(error))
}

fn read(place: &Resolved, variant: Option<&str>, cancel: &Cancel) -> Result<Inspected> {
    let location = &place.location;
    if !holds_adapter(location).map_err(|error| place.explain(error))? {
        let checkpoint = Checkpoint::open(place, variant, &HeaderRoom::of(None))?;
        let own = checkpoint.catalogue.own_name();
        let name = own.or_else(|| place.label()).unwrap_or_else(|| name_of(&location.path()));
        let report = CheckpointReport::new(checkpoint, name);
        return Ok(Inspected::Checkpoint(Box::new(report)));
    }
    let opening = Opening { weight: &AdapterWeight::ONE, file: FileId(0), room: &HeaderRoom::of(None) };
    let adapter = open::open(place, opening)?;
    let mut report = AdapterReport::new(&adapter, cancel)?;
    let unmerged = unmerged::beside(&adapter, None, &[])?.open;
    report.notes.extend(unmerged.into_iter().map(|file| Note::from(InputNote::UnmergedBeside { file })));
    if !adapter.stands_alone && adapter.location.path() != location.path() {
        let location = adapter.location.to_string();
        report.notes.push(InputNote::AdapterFoundIn { location }.into());
    }
    Ok(Inspected::Adapter(Box::new(report)))
}

/// The last name of a path, also of one like `.`.
fn name_of(path: &Path) -> String {
    let resolved = Location::of_resolved_path(path).path();
    let name = path.file_name().or_else(|| resolved.file_name());
    name.map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}

/// Whether `dir` is to be read as an adapter; if not, as a checkpoint.
fn holds_adapter(dir: &Location) -> Result<bool> {
    let detected = open::detect(dir)?.map(|(_, detected)| detected);
    if detected == Some(Detection::Certain) {
        return Ok(true);
    }
    let found = dir.files(&|_| true).map_err(|error| error.hint(EXPECTED))?;
    let is_weight =
        |name: &str| !name.starts_with("adapter_") && WEIGHTS.iter().any(|end| name.ends_with(end));
    if found.iter().any(|file| is_weight(&file.name)) {
        return Ok(false);
    }
    if detected == Some(Detection::Likely) {
        return Ok(true);
    }
    if is_pipeline(dir)? {
        return Ok(false);
    }
    let kind = StorageError::Missing { what: "checkpoint or adapter", path: dir.path() };
    Err(Error::new(kind).hint(EXPECTED))
}

const EXPECTED: &str = "a checkpoint is a directory with `model.safetensors` (`diffusion_pytorch_model.safetensors`), or with \
                        shards and `model.safetensors.index.json`; an adapter is one with `adapter_config.json` and \
                        `adapter_model.safetensors`";
