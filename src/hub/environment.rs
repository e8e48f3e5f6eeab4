//! The environment variables of the hub's own tools: where the cache is, where the hub is, and what shows who asks.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
#[cfg(any(feature = "hub", test))]
use std::time::Duration;

/// Where the hub is unless `HF_ENDPOINT` says otherwise.
#[cfg(any(feature = "hub", test))]
const ENDPOINT: &str = "https://huggingface.co";

/// The variables of the hub's tools, as they are set.
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
    /// `HF_ENDPOINT`: where the hub is.
    pub hf_endpoint: Option<OsString>,
    /// `HF_TOKEN`: what shows who asks.
    pub hf_token: Option<OsString>,
    /// `HF_TOKEN_PATH`: the file that holds it.
    pub hf_token_path: Option<OsString>,
    /// `HF_HUB_DISABLE_IMPLICIT_TOKEN`: whether it is not shown.
    pub hf_hub_disable_implicit_token: Option<OsString>,
    /// `HF_HUB_OFFLINE`: whether the hub is not asked.
    pub hf_hub_offline: Option<OsString>,
    /// `TRANSFORMERS_OFFLINE`: the same.
    pub transformers_offline: Option<OsString>,
    /// `HF_HUB_DOWNLOAD_TIMEOUT`: seconds in which something has to come.
    pub hf_hub_download_timeout: Option<OsString>,
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
            hf_endpoint: get("HF_ENDPOINT"),
            hf_token: get("HF_TOKEN"),
            hf_token_path: get("HF_TOKEN_PATH"),
            hf_hub_disable_implicit_token: get("HF_HUB_DISABLE_IMPLICIT_TOKEN"),
            hf_hub_offline: get("HF_HUB_OFFLINE"),
            transformers_offline: get("TRANSFORMERS_OFFLINE"),
            hf_hub_download_timeout: get("HF_HUB_DOWNLOAD_TIMEOUT"),
        }
    }

    /// Where the cache is, whether or not it is there; `None` if nothing tells. Empty variables count as not set, and a
    /// leading `~` is `HOME`, as in the hub's own tools.
    pub fn cache(&self) -> Option<PathBuf> {
        self.path(&self.hf_hub_cache)
            .or_else(|| self.path(&self.huggingface_hub_cache))
            .or_else(|| Some(self.dir()?.join("hub")))
    }
}

/// What is needed to ask the hub.
#[cfg(any(feature = "hub", test))]
impl HubEnvironment {
    /// Where the hub is, without a `/` at the end.
    pub(crate) fn endpoint(&self) -> String {
        let endpoint = text(&self.hf_endpoint).unwrap_or_else(|| ENDPOINT.to_owned());
        endpoint.trim_end_matches('/').to_owned()
    }

    /// What shows who asks, if a variable holds it and it is to be shown.
    pub(crate) fn token(&self) -> Option<String> {
        text(&self.hf_token).filter(|_| self.shows_token())
    }

    /// The file that would hold it; none if it is not to be shown.
    pub(crate) fn token_path(&self) -> Option<PathBuf> {
        let path = self.path(&self.hf_token_path).or_else(|| Some(self.dir()?.join("token")));
        path.filter(|_| self.shows_token())
    }

    /// Whether the hub is not to be asked.
    pub(crate) fn is_offline(&self) -> bool {
        is_true(&self.hf_hub_offline) || is_true(&self.transformers_offline)
    }

    /// How long nothing may come, if a variable says so.
    pub(crate) fn stall(&self) -> Option<Duration> {
        let seconds = text(&self.hf_hub_download_timeout)?.parse().ok().filter(|seconds| *seconds > 0)?;
        Some(Duration::from_secs(seconds))
    }

    fn shows_token(&self) -> bool {
        !is_true(&self.hf_hub_disable_implicit_token)
    }
}

impl HubEnvironment {
    /// The directory of the hub's tools.
    fn dir(&self) -> Option<PathBuf> {
        self.path(&self.hf_home)
            .or_else(|| Some(self.path(&self.xdg_cache_home)?.join("huggingface")))
            .or_else(|| Some(self.path(&self.home)?.join(".cache/huggingface")))
    }

    fn path(&self, value: &Option<OsString>) -> Option<PathBuf> {
        let path = PathBuf::from(value.as_ref().filter(|value| !value.is_empty())?);
        match (path.strip_prefix("~"), &self.home) {
            (Ok(rest), Some(home)) => Some(Path::new(home).join(rest)),
            _ => Some(path),
        }
    }
}

/// The text of a variable that is set.
#[cfg(any(feature = "hub", test))]
fn text(value: &Option<OsString>) -> Option<String> {
    let text = value.as_ref()?.to_string_lossy().trim().to_owned();
    (!text.is_empty()).then_some(text)
}

/// Whether a variable says yes, as the hub's tools read it.
#[cfg(any(feature = "hub", test))]
fn is_true(value: &Option<OsString>) -> bool {
    let text = text(value).unwrap_or_default().to_ascii_uppercase();
    matches!(text.as_str(), "1" | "ON" | "YES" | "TRUE")
}
