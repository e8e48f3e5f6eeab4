//! [`RemoteHub`]: the hub itself, where a repository that the cache lacks is found.

use std::path::PathBuf;
use std::sync::Arc;

use serde::Deserialize;
use ureq::http::Uri;

use crate::cancel::Cancel;
use crate::error::kind::ErrorKind;
use crate::error::request::RequestError;
use crate::error::{Error, Result};
use crate::hub::environment::HubEnvironment;
use crate::hub::parse::{RepoQuery, is_commit};
use crate::hub::remote::access::{authorization, refusal};
use crate::hub::remote::listing::{ListedFile, MOST_PAGE_BYTES, add_page, next_page};
use crate::hub::remote::repository::RemoteRepository;
use crate::storage::http::client::HttpClient;
use crate::storage::http::file::HttpFileInfo;
use crate::storage::http::tries::{GaveUp, Patience};
use crate::storage::http::url::{UrlOrigin, path_part};

/// Digits of a whole commit, and of one in a message.
const COMMIT_DIGITS: usize = 40;
const SHOWN_DIGITS: usize = 12;

/// The hub that an environment tells of.
#[derive(Clone, Debug)]
pub(crate) struct RemoteHub {
    environment: HubEnvironment,
    cancel: Cancel,
}

/// What the hub says of a revision.
#[derive(Deserialize)]
struct RevisionInfo {
    sha: String,
}

/// One repository, asked about.
struct Question<'q> {
    wanted: &'q RepoQuery<'q>,
    endpoint: String,
    client: Arc<HttpClient>,
}

impl RemoteHub {
    /// The hub of `environment`; none where that says that there is no network.
    pub(crate) fn new(environment: &HubEnvironment) -> Option<RemoteHub> {
        let is_online = !environment.is_offline();
        is_online.then(|| RemoteHub { environment: environment.clone(), cancel: Cancel::default() })
    }

    /// The same, whose requests end with `cancel`.
    pub(crate) fn stopped_by(self, cancel: &Cancel) -> RemoteHub {
        RemoteHub { cancel: cancel.clone(), ..self }
    }

    /// The repository that `wanted` names, at the commit that its revision is now.
    ///
    /// # Errors
    /// [`RequestError::NoRepo`], [`RequestError::NoAccess`], [`RequestError::NoRevision`], [`RequestError::HubUnreachable`];
    /// [`RequestError::Endpoint`] for an address that is none; [`ErrorKind::Stopped`].
    pub(crate) fn find(&self, wanted: &RepoQuery<'_>) -> Result<RemoteRepository> {
        let endpoint = self.environment.endpoint();
        let origin = endpoint.parse().ok().as_ref().and_then(UrlOrigin::of);
        let origin = origin.ok_or_else(|| RequestError::Endpoint { value: endpoint.clone() })?;
        let stall = self.environment.stall().unwrap_or(Patience::default().stall);
        let patience = Patience { stall, ..Patience::default() };
        let token = authorization(&self.environment)?;
        // A token of its own: a store that goes ends what is in flight for it.
        let client = Arc::new(HttpClient::new(origin, token, patience, &self.cancel.child()));
        Question { wanted, endpoint, client }.answer()
    }
}

impl Question<'_> {
    fn answer(&self) -> Result<RemoteRepository> {
        let commit = self.commit()?;
        let files = self.files(&commit)?;
        let path = PathBuf::from(format!("{}@{}", self.wanted.name, &commit[..SHOWN_DIGITS]));
        let page = format!("{}/{}", self.endpoint, self.wanted.name);
        let infos = files.into_iter().map(|ListedFile { name, bytes, content_id }| {
            let parts: Vec<String> = name.split('/').map(path_part).collect();
            let url = self.url(&format!("/{}/resolve/{commit}/{}", self.wanted.name, parts.join("/")))?;
            let cure =
                Some(format!("run the same command again; {page} shows whether the repository is there"));
            Ok((name.clone(), HttpFileInfo { url, bytes, path: path.join(name), content_id, cure }))
        });
        Ok(RemoteRepository {
            name: self.wanted.name.to_owned(),
            component: self.wanted.component.map(str::to_owned),
            revision: self.wanted.revision.unwrap_or("main").to_owned(),
            files: infos.collect::<Result<_>>()?,
            client: self.client.clone(),
            commit,
            path,
        })
    }

    /// The commit that the revision is now.
    fn commit(&self) -> Result<String> {
        let revision = path_part(self.wanted.revision.unwrap_or("main"));
        let url = self.url(&format!("/api/models/{}/revision/{revision}", self.wanted.name))?;
        let (answer, _) = self.ask(&url)?;
        let info: Option<RevisionInfo> = serde_json::from_slice(&answer).ok();
        let is_whole = |info: &RevisionInfo| info.sha.len() == COMMIT_DIGITS && is_commit(&info.sha);
        let info = info.filter(is_whole);
        Ok(info.ok_or_else(|| self.strange("it names no commit for the revision"))?.sha)
    }

    /// All files of the commit.
    fn files(&self, commit: &str) -> Result<Vec<ListedFile>> {
        let mut files = Vec::new();
        let mut page = self.url(&format!("/api/models/{}/tree/{commit}?recursive=true", self.wanted.name))?;
        loop {
            let before = files.len();
            let (answer, next) = self.ask(&page)?;
            add_page(&mut files, &answer).map_err(|problem| self.strange(problem))?;
            match next {
                // One that adds nothing and leads on could do so for ever.
                Some(next) if files.len() > before => page = next,
                _ => return Ok(files),
            }
        }
    }

    /// The answer to a question, and where its next page is.
    fn ask(&self, url: &Uri) -> Result<(Vec<u8>, Option<Uri>)> {
        let asked = self.client.get_patiently(url, |answer| {
            if let Some(error) = refusal(self.wanted, &self.endpoint, &answer) {
                return Ok(Err(error));
            }
            let next = next_page(&answer);
            Ok(Ok((answer.read_all(MOST_PAGE_BYTES)?, next)))
        });
        let (bytes, next) = asked.map_err(|gave_up| self.unreachable(&gave_up))??;
        Ok((bytes, next.map_err(|problem| self.strange(problem))?))
    }

    fn url(&self, path: &str) -> Result<Uri> {
        let text = format!("{}{path}", self.endpoint);
        Ok(text.parse().map_err(|_| RequestError::Endpoint { value: self.endpoint.clone() })?)
    }

    fn unreachable(&self, gave_up: &GaveUp) -> Error {
        let Some(text) = gave_up.text() else { return ErrorKind::Stopped.into() };
        self.strange(text).hint(format!(
            "where the network is, `hf download {}` puts it into the cache, which is looked into first",
            self.wanted.name
        ))
    }

    /// The error of an answer that is none.
    fn strange(&self, problem: impl ToString) -> Error {
        let error = Error::new(RequestError::HubUnreachable { endpoint: self.endpoint.clone() });
        error.because(format!("asked for `{}`: {}", self.wanted.typed, problem.to_string()))
    }
}
