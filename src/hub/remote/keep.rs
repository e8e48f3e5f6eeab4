//! A repository put into the cache, as the hub's own tools lay it out: each file as `blobs/HASH`, `snapshots/COMMIT/NAME` a link to
//! it, and `refs/REVISION` the commit.
//!
//! Whatever ends a run, the next goes on: a blob has its name only when it is whole and checked, links are made when all blobs are
//! there, those of weights last, and the ref behind them. Two runs at once wait for each other, blob by blob, by the locks of the
//! hub's tools; where a file system has none they do the same work twice, and no harm.

use std::collections::BTreeSet;
use std::path::Path;

use crate::error::request::RequestError;
use crate::error::{Error, Result};
use crate::hub::fetching::{Fetching, Watch};
use crate::hub::remote::blob::{Fetcher, KeptFile, Meter};
use crate::hub::remote::repository::RemoteRepository;
use crate::hub::wants::Wants;
use crate::storage::files::write_small;
use crate::storage::folder::Folder;
use crate::storage::location::Location;
use crate::storage::store::Store;

/// How files end that links are made to last: a snapshot without them is not taken for one.
const WEIGHTS: &str = ".safetensors";
const MOST_REF_BYTES: u64 = 4096;

/// Puts the files of `repository` that are wanted into `cache`, as far as it lacks them. `false`: none is.
///
/// # Errors
/// [`RequestError::CacheFull`], [`RequestError::WrongBytes`], [`RequestError::NoHash`]; as reading and writing.
pub(crate) fn keep(
    repository: &RemoteRepository,
    cache: &Path,
    wants: Wants,
    watch: &mut Watch<'_>,
) -> Result<bool> {
    let home = format!("models--{}", repository.name.replace('/', "--"));
    let folder = Folder::new(cache.join(&home));
    let files = wanted(repository, wants)?;
    if files.is_empty() {
        return Ok(false);
    }
    let unlinked = unlinked(&folder, repository, &files)?;
    let missing = missing(&folder, &unlinked)?;
    check_room(&folder, repository, &missing)?;
    if !missing.is_empty() {
        let now = Fetching {
            what: format!("{}@{}", repository.name, repository.commit),
            files: missing.len(),
            total_bytes: missing.iter().map(|file| file.info.bytes).sum(),
            ..Fetching::default()
        };
        let locks = Folder::new(cache.join(".locks").join(&home));
        let mut fetcher = Fetcher::new((&folder, &locks), repository, Meter::new(now, watch));
        missing.iter().try_for_each(|file| fetcher.fetch(file))?;
    }
    link(&folder, repository, &unlinked)?;
    set_ref(&folder, repository)?;
    Ok(true)
}

/// The files that are wanted, of the directory that was asked for.
fn wanted(repository: &RemoteRepository, wants: Wants) -> Result<Vec<KeptFile<'_>>> {
    let start = repository.component.as_ref().map(|component| format!("{component}/")).unwrap_or_default();
    let below: Vec<_> = repository.files.iter().filter(|(name, _)| name.starts_with(&start)).collect();
    let names: Vec<&str> = below.iter().map(|(name, _)| &name[start.len()..]).collect();
    let wanted = below.iter().zip(wants(&names)).filter(|(_, is_wanted)| *is_wanted);
    wanted.map(|((name, info), _)| KeptFile::new(name, info)).collect()
}

/// Those files that are not in the snapshot.
fn unlinked<'f, 'r>(
    folder: &Folder,
    repository: &RemoteRepository,
    files: &'f [KeptFile<'r>],
) -> Result<Vec<&'f KeptFile<'r>>> {
    let mut unlinked = Vec::new();
    for file in files {
        if !file.is_at(folder, &in_snapshot(repository, file.name))? {
            unlinked.push(file);
        }
    }
    Ok(unlinked)
}

/// Those files whose bytes are nowhere in the cache, each once.
fn missing<'f, 'r>(folder: &Folder, files: &[&'f KeptFile<'r>]) -> Result<Vec<&'f KeptFile<'r>>> {
    let (mut missing, mut seen) = (Vec::new(), BTreeSet::new());
    for &file in files {
        if seen.insert(file.hash) && !file.is_at(folder, &file.blob())? {
            missing.push(file);
        }
    }
    Ok(missing)
}

/// Fails if the disk has no room for what is to come.
fn check_room(folder: &Folder, repository: &RemoteRepository, missing: &[&KeptFile<'_>]) -> Result<()> {
    let mut needed = 0;
    for file in missing {
        let there = folder.stat(&file.part())?.map_or(0, |stat| stat.bytes);
        needed += file.info.bytes.saturating_sub(there);
    }
    match folder.free_bytes("") {
        Some(free) if free < needed => {
            let (cache, name) = (folder.path().to_owned(), repository.name.clone());
            let error = Error::new(RequestError::CacheFull { cache, name, needed, free });
            Err(error.hint(
                "without `--cache` it is read from the hub as it is needed, and takes no room; or set `HF_HUB_CACHE` to a directory \
                 with more",
            ))
        }
        // A file system that does not tell is found out by writing.
        _ => Ok(()),
    }
}

fn in_snapshot(repository: &RemoteRepository, name: &str) -> String {
    format!("snapshots/{}/{name}", repository.commit)
}

/// Makes the links of a snapshot, and makes them last.
fn link(folder: &Folder, repository: &RemoteRepository, files: &[&KeptFile<'_>]) -> Result<()> {
    let mut dirs = BTreeSet::new();
    let weights_last = [false, true].map(|is_last| {
        let is_now = move |file: &&&KeptFile<'_>| file.name.ends_with(WEIGHTS) == is_last;
        files.iter().filter(is_now)
    });
    for file in weights_last.into_iter().flatten() {
        let name = in_snapshot(repository, file.name);
        let up = "../".repeat(name.matches('/').count());
        folder.link(&name, &format!("{up}{}", file.blob()))?;
        dirs.extend(name.match_indices('/').map(|(end, _)| name[..end].to_owned()));
    }
    dirs.iter().rev().try_for_each(|dir| folder.sync(dir))
}

/// Notes which commit the revision is.
fn set_ref(folder: &Folder, repository: &RemoteRepository) -> Result<()> {
    let RemoteRepository { revision, commit, .. } = repository;
    if revision == commit {
        return Ok(());
    }
    let name = format!("refs/{revision}");
    // One that is right is left alone: the cache may be another user's.
    let found = Location::of_path(folder.path()).read_small(&name, MOST_REF_BYTES)?;
    if found.as_deref() == Some(commit.as_bytes()) {
        return Ok(());
    }
    write_small(folder, &name, commit.as_bytes())
}
