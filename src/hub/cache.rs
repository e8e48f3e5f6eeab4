//! [`Hub`]: what a name means, by the hub's cache, and behind it on the hub.

use std::path::Path;

use crate::cancel::Cancel;
#[cfg(feature = "hub")]
use crate::error::Error;
use crate::error::Result;
#[cfg(feature = "hub")]
use crate::error::exit::Code;
use crate::hub::environment::HubEnvironment;
use crate::hub::fetching::Watch;
use crate::hub::parse::RepoQuery;
#[cfg(feature = "hub")]
use crate::hub::remote::endpoint::RemoteHub;
#[cfg(feature = "hub")]
use crate::hub::remote::keep::keep;
use crate::hub::resolved::{Origin, Resolved};
#[cfg(feature = "hub")]
use crate::hub::wants::Wants;
#[cfg(feature = "hub")]
use crate::hub::whole::{holds_weights, is_whole};
use crate::storage::address;
use crate::storage::location::Location;
use crate::storage::nearby::nearby;
use crate::storage::rules;
use crate::storage::store::Store;

/// The cache of the hub, or none, in which case every name is a path.
#[derive(Clone, Debug, Default)]
pub struct Hub {
    cache: Option<Location>,
    /// What ends waiting for an object store.
    cancel: Cancel,
    /// The hub itself, if it may be asked.
    #[cfg(feature = "hub")]
    remote: Option<RemoteHub>,
    /// Which of its files are put into the cache before they are read, if any are.
    #[cfg(feature = "hub")]
    keeps: Option<Wants>,
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

    /// The same, where the files of the hub that `wants` names are put into the cache before they are read.
    #[cfg(feature = "hub")]
    #[must_use]
    pub(crate) fn keeping(self, wants: Wants) -> Hub {
        Hub { keeps: Some(wants), ..self }
    }

    /// Whether what is read of the hub is put into the cache.
    pub(crate) fn keeps(&self) -> bool {
        #[cfg(feature = "hub")]
        return self.keeps.is_some();
        #[cfg(not(feature = "hub"))]
        false
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
    /// [`StorageError::Missing`](crate::error::storage::StorageError::Missing) if nothing is there, and the cache does not hold it,
    /// or holds several; [`CheckpointError::Ref`](crate::error::checkpoint::CheckpointError::Ref) for a ref that holds no commit;
    /// [`StorageError::Unreadable`](crate::error::storage::StorageError::Unreadable).
    pub fn find(&self, typed: &Path) -> Result<Resolved> {
        self.find_watched(typed, &mut |_| {})
    }

    /// The same; `watch` sees what is put into the cache.
    ///
    /// # Errors
    /// As [`find`](Hub::find).
    pub(crate) fn find_watched(&self, typed: &Path, watch: &mut Watch<'_>) -> Result<Resolved> {
        let location = Location::of_path(typed);
        if location.stat("")?.is_some() {
            return Ok(location.into());
        }
        match (&self.cache, typed.to_str().and_then(RepoQuery::parse)) {
            (Some(cache), Some(wanted)) => match wanted.find(cache) {
                // A path of which a directory is here was typed wrong: no hub is asked for it.
                Err(error) if nearby(typed).is_some_and(|nearby| nearby.is_path) => Err(error),
                cached => self.behind((&wanted, cache), cached, watch),
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
    fn behind(
        &self,
        (wanted, cache): (&RepoQuery<'_>, &Location),
        cached: Result<Resolved>,
        watch: &mut Watch<'_>,
    ) -> Result<Resolved> {
        // A word alone is more often a directory that was typed wrong.
        if !wanted.name.contains('/') {
            return cached;
        }
        let Some(remote) = &self.remote else { return cached.map_err(|error| self.offline(error)) };
        if self.suffices(&cached)? {
            return cached;
        }
        let found = remote.find(wanted).and_then(|repository| match self.keeps {
            Some(wants) if keep(&repository, &cache.path(), wants, watch)? => wanted.find(cache),
            _ => Ok(repository.into_resolved()),
        });
        match (found, cached) {
            // What is cached is all there is, and whoever reads it says what it lacks.
            (Err(error), Ok(cached)) if error.exit_code() == Code::NoInput => Ok(cached),
            (found, _) => found,
        }
    }

    #[cfg(not(feature = "hub"))]
    fn behind(
        &self,
        _: (&RepoQuery<'_>, &Location),
        cached: Result<Resolved>,
        _: &mut Watch<'_>,
    ) -> Result<Resolved> {
        cached
    }

    /// Whether the hub need not be asked: the cache has what is meant, or fails in a way in which it would not help.
    #[cfg(feature = "hub")]
    fn suffices(&self, cached: &Result<Resolved>) -> Result<bool> {
        match cached {
            Err(error) => Ok(error.exit_code() != Code::NoInput),
            Ok(found) if self.keeps() => is_whole(&found.location),
            // Programs that asked for the config or the tokenizer alone leave a snapshot without weights.
            Ok(found) => holds_weights(&found.location),
        }
    }

    /// The error of a name that is not in the cache, where the hub may not be asked.
    #[cfg(feature = "hub")]
    fn offline(&self, error: Error) -> Error {
        if !self.keeps() || error.exit_code() != Code::NoInput {
            return error;
        }
        error.hint(
            "`HF_HUB_OFFLINE` or `TRANSFORMERS_OFFLINE` is set, so that `--cache` fetches nothing: unset it where there is a network",
        )
    }

    /// What `origin` means: [`find`](Hub::find) for what was typed.
    ///
    /// # Errors
    /// As [`find`](Hub::find).
    pub fn resolve(&self, origin: &Origin) -> Result<Resolved> {
        self.resolve_watched(origin, &mut |_| {})
    }

    /// The same; `watch` sees what is put into the cache.
    ///
    /// # Errors
    /// As [`find`](Hub::find).
    pub(crate) fn resolve_watched(&self, origin: &Origin, watch: &mut Watch<'_>) -> Result<Resolved> {
        match origin {
            Origin::Typed(typed) => self.find_watched(typed, watch),
            Origin::At(location) => Ok(location.clone().into()),
        }
    }
}
