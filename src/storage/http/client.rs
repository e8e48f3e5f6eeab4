//! [`HttpClient`]: requests to a server that may send on to others.

use ureq::Agent;
use ureq::http::{HeaderValue, Uri, header};

use crate::cancel::Cancel;
use crate::storage::http::agent::{Manners, agent};
use crate::storage::http::answer::{Answer, ByteRange};
use crate::storage::http::problem::{Failure, ServerProblem};
use crate::storage::http::tries::{GaveUp, Patience, Tries};
use crate::storage::http::url::{UrlOrigin, host, redirected, shown};

/// Times that one request is sent on.
const REDIRECTS_MOST: usize = 5;

/// A client of one server.
pub(crate) struct HttpClient {
    agent: Agent,
    /// Who gets the token: nobody else does, wherever that server sends on to.
    origin: UrlOrigin,
    token: Option<HeaderValue>,
    /// What ends requests and waits.
    pub(crate) cancel: Cancel,
    /// How often a request is made again.
    pub(crate) patience: Patience,
}

impl HttpClient {
    /// Of the server at `origin`, which gets `token`.
    pub(crate) fn new(
        origin: UrlOrigin,
        token: Option<HeaderValue>,
        patience: Patience,
        cancel: &Cancel,
    ) -> HttpClient {
        let agent = agent(Manners::default(), patience, cancel);
        HttpClient { agent, origin, token, cancel: cancel.clone(), patience }
    }

    /// Asks `url` once, all of it or a range, and goes where the answers lead.
    ///
    /// # Errors
    /// What went wrong on the way; an answer is none, whatever its status.
    pub(crate) fn get(&self, url: &Uri, range: Option<ByteRange>) -> Result<Answer, Failure> {
        let mut at = url.clone();
        for _ in 0..=REDIRECTS_MOST {
            let answer = self.get_here(at, range)?;
            if !matches!(answer.status(), 301 | 302 | 303 | 307 | 308) {
                return Ok(answer);
            }
            let location = answer.header(header::LOCATION.as_str()).unwrap_or_default();
            at = redirected(&answer.url, location).map_err(|why| {
                let (host, to) = (host(&answer.url), shown(location));
                Failure::Lasting(ServerProblem::BadRedirect { host, to, why })
            })?;
        }
        Err(Failure::Lasting(ServerProblem::RedirectLoop { host: host(url) }))
    }

    /// All of the answer to a request that is made again while it may succeed. Its status is the caller's to read, but it is none
    /// that would pass.
    ///
    /// # Errors
    /// Why it is not made again.
    pub(crate) fn get_patiently<T>(
        &self,
        url: &Uri,
        mut read: impl FnMut(Answer) -> Result<T, Failure>,
    ) -> Result<T, GaveUp> {
        let mut tries = Tries::new(self.patience, &self.cancel);
        loop {
            let answer = self.get(url, None);
            match answer
                .and_then(|answer| if answer.is_passing() { Err(answer.failure()) } else { read(answer) })
            {
                Ok(read) => return Ok(read),
                Err(failure) => tries.failed(self.unless_stopped(failure))?,
            }
        }
    }

    /// A failure as it is, or that work should stop: then whatever went wrong went wrong for that.
    pub(crate) fn unless_stopped(&self, failure: Failure) -> Failure {
        if self.cancel.is_cancelled() { Failure::Stopped } else { failure }
    }

    fn get_here(&self, url: Uri, range: Option<ByteRange>) -> Result<Answer, Failure> {
        let mut request = self.agent.get(&url);
        if let Some(range) = range.and_then(ByteRange::header) {
            request = request.header(header::RANGE, range);
        }
        let token = self.token.as_ref().filter(|_| UrlOrigin::of(&url).as_ref() == Some(&self.origin));
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, token);
        }
        match request.call() {
            Ok(response) => Ok(Answer::new(url, response)),
            Err(error) => Err(self.unless_stopped(unreachable(&url, error))),
        }
    }
}

/// The failure of a request that got no answer.
fn unreachable(url: &Uri, error: ureq::Error) -> Failure {
    let (host, cause) = (host(url), error.to_string());
    match error {
        // A certificate does not become right.
        ureq::Error::Tls(_) => Failure::Lasting(ServerProblem::Unreachable { host, cause }),
        _ => Failure::Passing(ServerProblem::Unreachable { host, cause }, None),
    }
}
