//! What can be wrong with a request and its answer.

use std::time::Duration;

/// What was wrong with one request. No URL is in it but its host, as what follows may be signed.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum ServerProblem {
    #[error("`{host}` cannot be reached: {cause}")]
    Unreachable { host: String, cause: String },
    #[error("the connection to `{host}` broke: {cause}")]
    Broken { host: String, cause: String },
    #[error("`{host}` answered {}", status_text(*status))]
    Status { host: String, status: u16 },
    #[error("`{host}` answered a request for bytes {first} to {last} with the whole file (200, not 206)")]
    NotPartial { host: String, first: u64, last: u64 },
    #[error("asked for bytes {first} to {last} of {bytes}, `{host}` answered with Content-Range `{found}`")]
    OtherRange { host: String, first: u64, last: u64, bytes: u64, found: String },
    #[error("asked for {expected} bytes, `{host}` announced {found}")]
    OtherLength { host: String, expected: u64, found: u64 },
    #[error("`{host}` sent more than the {expected} bytes that were asked for")]
    MoreBytes { host: String, expected: u64 },
    #[error("`{host}` sent bytes encoded as `{encoding}`, which nobody asked for")]
    Encoded { host: String, encoding: String },
    #[error("`{host}` sends on to `{to}`, {why}")]
    BadRedirect { host: String, to: String, why: &'static str },
    #[error("`{host}` sends on without end")]
    RedirectLoop { host: String },
    #[error("the answer of `{host}` is longer than {most} bytes")]
    LongAnswer { host: String, most: u64 },
}

/// How one request failed.
pub(crate) enum Failure {
    /// It may succeed if it is made again, not before so long, if the server says when.
    Passing(ServerProblem, Option<Duration>),
    /// It would fail again.
    Lasting(ServerProblem),
    /// Work should stop.
    Stopped,
}

/// A status as it is known.
fn status_text(status: u16) -> String {
    let reason = ureq::http::StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
    reason.map_or_else(|| status.to_string(), |reason| format!("{status} {reason}"))
}
