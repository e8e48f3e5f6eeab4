//! The tensors of PEFT's directory: one file, or shards and the index that says which of them holds what.

use std::collections::HashSet;

use crate::checkpoint::discover::read_index;
use crate::checkpoint::header_room::HeaderRoom;
use crate::error::checkpoint::CheckpointError;
use crate::error::kind::ErrorKind;
use crate::error::storage::StorageError;
use crate::error::{Error, Result};
use crate::formats::index::Index;
use crate::storage::location::Location;
use crate::storage::store::Store;

use crate::adapters::weight_files::WeightFiles;

/// What the names of all files with tensors begin with.
pub(crate) const STEM: &str = "adapter_model";
/// File name of the tensors.
const TENSORS: &str = "adapter_model.safetensors";
/// File name of the index of shards.
const INDEX: &str = "adapter_model.safetensors.index.json";
/// File name of the tensors as older versions saved them.
const PICKLE: &str = "adapter_model.bin";
/// File name of the one shard that needs no index.
const ONLY_SHARD: &str = "adapter_model-00001-of-00001.safetensors";

/// Reads the headers of the files in `home`, for which there is that `room`.
///
/// # Errors
/// [`StorageError::Missing`], [`CheckpointError::IndexDisagrees`] for each tensor that the index names and no file holds, or
/// as [`read_index`] and [`WeightFiles::open`].
pub(crate) fn read(home: &Location, room: &HeaderRoom<'_>) -> Result<WeightFiles> {
    if !home.has_file(TENSORS)? {
        if let Some(index) = read_index(home, INDEX, room)? {
            return shards(home, &index.index, room);
        }
        if home.has_file(ONLY_SHARD)? {
            return WeightFiles::single(home, ONLY_SHARD, room);
        }
    }
    // What PEFT wrote before it wrote safetensors.
    if !home.has_file(TENSORS)? && home.has_file(PICKLE)? {
        return WeightFiles::single(home, PICKLE, room);
    }
    WeightFiles::single(home, TENSORS, room).map_err(|error| match error.kind() {
        ErrorKind::Storage(StorageError::Missing { .. }) => error.hint(NOT_WHOLE),
        _ => error,
    })
}

/// What is said where there are no tensors.
const NOT_WHOLE: &str = "the adapter is not whole: `adapter_config.json` is there, and the tensors are not";

/// The shards that an index names, and whether they hold what it says.
fn shards(home: &Location, index: &Index, room: &HeaderRoom<'_>) -> Result<WeightFiles> {
    let weight_map = &index.weight_map;
    let mut files: Vec<String> = index.shards().map(str::to_owned).collect();
    files.sort_unstable();
    let gone: Vec<Error> = files
        .iter()
        .filter_map(|name| home.has_file(name).map(|is_there| (!is_there).then_some(name)).transpose())
        .map(|name| {
            let path = home.path_of(name?);
            let hint = "the index names it, so the adapter is not whole: fetch what is missing";
            Ok::<_, Error>(Error::new(StorageError::Missing { what: "file", path }).hint(hint))
        })
        .collect::<Result<_>>()?;
    Error::all(gone)?;
    let read = WeightFiles::open(home, INDEX, files, weight_map, room)?;
    let held: HashSet<&str> = read.tensors.iter().map(|entry| &*entry.name).collect();
    let lacking = weight_map.iter().filter(|(tensor, _)| !held.contains(tensor.as_str()));
    let errors = lacking.map(|(tensor, shard)| {
        let kind = CheckpointError::IndexDisagrees { tensor: tensor.clone(), shard: shard.to_string() };
        Error::new(kind).hint("the adapter was not saved whole: save it again, or get the whole file")
    });
    Error::all(errors.collect())?;
    Ok(read)
}
