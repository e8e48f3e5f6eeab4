//! [`RemoteRepository`]: a repository as it is at one commit, listed.

use std::path::PathBuf;
use std::sync::Arc;

use crate::hub::resolved::{RepoSnapshot, Resolved};
use crate::storage::http::client::HttpClient;
use crate::storage::http::file::HttpFileInfo;
use crate::storage::http::store::HttpStore;
use crate::storage::location::Location;

/// What messages call it where it stands for the network that a base is on.
const NAME: &str = "the Hugging Face hub";

/// A repository as it is at one commit.
pub(crate) struct RemoteRepository {
    /// As `org/name`.
    pub(crate) name: String,
    /// The directory in it that was asked for.
    pub(crate) component: Option<String>,
    /// The branch, tag or commit that was asked for.
    pub(crate) revision: String,
    /// The commit that this is.
    pub(crate) commit: String,
    /// What messages call it.
    pub(crate) path: PathBuf,
    /// All of its files, by name.
    pub(crate) files: Vec<(String, HttpFileInfo)>,
    /// Who asks for them.
    pub(crate) client: Arc<HttpClient>,
}

impl RemoteRepository {
    /// Its files, read by ranges as they are needed.
    pub(crate) fn into_resolved(self) -> Resolved {
        let store = HttpStore::new(&self.client, self.files, (self.path, NAME));
        let location = Location::new(store).join(self.component.as_deref().unwrap_or_default());
        // A branch may have moved when somebody asks again; the commit has not.
        let revision = Some(self.commit.clone());
        let RemoteRepository { name, commit, component, .. } = self;
        let snapshot = RepoSnapshot { name, commit, component, revision, is_cached: false };
        Resolved { location, snapshot: Some(snapshot) }
    }
}
