//! Who may read a repository: the token as `hf` keeps it, and what the hub's refusals mean.

use ureq::http::HeaderValue;

use crate::error::request::RequestError;
use crate::error::{Error, Result};
use crate::hub::environment::HubEnvironment;
use crate::hub::parse::RepoQuery;
use crate::storage::http::answer::Answer;
use crate::storage::location::Location;

/// A token is far shorter.
const MOST_TOKEN_BYTES: u64 = 4096;

/// The header that shows the token, if there is one.
///
/// # Errors
/// [`RequestError::Token`] for one that cannot be sent; as reading its file.
pub(crate) fn authorization(environment: &HubEnvironment) -> Result<Option<HeaderValue>> {
    let (token, place) = match environment.token() {
        Some(token) => (token, "`HF_TOKEN`".to_owned()),
        None => {
            let Some(path) = environment.token_path() else { return Ok(None) };
            let file = Location::of_path(&path);
            let above = file.parent();
            let Some((above, name)) = above.as_ref().zip(file.name()) else { return Ok(None) };
            let Some(bytes) = above.read_small(name, MOST_TOKEN_BYTES)? else { return Ok(None) };
            (String::from_utf8_lossy(&bytes).into_owned(), format!("`{}`", path.display()))
        }
    };
    let token = token.trim();
    if token.is_empty() {
        return Ok(None);
    }
    let mut header = HeaderValue::from_str(&format!("Bearer {token}"))
        .map_err(|_| Error::new(RequestError::Token { place }).hint("`hf auth login` writes it again"))?;
    header.set_sensitive(true);
    Ok(Some(header))
}

/// What an answer means that is not what was asked for; none if it is.
pub(crate) fn refusal(wanted: &RepoQuery<'_>, endpoint: &str, answer: &Answer) -> Option<Error> {
    let name = wanted.name.to_owned();
    let page = format!("{endpoint}/{name}");
    let code = answer.header("x-error-code").unwrap_or_default();
    match (answer.status(), code) {
        (200, _) => None,
        (_, "RevisionNotFound") => {
            let revision = wanted.revision.unwrap_or("main").to_owned();
            Some(RequestError::NoRevision { name, revision, endpoint: endpoint.to_owned() }.into())
        }
        (_, "GatedRepo") | (403, _) => {
            let error = Error::new(RequestError::NoAccess { name, endpoint: endpoint.to_owned() });
            Some(error.hint(format!(
                "accept its licence at {page}, then `hf auth login`, or set `HF_TOKEN` to a token that may read it"
            )))
        }
        (401 | 404 | 410, _) => {
            let error = Error::new(RequestError::NoRepo { name, endpoint: endpoint.to_owned() });
            Some(error.hint("check its spelling; if it is private, `hf auth login` first, or set `HF_TOKEN`"))
        }
        (status, _) => {
            let error = Error::new(RequestError::HubUnreachable { endpoint: endpoint.to_owned() });
            Some(error.because(format!("it answered {status} to a question about `{name}`")))
        }
    }
}
