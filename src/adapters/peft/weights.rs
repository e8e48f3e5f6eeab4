//! The tensors of PEFT's directory: one file, or shards and the index that says which of them holds what. Where none is called as
//! PEFT calls them, the only file of tensors is taken, whatever its name: a trainer's own save of the state.

use std::collections::HashSet;

use crate::checkpoint::discover::read_index;
use crate::checkpoint::header_room::HeaderRoom;
use crate::checkpoint::side_files::{is_beside, is_training_state};
use crate::checkpoint::weights_name::{is_index, stem_of_index};
use crate::error::checkpoint::CheckpointError;
use crate::error::kind::ErrorKind;
use crate::error::storage::StorageError;
use crate::error::{Error, Result};
use crate::formats::CONTAINERS;
use crate::formats::container::FileNames;
use crate::formats::index::Index;
use crate::storage::location::Location;
use crate::storage::store::{Entry, EntryKind, Store};

use crate::adapters::weight_files::WeightFiles;

/// What the names of all files with tensors begin with.
pub(crate) const STEM: &str = "adapter_model";
/// File name of the tensors.
const TENSORS: &str = "adapter_model.safetensors";
/// File names of the index of shards, as they are saved now and as they were.
const INDICES: [&str; 2] = ["adapter_model.safetensors.index.json", "adapter_model.bin.index.json"];
/// File name of the tensors as older versions saved them.
const PICKLE: &str = "adapter_model.bin";
/// File name of the one shard that needs no index.
const ONLY_SHARD: &str = "adapter_model-00001-of-00001.safetensors";

/// What stands before the number of shards in their names.
const OF_SHARDS: &str = "-of-";

/// Reads the headers of the files in `home`, for which there is that `room`.
///
/// # Errors
/// [`StorageError::Missing`], [`CheckpointError::IndexDisagrees`] for each tensor that the index names and no file holds, or
/// as [`read_index`] and [`WeightFiles::open`].
pub(crate) fn read(home: &Location, room: &HeaderRoom<'_>) -> Result<WeightFiles> {
    if home.has_file(TENSORS)? {
        return WeightFiles::single(home, TENSORS, room);
    }
    // What PEFT wrote before it wrote safetensors comes last of each.
    for name in INDICES {
        if let Some(index) = read_index(home, name, room)? {
            return shards(home, name, &index.index, room);
        }
    }
    for name in [ONLY_SHARD, PICKLE] {
        if home.has_file(name)? {
            return WeightFiles::single(home, name, room);
        }
    }
    match others(home)?.as_slice() {
        // What else is called so, a pipe or a link to nothing, is named by whoever opens it.
        [] => WeightFiles::single(home, TENSORS, room).map_err(|error| match error.kind() {
            ErrorKind::Storage(StorageError::Missing { .. }) => error.hint(NOT_WHOLE),
            _ => error,
        }),
        [name] if is_index(name) => match read_index(home, name, room)? {
            Some(index) => shards(home, name, &index.index, room),
            None => Err(not_whole(home)),
        },
        [name] => WeightFiles::single(home, name, room),
        names => {
            let names = names.join("`, `");
            Err(missing(home).hint(format!(
                "no file there is called as PEFT calls its tensors, and of several any may be meant (`{names}`): \
                 give the one a directory of its own, beside the `adapter_config.json`"
            )))
        }
    }
}

/// Files of tensors under other names, in the order of these: a state that was saved as it was. Shards are known by their index.
pub(crate) fn others(home: &Location) -> Result<Vec<String>> {
    let files = home.list("")?.into_iter().filter(|entry| entry.kind == EntryKind::File);
    let names: Vec<String> = files.map(|Entry { name, .. }| name).collect();
    let stems: Vec<String> = names.iter().filter_map(|name| stem_of_index(name)).collect();
    let is_shard = |name: &str| {
        stems.iter().any(|stem| name.strip_prefix(stem.as_str()).is_some_and(|rest| rest.starts_with('-')))
    };
    let holds = |name: &str| {
        let by_ending = CONTAINERS.iter().find(|container| name.ends_with(container.ending()));
        by_ending.is_some_and(|container| container.file_names() != FileNames::Any)
    };
    // Shards of PEFT's own without their index are half an adapter, whatever lies beside them.
    if names.iter().any(|name| name.starts_with(STEM) && name.contains(OF_SHARDS)) {
        return Ok(Vec::new());
    }
    let mut found = names;
    found.retain(|name| {
        let is_own = is_index(name) || holds(name) && !is_shard(name);
        is_own && !is_training_state(name) && !is_beside(name)
    });
    found.sort_unstable();
    Ok(found)
}

/// Whether a file is called as one of PEFT's own is.
pub(crate) fn is_own_name(file: &str) -> bool {
    file.starts_with(STEM)
}

fn missing(home: &Location) -> Error {
    Error::new(StorageError::Missing { what: "file", path: home.path_of(TENSORS) })
}

/// The refusal of a directory with a config and without tensors.
pub(crate) fn not_whole(home: &Location) -> Error {
    missing(home).hint(NOT_WHOLE)
}

/// What is said where there are no tensors.
const NOT_WHOLE: &str = "the adapter is not whole: `adapter_config.json` is there, and the tensors are not";

/// The shards that an index names, and whether they hold what it says.
fn shards(home: &Location, name: &str, index: &Index, room: &HeaderRoom<'_>) -> Result<WeightFiles> {
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
    let read = WeightFiles::open(home, name, files, weight_map, room)?;
    let held: HashSet<&str> = read.tensors.iter().map(|entry| &*entry.name).collect();
    let lacking = weight_map.iter().filter(|(tensor, _)| !held.contains(tensor.as_str()));
    let errors = lacking.map(|(tensor, shard)| {
        let kind = CheckpointError::IndexDisagrees { tensor: tensor.clone(), shard: shard.to_string() };
        Error::new(kind).hint("the adapter was not saved whole: save it again, or get the whole file")
    });
    Error::all(errors.collect())?;
    Ok(read)
}
