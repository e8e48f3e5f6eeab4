//! What was asked for and where it is: [`Origin`] and [`Resolved`].

use std::path::{Path, PathBuf};

use crate::error::checkpoint::CheckpointError;
use crate::error::kind::ErrorKind;
use crate::error::storage::StorageError;
use crate::error::{Error, Result};
use crate::storage::location::Location;
use crate::storage::store::{EntryKind, Store};

/// What is to be read, as it was asked for.
#[derive(Clone, Debug)]
pub enum Origin {
    /// A path, or a name to look up in the hub's cache and on the hub.
    Typed(PathBuf),
    /// A directory of a store.
    At(Location),
}

impl From<PathBuf> for Origin {
    fn from(typed: PathBuf) -> Origin {
        Origin::Typed(typed)
    }
}

impl From<&Path> for Origin {
    fn from(typed: &Path) -> Origin {
        Origin::Typed(typed.to_owned())
    }
}

impl From<Location> for Origin {
    fn from(location: Location) -> Origin {
        Origin::At(location)
    }
}

/// A directory that was asked for, by its path or by a name.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// Where it is.
    pub location: Location,
    /// What it is on the hub or in its cache, if a name was given.
    pub snapshot: Option<RepoSnapshot>,
}

/// A snapshot: a repository as it is at one commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepoSnapshot {
    /// The repository, as `org/name`.
    pub name: String,
    /// The commit.
    pub commit: String,
    /// The directory of it that was asked for.
    pub component: Option<String>,
    /// What was asked for behind the `@`, whole if it was the beginning of a commit.
    pub(crate) revision: Option<String>,
    /// Whether it is in the cache, where files may be missing; else the hub's.
    pub(crate) is_cached: bool,
}

impl From<Location> for Resolved {
    fn from(location: Location) -> Resolved {
        Resolved { location, snapshot: None }
    }
}

impl Resolved {
    /// Whether it is a file.
    ///
    /// # Errors
    /// As [`Store::stat`].
    pub(crate) fn names_file(&self) -> Result<bool> {
        Ok(self.location.stat("")?.is_some_and(|stat| stat.kind == EntryKind::File))
    }

    /// The directory that it is in; itself if nothing is above it.
    #[must_use]
    pub(crate) fn directory(self) -> Resolved {
        let above = self.location.parent();
        // A file of the working directory has nothing in front of its name.
        let is_here = above.as_ref().is_some_and(|above| above.path().as_os_str().is_empty());
        let above = if is_here { Some(Location::of_resolved_path(".")) } else { above };
        match above {
            Some(location) => Resolved { location, ..self },
            None => self,
        }
    }

    /// The name of its repository, if it is a snapshot.
    pub fn name(&self) -> Option<&str> {
        self.snapshot.as_ref().map(|snapshot| snapshot.name.as_str())
    }

    /// The repository and the commit, if it is read from the hub itself.
    pub(crate) fn on_hub(&self) -> Option<String> {
        let snapshot = self.snapshot.as_ref().filter(|snapshot| !snapshot.is_cached)?;
        Some(format!("{}@{}", snapshot.name, snapshot.commit))
    }

    /// What a snapshot was asked for as: its repository, and the directory in it.
    pub fn label(&self) -> Option<String> {
        let RepoSnapshot { name, component, .. } = self.snapshot.as_ref()?;
        Some(component.as_ref().map_or_else(|| name.clone(), |component| format!("{name}/{component}")))
    }

    /// How a directory in it is to be asked for.
    pub fn within(&self, folder: &str) -> String {
        match &self.snapshot {
            None => self.location.join(folder).to_string(),
            Some(RepoSnapshot { name, revision, .. }) => {
                let revision = revision.as_ref().map(|revision| format!("@{revision}"));
                format!("{name}/{folder}{}", revision.unwrap_or_default())
            }
        }
    }

    /// The errors of reading it, with a hint on what is missing from a snapshot.
    #[must_use]
    pub fn explain(&self, error: Error) -> Error {
        let Some(snapshot) = self.snapshot.as_ref().filter(|snapshot| snapshot.is_cached) else {
            return error;
        };
        let download = download(&snapshot.name, snapshot.revision.as_deref());
        error.map_each(&|error| {
            if !matches!(
                error.kind(),
                ErrorKind::Storage(StorageError::Missing { .. } | StorageError::BrokenLink { .. })
                    | ErrorKind::Checkpoint(CheckpointError::NoIndex { .. })
            ) {
                return error;
            }
            let cure = format!("`{download}` fetches what a snapshot lacks");
            let hint = error.advice().map_or_else(|| cure.clone(), |hint| format!("{hint}; {cure}"));
            error.hint(hint)
        })
    }
}

/// What is to be run to get a snapshot.
pub(crate) fn download(name: &str, revision: Option<&str>) -> String {
    let revision = revision.map(|revision| format!(" --revision {revision}")).unwrap_or_default();
    format!("hf download {name}{revision}")
}
