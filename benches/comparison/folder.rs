//! Where the tensors of a checkpoint are: reads headers only, and checks them against the files.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use safetensors::Dtype;
use safetensors::tensor::Metadata;
use serde_json::Value;

use super::Result;

/// The limit of the safetensors library on a header's length.
const MAX_HEADER: u64 = 100_000_000;

/// All tensors of a checkpoint by name.
pub(super) struct Checkpoint {
    /// As given by the caller.
    pub(super) path: PathBuf,
    pub(super) files: Vec<PathBuf>,
    pub(super) tensors: BTreeMap<String, Located>,
}

/// One tensor, and the place of its bytes.
pub(super) struct Located {
    /// Which of the checkpoint's files.
    pub(super) file: usize,
    /// Position of the first byte in that file.
    pub(super) start: u64,
    pub(super) bytes: u64,
    pub(super) dtype: Dtype,
    pub(super) shape: Vec<usize>,
}

impl fmt::Display for Located {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {:?}", self.dtype, self.shape)
    }
}

impl Checkpoint {
    /// Reads all headers; every tensor of the index must be where the index says, and no name may occur twice.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let index = read_index(path)?;
        let files = match &index {
            Some(map) => {
                map.values().collect::<BTreeSet<_>>().into_iter().map(|name| path.join(name)).collect()
            }
            None => safetensors_files(path)?,
        };
        let mut found = Self { path: path.to_owned(), files, tensors: BTreeMap::new() };
        for file in 0..found.files.len() {
            found.add_file(file).map_err(|error| format!("{}: {error}", found.files[file].display()))?;
        }
        for (name, file) in index.iter().flatten() {
            let there = found.tensors.get(name).map(|tensor| &found.files[tensor.file]);
            if there != Some(&path.join(file)) {
                return Err(format!("{}: index says `{name}` is in `{file}`", path.display()).into());
            }
        }
        Ok(found)
    }

    /// Adds the tensors of one file.
    fn add_file(&mut self, file: usize) -> Result<()> {
        let mut reader = File::open(&self.files[file])?;
        let file_bytes = reader.metadata()?.len();
        let mut length = [0; 8];
        reader.read_exact(&mut length)?;
        let header_bytes = u64::from_le_bytes(length);
        if header_bytes > file_bytes.min(MAX_HEADER) {
            return Err(format!("header claims {header_bytes} bytes of {file_bytes}").into());
        }
        let mut header = vec![0; header_bytes as usize];
        reader.read_exact(&mut header)?;
        let metadata: Metadata = serde_json::from_slice(&header)?;
        let promised = 8 + header_bytes + metadata.data_len() as u64;
        if promised != file_bytes {
            return Err(format!("has {file_bytes} bytes, its header promises {promised}").into());
        }
        for (name, info) in metadata.tensors() {
            let (start, end) = info.data_offsets;
            let located = Located {
                file,
                start: 8 + header_bytes + start as u64,
                bytes: (end - start) as u64,
                dtype: info.dtype,
                shape: info.shape.clone(),
            };
            if self.tensors.insert(name.clone(), located).is_some() {
                return Err(format!("tensor `{name}` is in another file too").into());
            }
        }
        Ok(())
    }
}

/// The index of a sharded folder: tensor names to names of files in the same folder.
fn read_index(path: &Path) -> Result<Option<BTreeMap<String, String>>> {
    let path = path.join("model.safetensors.index.json");
    if !path.is_file() {
        return Ok(None);
    }
    let mut index: Value = serde_json::from_slice(&fs::read(&path)?)?;
    let map: BTreeMap<String, String> = serde_json::from_value(index["weight_map"].take())
        .map_err(|error| format!("{}: weight_map: {error}", path.display()))?;
    match map.values().find(|name| name.contains(['/', '\\'])) {
        Some(name) => Err(format!("{}: `{name}` is no plain file name", path.display()).into()),
        None => Ok(Some(map)),
    }
}

/// The file itself, or all safetensors files of a folder without an index.
fn safetensors_files(path: &Path) -> Result<Vec<PathBuf>> {
    if path.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let entries = fs::read_dir(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let mut files = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "safetensors"));
    files.sort();
    if files.is_empty() {
        return Err(format!("{}: no safetensors file here", path.display()).into());
    }
    Ok(files)
}
