//! The environment variables that say where the hub's cache is.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The variables that say where the cache is, as they are set.
#[derive(Clone, Debug, Default)]
pub struct HubEnvironment {
    /// `HF_HUB_CACHE`: the cache itself.
    pub hf_hub_cache: Option<OsString>,
    /// `HUGGINGFACE_HUB_CACHE`: its older name.
    pub huggingface_hub_cache: Option<OsString>,
    /// `HF_HOME`: the directory above the cache.
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
