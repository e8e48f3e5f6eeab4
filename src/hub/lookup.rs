//! The lookup of a name in the hub's cache.

use std::path::Path;

use crate::error::checkpoint::CheckpointError;
use crate::error::request::RequestError;
use crate::error::storage::StorageError;
use crate::error::{Error, Result};
use crate::hub::cache_problem::{CacheProblem, LISTED};
use crate::hub::parse::{RepoQuery, is_commit};
use crate::hub::resolved::{RepoSnapshot, Resolved, download};
use crate::storage::location::Location;
use crate::storage::nearby::{Nearby, nearby};
use crate::storage::store::Store;

const MOST_REF_BYTES: u64 = 4096;

impl RepoQuery<'_> {
    /// The snapshot in `cache`.
    ///
    /// # Errors
    /// [`StorageError::Missing`], [`RequestError::UnknownModel`], [`RequestError::UnknownRevision`]; [`CheckpointError::Ref`];
    /// [`StorageError::Unreadable`].
    pub(crate) fn find(&self, cache: &Location) -> Result<Resolved> {
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
