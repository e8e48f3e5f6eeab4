//! A checkpoint that is given by one of its files: its directory is meant.

use crate::error::checkpoint::CheckpointError;
use crate::error::{Error, Result};
use crate::hub::resolved::Resolved;

use crate::checkpoint::header::read_header;
use crate::checkpoint::header_room::HeaderRoom;
use crate::checkpoint::one_file::parts::OneFile;
use crate::checkpoint::weights_name::{OwnName, WeightsName, of_shard, stem_of_file};
use crate::storage::store::Store;

/// Files of a checkpoint beside its weights that tell as much.
const OTHERS: &[&str] = &["config.json"];

/// The directory of the checkpoint that a file of it is, and the variant that the file's name says; what is no file as it is.
///
/// # Errors
/// [`CheckpointError::SingleFile`] for a file that no checkpoint has, one that cannot be read, or as [`Resolved::names_file`].
pub(crate) fn directory_of(place: Resolved) -> Result<(Resolved, Option<String>)> {
    if !place.names_file()? {
        return Ok((place, None));
    }
    let name = place.location.name().unwrap_or_default();
    if OwnName::of(name).is_some() {
        let name = Some(name.to_owned());
        return Ok((place.directory(), name));
    }
    // Whatever it is called: people give such files the names of others.
    let is_one = stem_of_file(name).is_some().then(|| is_one_file(&place));
    if matches!(is_one, Some(Ok(true))) {
        let name = Some(name.to_owned());
        return Ok((place.directory(), name));
    }
    let weights = WeightsName::of(name);
    if weights.is_some() || of_shard(name).is_some() || OTHERS.contains(&name) {
        let variant = weights.and_then(|weights| weights.variant);
        return Ok((place.directory(), variant));
    }
    is_one.transpose()?;
    let path = place.location.path();
    Err(Error::new(CheckpointError::SingleFile { path }).hint(
        "read are single files of Stable Diffusion, SDXL, SD3, Flux and Wan by their original names, and GGUF files. Else a checkpoint is a \
         directory with `model.safetensors` and `config.json`: if this file is a whole model of transformers or diffusers, \
         give it that name beside its config",
    ))
}

/// Memory for the header of a file that may be one.
const MOST_HEADER_BYTES: u64 = 64 << 20;

/// Whether a file's tensors are those of an image model in one file.
///
/// # Errors
/// A file that cannot be read.
fn is_one_file(place: &Resolved) -> Result<bool> {
    let Some(name) = place.location.name().map(str::to_owned) else { return Ok(false) };
    let dir = place.clone().directory().location;
    let source = dir.open(&name)?;
    let header = read_header(source.as_ref(), &dir.path_of(&name), HeaderRoom::at_most(MOST_HEADER_BYTES))?;
    Ok(OneFile::of(header.tensors.iter().map(|tensor| (&*tensor.name, &tensor.shape))).is_some())
}
