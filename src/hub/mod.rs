//! Where the local cache of the Hugging Face hub keeps what a name alone means.
//!
//! The cache holds a folder `models--ORG--NAME` for each repository: `snapshots/COMMIT/` is a folder as the hub has it,
//! made of symlinks into `blobs/`, and a file `refs/REVISION` holds the commit that a branch or a tag stood for when it was
//! fetched. What stands behind `org/name/` is a folder of the snapshot, such as a component of a pipeline. Nothing is
//! fetched here. What is typed and what a file holds is checked before it becomes part of a path, so that neither leads out
//! of the cache.

#![allow(clippy::disallowed_methods, reason = "looking names up in the cache is looking at directories")]

#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use crate::error::kind::ErrorKind;
use crate::error::{Error, Result};

use crate::storage::list::{read_small, subfolders};

/// The longest `org` or `name` that the hub gives out.
const MOST_NAME_CHARS: usize = 96;
const MOST_REF_BYTES: u64 = 4096;
/// Snapshots that a message lists.
const LISTED: usize = 5;

/// The variables that say where the cache is, as they are set.
#[derive(Clone, Debug, Default)]
pub struct HubEnvironment {
    /// `HF_HUB_CACHE`: the cache itself.
    pub hf_hub_cache: Option<OsString>,
    /// `HUGGINGFACE_HUB_CACHE`: its older name.
    pub huggingface_hub_cache: Option<OsString>,
    /// `HF_HOME`: the folder above the cache.
    pub hf_home: Option<OsString>,
    /// `XDG_CACHE_HOME`: where caches of all programs are.
    pub xdg_cache_home: Option<OsString>,
    /// `HOME`.
    pub home: Option<OsString>,
}

impl HubEnvironment {
    /// The variables of this process.
    pub fn of_this_process() -> HubEnvironment {
        let get = std::env::var_os;
        HubEnvironment {
            hf_hub_cache: get("HF_HUB_CACHE"),
            huggingface_hub_cache: get("HUGGINGFACE_HUB_CACHE"),
            hf_home: get("HF_HOME"),
            xdg_cache_home: get("XDG_CACHE_HOME"),
            home: get("HOME"),
        }
    }

    /// Where the cache is, whether or not it is there; `None` if nothing tells. Empty variables count as not set, and a
    /// leading `~` is `HOME`, as in the hub's own tools.
    pub fn cache(&self) -> Option<PathBuf> {
        let path = |value: &Option<OsString>| {
            let path = PathBuf::from(value.as_ref().filter(|value| !value.is_empty())?);
            match (path.strip_prefix("~"), &self.home) {
                (Ok(rest), Some(home)) => Some(Path::new(home).join(rest)),
                _ => Some(path),
            }
        };
        path(&self.hf_hub_cache)
            .or_else(|| path(&self.huggingface_hub_cache))
            .or_else(|| Some(path(&self.hf_home)?.join("hub")))
            .or_else(|| Some(path(&self.xdg_cache_home)?.join("huggingface/hub")))
            .or_else(|| Some(path(&self.home)?.join(".cache/huggingface/hub")))
    }
}

/// A folder that was asked for, by its path or by a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Where it is.
    pub path: PathBuf,
    /// What it is in the cache, if a name was given.
    pub snapshot: Option<Snapshot>,
}

/// A snapshot in the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The repository, as `org/name`.
    pub name: String,
    /// The commit.
    pub commit: String,
    /// The folder of it that was asked for.
    pub component: Option<String>,
    /// What was asked for behind the `@`, whole if it was the beginning of a commit.
    revision: Option<String>,
}

impl From<&Path> for Place {
    fn from(path: &Path) -> Place {
        Place { path: path.to_owned(), snapshot: None }
    }
}

impl Place {
    /// The name of its repository, if it is a snapshot.
    pub fn name(&self) -> Option<&str> {
        self.snapshot.as_ref().map(|snapshot| snapshot.name.as_str())
    }

    /// What a snapshot was asked for as: its repository, and the folder in it.
    pub fn label(&self) -> Option<String> {
        let Snapshot { name, component, .. } = self.snapshot.as_ref()?;
        Some(component.as_ref().map_or_else(|| name.clone(), |component| format!("{name}/{component}")))
    }

    /// How a folder in it is to be asked for.
    pub fn within(&self, folder: &str) -> String {
        match &self.snapshot {
            None => self.path.join(folder).display().to_string(),
            Some(Snapshot { name, revision, .. }) => {
                let revision = revision.as_ref().map(|revision| format!("@{revision}"));
                format!("{name}/{folder}{}", revision.unwrap_or_default())
            }
        }
    }

    /// What to say of files of the snapshot that are gone from the cache: links that lead to nothing.
    pub fn lost(&self) -> Option<String> {
        let snapshot = self.snapshot.as_ref()?;
        let entries = fs::read_dir(&self.path).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
        let lost = entries.filter(|path| path.is_symlink() && !path.exists());
        let mut names: Vec<String> =
            lost.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect();
        names.sort();
        let more = if names.len() > 1 { format!(" and {} more", names.len() - 1) } else { String::new() };
        let download = download(&snapshot.name, snapshot.revision.as_deref());
        let first = names.first()?;
        Some(format!(
            "`{first}`{more} of `{}` is gone from the cache: `{download}` fetches it",
            snapshot.name
        ))
    }

    /// The errors of reading it, with a hint on what is missing from a snapshot.
    #[must_use]
    pub fn explain(&self, error: Error) -> Error {
        let Some(snapshot) = &self.snapshot else { return error };
        let download = download(&snapshot.name, snapshot.revision.as_deref());
        error.map_each(&|error| {
            if !matches!(error.kind(), ErrorKind::Missing { .. } | ErrorKind::NoIndex { .. }) {
                return error;
            }
            let cure = format!("`{download}` fetches what a snapshot lacks");
            let hint = error.advice().map_or_else(|| cure.clone(), |hint| format!("{hint}; {cure}"));
            error.hint(hint)
        })
    }
}

/// The cache of the hub, or none, in which case every name is a path.
#[derive(Clone, Debug, Default)]
pub struct Hub {
    cache: Option<PathBuf>,
}

impl Hub {
    /// The cache that `environment` tells of.
    pub fn new(environment: &HubEnvironment) -> Hub {
        Hub { cache: environment.cache() }
    }

    /// What `typed` means: the path if anything is there, or if it is no name that the hub could give; else the snapshot of
    /// `name`, `org/name`, or either with `@` and a revision; of `org/name/folder` a folder in it. The revision is a branch or a tag that was fetched, or a
    /// commit or the beginning of one; without it `main`, else the only snapshot there is.
    ///
    /// # Errors
    /// [`ErrorKind::Missing`] if the cache does not hold it, or holds several; [`ErrorKind::Ref`] for a ref that holds no
    /// commit; [`ErrorKind::Read`].
    pub fn find(&self, typed: &Path) -> Result<Place> {
        let is_there = fs::symlink_metadata(typed).is_ok();
        match (&self.cache, typed.to_str().and_then(Wanted::parse)) {
            (Some(cache), Some(wanted)) if !is_there => wanted.find(cache),
            _ => Ok(typed.into()),
        }
    }
}

/// What a name asks for.
struct Wanted<'t> {
    typed: &'t str,
    name: &'t str,
    component: Option<&'t str>,
    revision: Option<&'t str>,
}

impl<'t> Wanted<'t> {
    /// `None` for what is no name of the hub.
    fn parse(typed: &'t str) -> Option<Wanted<'t>> {
        let (path, revision) = match typed.split_once('@') {
            Some((path, revision)) => (path, Some(revision)),
            None => (typed, None),
        };
        let parts = path.split('/').count();
        let (name, component) = match path.rsplit_once('/') {
            Some((name, component)) if parts > 2 => (name, Some(component)),
            _ => (path, None),
        };
        let is_name = parts <= 3 && path.split('/').all(is_name);
        (is_name && revision.is_none_or(is_revision)).then_some(Wanted { typed, name, component, revision })
    }

    /// The snapshot in `cache`.
    fn find(&self, cache: &Path) -> Result<Place> {
        let home = cache.join(format!("models--{}", self.name.replace('/', "--")));
        let snapshots = home.join("snapshots");
        if !snapshots.is_dir() {
            return Err(self.unknown(cache));
        }
        let mut commits = subfolders(&snapshots)?;
        commits.retain(|commit| is_commit(commit));
        let commit = match self.by_ref(&home)? {
            Some(commit) if commits.contains(&commit) => commit,
            Some(commit) => {
                let revision = self.revision.unwrap_or("main");
                let cause = format!("it is commit `{commit}`, which is not in `{}`", snapshots.display());
                return Err(self.not_cached(revision, &commits).because(cause));
            }
            None => self.by_commit(&commits, &snapshots)?,
        };
        let revision = self.revision.map(|revision| match commit.starts_with(revision) {
            true => commit.clone(),
            false => revision.to_owned(),
        });
        let mut path = snapshots.join(&commit);
        if let Some(component) = self.component {
            path.push(component);
            if !path.is_dir() {
                let cause = format!("the Hugging Face cache has no directory `{}` either", path.display());
                return Err(self.missing(cause));
            }
        }
        let (name, component) = (self.name.to_owned(), self.component.map(str::to_owned));
        Ok(Place { path, snapshot: Some(Snapshot { name, commit, component, revision }) })
    }

    /// The commit that the ref of its revision holds, if there is such a ref.
    fn by_ref(&self, home: &Path) -> Result<Option<String>> {
        let path = home.join("refs").join(self.revision.unwrap_or("main"));
        // Also where a part of it is a file.
        if !path.is_file() {
            return Ok(None);
        }
        let bytes = read_small(&path, MOST_REF_BYTES)?.unwrap_or_default();
        let found = String::from_utf8_lossy(&bytes);
        let commit = found.trim_ascii();
        if is_commit(commit) {
            return Ok(Some(commit.to_owned()));
        }
        let found = commit.chars().take(80).collect();
        Err(Error::new(ErrorKind::Ref { path, found })
            .hint(format!("`{}` writes it again", download(self.name, self.revision))))
    }

    /// The one commit that begins as its revision does.
    fn by_commit(&self, commits: &[String], snapshots: &Path) -> Result<String> {
        let revision = self.revision.unwrap_or_default();
        let fit: Vec<&String> = commits.iter().filter(|commit| commit.starts_with(revision)).collect();
        let at = snapshots.display();
        match (fit.as_slice(), self.revision) {
            ([commit], _) => Ok((*commit).clone()),
            ([], Some(_)) => Err(self.not_cached(revision, commits)),
            ([], None) => Err(self.missing(format!("the Hugging Face cache has nothing in `{at}`"))),
            (_, Some(_)) => Err(self.several(format!(
                "in the Hugging Face cache `{revision}` begins several commits in `{at}`{}",
                listing(&fit)
            ))),
            (_, None) => Err(self.several(format!(
                "the Hugging Face cache has several snapshots in `{at}` and no `refs/main`{}",
                listing(&fit)
            ))),
        }
    }

    fn missing(&self, cause: String) -> Error {
        self.with_cure(self.nowhere(cause))
    }

    fn unknown(&self, cache: &Path) -> Error {
        let (name, cache) = (self.typed.to_owned(), cache.to_owned());
        self.with_cure(ErrorKind::UnknownModel { name, cache }.into())
    }

    fn not_cached(&self, revision: &str, commits: &[String]) -> Error {
        let (name, revision) = (self.name.to_owned(), revision.to_owned());
        let cached = commits.iter().take(LISTED).cloned().collect();
        self.with_cure(ErrorKind::UnknownRevision { name, revision, cached }.into())
    }

    fn with_cure(&self, error: Error) -> Error {
        let download = download(self.name, self.revision);
        error.hint(format!("`{download}` fetches it, if that is a repo id"))
    }

    fn several(&self, cause: String) -> Error {
        self.nowhere(cause).hint(format!("`{}@COMMIT` names one of them", self.name))
    }

    fn nowhere(&self, cause: String) -> Error {
        Error::new(ErrorKind::Missing { what: "directory", path: self.typed.into() }).because(cause)
    }
}

/// What is to be run to get a snapshot.
fn download(name: &str, revision: Option<&str>) -> String {
    let revision = revision.map(|revision| format!(" --revision {revision}")).unwrap_or_default();
    format!("hf download {name}{revision}")
}

/// The first few commits, for the end of a message.
fn listing(commits: &[impl AsRef<str>]) -> String {
    if commits.is_empty() {
        return String::new();
    }
    let shown: Vec<String> =
        commits.iter().take(LISTED).map(|commit| format!("`{}`", commit.as_ref())).collect();
    let more = if commits.len() > LISTED { ", …" } else { "" };
    format!(": {}{more}", shown.join(", "))
}

/// Whether a part of `org/name` is one by the hub's rules. `--` parts the two in the cache, so neither holds it.
fn is_name(part: &str) -> bool {
    (1..=MOST_NAME_CHARS).contains(&part.len())
        && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
        && !part.starts_with(['-', '.'])
        && !part.ends_with(['-', '.'])
        && !part.contains("--")
        && !part.contains("..")
}

/// Whether a text can be a branch, a tag or a commit. A branch may have several parts, as `refs/pr/1`.
fn is_revision(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.+/".contains(&byte);
    text.bytes().all(is_plain)
        && text
            .split('/')
            .all(|part| !part.is_empty() && !part.starts_with(['-', '.']) && !part.contains(".."))
}

/// Whether a text is a plain name of a commit.
fn is_commit(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}
