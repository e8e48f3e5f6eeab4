//! Staged inside the output and moved into place file by file, the index and the config late: a loader needs the config, so
//! until then nothing takes the folder for a checkpoint. The record comes last of all: where it is, everything is.
//!
//! This serves for an output that is a mount point, as the volume of a batch job is, and where nothing can be made beside it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::checkpoint::weights_name::is_index;
use crate::error::kind::ErrorKind;
use crate::error::{Error, Result};
use crate::storage::files::sync_folder;
use crate::storage::list::{State, list};

use crate::publish::Publish;
use crate::publish::provenance::PROVENANCE;

/// The move of every file.
pub(crate) struct IntoPlace;

/// Where results are staged inside `output`.
pub(crate) fn staged_in(output: &Path) -> PathBuf {
    output.join(".shardfold.partial")
}

impl Publish for IntoPlace {
    fn staging(&self, output: &Path, state: State) -> Option<PathBuf> {
        (state == State::EmptyFolder).then(|| staged_in(output))
    }

    fn publish(&self, staging: &Path, output: &Path) -> Result<()> {
        move_all(staging, output)
    }
}

/// Moves every file of `staging` to its place in `output`, and removes `staging`.
pub(crate) fn move_all(staging: &Path, output: &Path) -> Result<()> {
    let failed =
        |path: &Path, cause: io::Error| Error::new(ErrorKind::Write { path: path.to_owned() }).because(cause);
    let mut files = list(staging, &|_| false)?;
    files.sort_by_key(|file| rank(&file.name));
    fs::create_dir_all(output).map_err(|cause| failed(output, cause))?;
    let mut last = None;
    for file in files {
        let rank = rank(&file.name);
        if last.is_some_and(|last| last != rank) {
            // What came before lasts before the next kind is seen.
            sync_folder(output).map_err(|cause| failed(output, cause))?;
        }
        last = Some(rank);
        let (from, to) = (staging.join(&file.name), output.join(&file.name));
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent).map_err(|cause| failed(parent, cause))?;
        }
        fs::rename(&from, &to).map_err(|cause| failed(&to, cause))?;
        if let Some(parent) = to.parent().filter(|parent| *parent != output) {
            sync_folder(parent).map_err(|cause| failed(parent, cause))?;
        }
    }
    sync_folder(output).map_err(|cause| failed(output, cause))?;
    fs::remove_dir_all(staging).map_err(|cause| failed(staging, cause))?;
    sync_folder(output).map_err(|cause| failed(output, cause))
}

/// The order of files: everything, then the index, then the config, then the record.
fn rank(name: &str) -> u8 {
    match name {
        PROVENANCE => 3,
        "config.json" => 2,
        name if is_index(name) => 1,
        _ => 0,
    }
}
