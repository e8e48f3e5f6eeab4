//! [`HttpClient`]: requests to a server that may send on to others.

use ureq::http::{HeaderValue, Uri, header};
use ureq::unversioned::transport::{ConnectProxyConnector, Connector};
use ureq::{Agent, tls};

use crate::cancel::Cancel;
use crate::storage::http::answer::{Answer, ByteRange};
use crate::storage::http::connect::{PatientConnector, PatientResolver};
use crate::storage::http::problem::{Failure, ServerProblem};
use crate::storage::http::tries::{GaveUp, Patience, Tries};
use crate::storage::http::url::{UrlOrigin, host, redirected, shown};

/// Times that one request is sent on.
const REDIRECTS_MOST: usize = 5;
/// Connections that are kept for later requests.
const IDLE_MOST: usize = 16;
/// Bytes of a connection's buffers. An address that is signed has two thousand.
const INPUT_BYTES: usize = 32 << 10;
const OUTPUT_BYTES: usize = 16 << 10;

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
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("shardfold/", env!("CARGO_PKG_VERSION")))
            .accept_encoding("identity")
            .input_buffer_size(INPUT_BYTES)
            .output_buffer_size(OUTPUT_BYTES)
            .max_idle_connections(IDLE_MOST)
            .max_idle_connections_per_host(IDLE_MOST)
            .tls_config(tls_config())
            .build();
        let connector =
            ().chain(ConnectProxyConnector::default())
                .chain(PatientConnector { cancel: cancel.clone(), patience })
                .chain(tls_connector());
        let resolver = PatientResolver { cancel: cancel.clone(), patience };
        let agent = Agent::with_parts(config, connector, resolver);
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

/// The system's TLS and roots: what is compiled in elsewhere is C, which Linux hosts cannot compile for macOS.
#[cfg(target_os = "macos")]
fn tls_config() -> tls::TlsConfig {
    let builder = tls::TlsConfig::builder().provider(tls::TlsProvider::NativeTls);
    builder.root_certs(tls::RootCerts::PlatformVerifier).build()
}

#[cfg(target_os = "macos")]
fn tls_connector() -> ureq::unversioned::transport::NativeTlsConnector {
    Default::default()
}

/// TLS and roots that are compiled in, so that a static binary needs nothing of its host.
#[cfg(not(target_os = "macos"))]
fn tls_config() -> tls::TlsConfig {
    tls::TlsConfig::builder().provider(tls::TlsProvider::Rustls).build()
}

#[cfg(not(target_os = "macos"))]
fn tls_connector() -> ureq::unversioned::transport::RustlsConnector {
    Default::default()
}
