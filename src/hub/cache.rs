//! The lookup of a name in the hub's cache, and behind it on the hub.

use std::path::Path;

use crate::cancel::Cancel;
use crate::error::checkpoint::CheckpointError;
#[cfg(feature = "hub")]
use crate::error::exit::Code;
use crate::error::request::RequestError;
use crate::error::storage::StorageError;
use crate::error::{Error, Result};
use crate::hub::cache_problem::{CacheProblem, LISTED};
use crate::hub::environment::HubEnvironment;
use crate::hub::parse::{RepoQuery, is_commit};
#[cfg(feature = "hub")]
use crate::hub::remote::endpoint::RemoteHub;
use crate::hub::resolved::{Origin, RepoSnapshot, Resolved, download};
use crate::storage::address;
use crate::storage::location::Location;
use crate::storage::nearby::{Nearby, nearby};
use crate::storage::rules;
use crate::storage::store::Store;

const MOST_REF_BYTES: u64 = 4096;

/// The cache of the hub, or none, in which case every name is a path.
#[derive(Clone, Debug, Default)]
pub struct Hub {
    cache: Option<Location>,
    /// What ends waiting for an object store.
    cancel: Cancel,
    /// The hub itself, if it may be asked.
    #[cfg(feature = "hub")]
    remote: Option<RemoteHub>,
}

/// How files end that hold weights of some kind.
#[cfg(feature = "hub")]
const WEIGHTS: &[&str] = &[".safetensors", ".bin", ".pt", ".pth", ".gguf"];

/// Whether there are weights in a snapshot, or in a directory of it.
#[cfg(feature = "hub")]
fn holds_weights(snapshot: &Location) -> Result<bool> {
    let files = snapshot.files(&|_| false)?;
    Ok(files.iter().any(|file| WEIGHTS.iter().any(|ending| file.name.ends_with(ending))))
}

impl Hub {
    /// The cache in a location.
    pub fn at(cache: Location) -> Hub {
        Hub { cache: Some(cache), ..Hub::default() }
    }

    /// The cache that `environment` tells of.
    pub fn new(environment: &HubEnvironment) -> Hub {
        Hub { cache: environment.cache().map(Location::of_path), ..Hub::default() }
    }

    /// The same, and behind it the hub that `environment` tells of: what the cache lacks is read there. Where the environment says
    /// that there is no network, and without the feature `hub`, the cache alone.
    pub fn online(environment: &HubEnvironment) -> Hub {
        Hub {
            #[cfg(feature = "hub")]
            remote: RemoteHub::new(environment),
            ..Hub::new(environment)
        }
    }

    /// The same, where what is asked of the hub ends once `cancel` says so.
    #[must_use]
    pub(crate) fn stopped_by(self, cancel: &Cancel) -> Hub {
        Hub {
            #[cfg(feature = "hub")]
            remote: self.remote.map(|remote| remote.stopped_by(cancel)),
            cancel: cancel.clone(),
            ..self
        }
    }

    /// What `typed` means: the path if anything is there; else the place in an object store, if it is the address of one and this
    /// build knows them; else, if it is a name that the hub could give, the snapshot of
    /// `name`, `org/name`, or either with `@` and a revision; of `org/name/folder` a folder in it. The revision is a branch or a tag that was fetched, or a
    /// commit or the beginning of one; without it `main`, else the only snapshot there is.
    ///
    /// # Errors
    /// [`StorageError::Missing`] if nothing is there, and the cache does not hold it, or holds several; [`CheckpointError::Ref`] for a ref that holds no
    /// commit; [`StorageError::Unreadable`].
    pub fn find(&self, typed: &Path) -> Result<Resolved> {
        let location = Location::of_path(typed);
        if location.stat("")?.is_some() {
            return Ok(location.into());
        }
        match (&self.cache, typed.to_str().and_then(RepoQuery::parse)) {
            (Some(cache), Some(wanted)) => match wanted.find(cache) {
                // A path of which a directory is here was typed wrong: no hub is asked for it.
                Err(error) if nearby(typed).is_some_and(|nearby| nearby.is_path) => Err(error),
                cached => self.behind(&wanted, cached),
            },
            _ => {
                let error = rules::missing("directory", typed);
                if let Some(location) = Location::of_address(typed, &self.cancel)? {
                    let is_there = location.stat("")?.is_some();
                    return if is_there { Ok(location.into()) } else { Err(error) };
                }
                if let Some(cure) = typed.to_str().and_then(address::cure) {
                    return Err(error.hint(cure));
                }
                Err(match nearby(typed) {
                    Some(nearby) => error.hint(nearby.hint),
                    None => error,
                })
            }
        }
    }

    /// What the cache has, or what it lacks as the hub has it.
    #[cfg(feature = "hub")]
    fn behind(&self, wanted: &RepoQuery<'_>, cached: Result<Resolved>) -> Result<Resolved> {
        // A word alone is more often a directory that was typed wrong.
        let Some(remote) = self.remote.as_ref().filter(|_| wanted.name.contains('/')) else { return cached };
        match cached {
            Err(error) if error.exit_code() == Code::NoInput => remote.find(wanted),
            // Programs that asked for the config or the tokenizer alone leave a snapshot without weights.
            Ok(found) if !holds_weights(&found.location)? => match remote.find(wanted) {
                // What is cached is all there is, and whoever reads it says what it lacks.
                Err(error) if error.exit_code() == Code::NoInput => Ok(found),
                found => found,
            },
            cached => cached,
        }
    }

    #[cfg(not(feature = "hub"))]
    fn behind(&self, _wanted: &RepoQuery<'_>, cached: Result<Resolved>) -> Result<Resolved> {
        cached
    }

    /// What `origin` means: [`find`](Hub::find) for what was typed.
    ///
    /// # Errors
    /// As [`find`](Hub::find).
    pub fn resolve(&self, origin: &Origin) -> Result<Resolved> {
        match origin {
            Origin::Typed(typed) => self.find(typed),
            Origin::At(location) => Ok(location.clone().into()),
        }
    }
}

impl RepoQuery<'_> {
    /// The snapshot in `cache`.
    fn find(&self, cache: &Location) -> Result<Resolved> {
        let home = cache.join(&format!("models--{}", self.name.replace('/', "--")));
        let snapshots = home.join("snapshots");
        if !snapshots.is_directory()? {
            return Err(self.unknown(cache));
        }
        let mut commits = snapshots.dirs()?;
        commits.retain(|commit| is_commit(commit));
        let commit = match self.by_ref(&home)? {
            Some(commit) if commits.contains(&commit) => commit,
            Some(commit) => {
                let revision = self.revision.unwrap_or("main");
                let cause = CacheProblem::NotThere { commit, snapshots: snapshots.to_string() };
                return Err(self.not_cached(revision, &commits).because(cause));
            }
            None => self.by_commit(&commits, &snapshots)?,
        };
        let whole =
            |revision: &str| if commit.starts_with(revision) { commit.clone() } else { revision.to_owned() };
        let revision = self.revision.map(whole);
        let mut location = snapshots.join(&commit);
        if let Some(component) = self.component {
            location = location.join(component);
            if !location.is_directory()? {
                return Err(self.missing(CacheProblem::NoComponent { component: location.to_string() }));
            }
        }
        let (name, component) = (self.name.to_owned(), self.component.map(str::to_owned));
        Ok(Resolved {
            location,
            snapshot: Some(RepoSnapshot { name, commit, component, revision, is_cached: true }),
        })
    }

    /// The commit that the ref of its revision holds, if there is such a ref.
    fn by_ref(&self, home: &Location) -> Result<Option<String>> {
        let name = format!("refs/{}", self.revision.unwrap_or("main"));
        let Some(bytes) = home.read_small(&name, MOST_REF_BYTES)? else { return Ok(None) };
        let found = String::from_utf8_lossy(&bytes);
        let commit = found.trim_ascii();
        if is_commit(commit) {
            return Ok(Some(commit.to_owned()));
        }
        let (path, found) = (home.path_of(&name), commit.chars().take(80).collect());
        Err(Error::new(CheckpointError::Ref { path, found })
            .hint(format!("`{}` writes it again", download(self.name, self.revision))))
    }

    /// The one commit that begins as its revision does.
    fn by_commit(&self, commits: &[String], at: &Location) -> Result<String> {
        let revision = self.revision.unwrap_or_default();
        let fit = commits.iter().filter(|commit| commit.starts_with(revision)).cloned();
        let (fit, snapshots): (Vec<String>, _) = (fit.collect(), at.to_string());
        match (fit.as_slice(), self.revision) {
            ([commit], _) => Ok(commit.clone()),
            ([], Some(_)) => Err(self.not_cached(revision, commits)),
            ([], None) => Err(self.missing(CacheProblem::NoSnapshot { snapshots })),
            (_, Some(_)) => {
                let revision = revision.to_owned();
                Err(self.several(CacheProblem::SeveralCommits { revision, snapshots, commits: fit }))
            }
            (_, None) => Err(self.several(CacheProblem::SeveralSnapshots { snapshots, commits: fit })),
        }
    }

    fn missing(&self, cause: CacheProblem) -> Error {
        self.with_cure(self.nowhere(cause))
    }

    fn unknown(&self, cache: &Location) -> Error {
        let (name, cache) = (self.typed.to_owned(), cache.path());
        let error = Error::from(RequestError::UnknownModel { name, cache });
        match nearby(Path::new(self.typed)) {
            Some(Nearby { hint, is_path: true }) => error.hint(hint),
            Some(Nearby { hint, .. }) => error.hint(format!("{hint}; {}", self.cure())),
            None => self.with_cure(error),
        }
    }

    fn not_cached(&self, revision: &str, commits: &[String]) -> Error {
        let (name, revision) = (self.name.to_owned(), revision.to_owned());
        let cached = commits.iter().take(LISTED).cloned().collect();
        self.with_cure(RequestError::UnknownRevision { name, revision, cached }.into())
    }

    fn with_cure(&self, error: Error) -> Error {
        error.hint(self.cure())
    }

    fn cure(&self) -> String {
        format!("`{}` fetches it, if that is a repo id", download(self.name, self.revision))
    }

    fn several(&self, cause: CacheProblem) -> Error {
        self.nowhere(cause).hint(format!("`{}@COMMIT` names one of them", self.name))
    }

    fn nowhere(&self, cause: CacheProblem) -> Error {
        Error::new(StorageError::Missing { what: "directory", path: self.typed.into() }).because(cause)
    }
}
