//! A pipeline of diffusers given where one checkpoint is meant: which of its directories hold weights.
//!
//! A pipeline is a folder with `model_index.json`, and a folder for each component (`unet`, `text_encoder`, `vae`). An
//! adapter is for one of them, and so is a merge.

use serde_json::Value;

use crate::error::checkpoint::CheckpointError;
use crate::error::kind::ErrorKind;
use crate::error::storage::StorageError;
use crate::error::{Error, Result};
use crate::formats::json::parse_json_strict;
use crate::hub::resolved::Resolved;
use crate::storage::location::Location;
use crate::storage::store::Store;

use crate::checkpoint::weights_name::WeightsName;

/// The file that makes a directory a pipeline.
pub(crate) const PIPELINE: &str = "model_index.json";
const MOST_PIPELINE_BYTES: u64 = 1 << 20;
/// Components that adapters are for, if a pipeline has them.
const ADAPTED: &[&str] = &["transformer", "unet"];

/// Whether a directory is a pipeline.
///
/// # Errors
/// As [`Store::stat`](crate::storage::store::Store::stat).
pub(crate) fn is_pipeline(dir: &Location) -> Result<bool> {
    dir.has_file(PIPELINE)
}

/// The directories of a pipeline's components that have weights, in the order of their names; none for a directory that is none, or has
/// weights of its own.
///
/// # Errors
/// [`CheckpointError::Json`] for a `model_index.json` that cannot be read; as [`Store::list`](crate::storage::store::Store::list).
pub(crate) fn components(dir: &Location) -> Result<Vec<String>> {
    if !dir.is_directory()? || !is_pipeline(dir)? || holds_weights(dir) {
        return Ok(Vec::new());
    }
    let bytes = dir.read_small(PIPELINE, MOST_PIPELINE_BYTES)?.unwrap_or_default();
    let path = || dir.path_of(PIPELINE);
    let said = parse_json_strict(&bytes)
        .map_err(|problem| Error::new(CheckpointError::Json { path: path() }).because(problem))?;
    // What the pipeline does not name is a directory like any other.
    let is_component = |name: &String| class_of(&said, name).is_some() && holds_weights(&dir.join(name));
    let mut names: Vec<String> = dir.dirs()?.into_iter().filter(is_component).collect();
    names.sort_unstable();
    Ok(names)
}

/// What is wrong with a directory without weights, if it is a pipeline; else `error` as it is, also where the rest cannot be
/// read, since this is for a message only.
pub(crate) fn explain(place: &Resolved, error: Error) -> Error {
    let dir = &place.location;
    if !matches!(error.kind(), ErrorKind::Storage(StorageError::Missing { .. }))
        || !is_pipeline(dir).unwrap_or(false)
    {
        return error;
    }
    several(place).unwrap_or_else(|| {
        error.hint("it is a pipeline, and none of its directories holds safetensors weights")
    })
}

/// The error of a pipeline that is given where one of its components is meant; none if none of its directories holds weights.
pub(crate) fn several(place: &Resolved) -> Option<Error> {
    let dir = &place.location;
    let names: Vec<String> = dir.dirs().unwrap_or_default();
    let with_weights: Vec<&String> = names.iter().filter(|name| holds_weights(&dir.join(name))).collect();
    let adapted = with_weights.iter().find(|name| ADAPTED.contains(&name.as_str()));
    let first = adapted.or(with_weights.first())?;
    let hint = format!("name the one that the adapter is for, such as `{}`", place.within(first));
    let classes = classes(dir);
    let described = |name: &&String| match class_of(&classes, name) {
        Some(class) => format!("`{name}` ({class})"),
        None => format!("`{name}`"),
    };
    let components = with_weights.iter().map(described).collect();
    Some(Error::new(CheckpointError::Pipeline { path: dir.path(), components }).hint(hint))
}

fn holds_weights(dir: &Location) -> bool {
    let files = dir.files(&|_| true).unwrap_or_default();
    files.iter().any(|file| WeightsName::of(&file.name).is_some())
}

/// What the pipeline says of its components; nothing if it cannot be read.
fn classes(dir: &Location) -> Value {
    let bytes = dir.read_small(PIPELINE, MOST_PIPELINE_BYTES).ok().flatten();
    bytes.and_then(|bytes| parse_json_strict(&bytes).ok()).unwrap_or_default()
}

/// The class of a component: the second of `["diffusers", "UNet2DConditionModel"]`.
fn class_of<'v>(classes: &'v Value, name: &str) -> Option<&'v str> {
    classes.get(name)?.get(1)?.as_str()
}
