//! A checkpoint that is given by one of its files: its directory is meant.

use crate::error::checkpoint::CheckpointError;
use crate::error::{Error, Result};
use crate::hub::resolved::Resolved;

use crate::checkpoint::weights_name::{OwnName, WeightsName, of_shard};

/// Files of a checkpoint beside its weights that tell as much.
const OTHERS: &[&str] = &["config.json"];

/// The directory of the checkpoint that a file of it is, and the variant that the file's name says; what is no file as it is.
///
/// # Errors
/// [`CheckpointError::SingleFile`] for a file that no checkpoint has, or as [`Resolved::names_file`].
pub(crate) fn directory_of(place: Resolved) -> Result<(Resolved, Option<String>)> {
    if !place.names_file()? {
        return Ok((place, None));
    }
    let name = place.location.name().unwrap_or_default();
    if OwnName::of(name).is_some() {
        let name = Some(name.to_owned());
        return Ok((place.directory(), name));
    }
    let weights = WeightsName::of(name);
    if weights.is_some() || of_shard(name).is_some() || OTHERS.contains(&name) {
        let variant = weights.and_then(|weights| weights.variant);
        return Ok((place.directory(), variant));
    }
    let path = place.location.path();
    Err(Error::new(CheckpointError::SingleFile { path }).hint(
        "a checkpoint is a directory with `model.safetensors` and `config.json`: if this file is a whole model of transformers \
         or diffusers, give it that name beside its config",
    ))
}
