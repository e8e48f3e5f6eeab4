//! [`Answer`]: an answer whose head has come, and what its head says.

use std::io::Read;
use std::time::Duration;

use ureq::Body;
use ureq::http::{Response, Uri, header};

use crate::storage::http::problem::{Failure, ServerProblem};
use crate::storage::http::url::host;

/// The bytes of a file that are asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ByteRange {
    /// The first.
    pub(crate) first: u64,
    /// How many; not none.
    pub(crate) count: u64,
    /// Length of the whole file.
    pub(crate) of: u64,
}

impl ByteRange {
    /// The last byte.
    fn last(self) -> u64 {
        self.first + self.count - 1
    }

    /// The header that asks for it; none for a whole file, which some servers give in no other way.
    pub(crate) fn header(self) -> Option<String> {
        let is_whole = self.first == 0 && self.count == self.of;
        (!is_whole).then(|| format!("bytes={}-{}", self.first, self.last()))
    }
}

/// An answer whose head has come.
pub(crate) struct Answer {
    /// Who answered.
    pub(crate) url: Uri,
    response: Response<Body>,
}

impl Answer {
    /// What `url` answered.
    pub(crate) fn new(url: Uri, response: Response<Body>) -> Answer {
        Answer { url, response }
    }

    /// Its status.
    pub(crate) fn status(&self) -> u16 {
        self.response.status().as_u16()
    }

    /// A header, if it is there and is text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.response.headers().get(name)?.to_str().ok()
    }

    /// How long the server asks to wait, in seconds; a date is not read.
    fn retry_after(&self) -> Option<Duration> {
        self.header("retry-after")?.trim().parse().ok().map(Duration::from_secs)
    }

    /// The failure that its status is.
    pub(crate) fn failure(&self) -> Failure {
        let (host, status) = (host(&self.url), self.status());
        let problem = ServerProblem::Status { host, status };
        match status {
            408 | 425 | 429 | 500.. => Failure::Passing(problem, self.retry_after()),
            _ => Failure::Lasting(problem),
        }
    }

    /// Whether another request, made later, may get another answer.
    pub(crate) fn is_passing(&self) -> bool {
        matches!(self.failure(), Failure::Passing(..))
    }

    /// Fails unless it has the bytes of `range` and no others.
    pub(crate) fn check_range(&self, range: ByteRange) -> Result<(), Failure> {
        let host = host(&self.url);
        let (first, last) = (range.first, range.last());
        let is_part = range.header().is_some();
        match (self.status(), is_part) {
            (206, true) | (200, false) => {}
            (200, true) => return Err(Failure::Lasting(ServerProblem::NotPartial { host, first, last })),
            _ => return Err(self.failure()),
        }
        let encoding = self.header(header::CONTENT_ENCODING.as_str());
        if let Some(encoding) = encoding.filter(|encoding| *encoding != "identity") {
            let encoding = shortened(encoding);
            return Err(Failure::Lasting(ServerProblem::Encoded { host, encoding }));
        }
        let found = self.header(header::CONTENT_RANGE.as_str()).unwrap_or_default();
        if is_part && found != format!("bytes {first}-{last}/{}", range.of) {
            let (bytes, found) = (range.of, shortened(found));
            return Err(Failure::Lasting(ServerProblem::OtherRange { host, first, last, bytes, found }));
        }
        match self.response.body().content_length() {
            Some(found) if found != range.count => {
                Err(Failure::Lasting(ServerProblem::OtherLength { host, expected: range.count, found }))
            }
            _ => Ok(()),
        }
    }

    /// Fills `buf` with the body as far as it comes. Less is given where the connection broke behind some bytes.
    pub(crate) fn read_into(self, buf: &mut [u8]) -> Result<usize, Failure> {
        let host = host(&self.url);
        let mut body = self.response.into_body().into_reader();
        let mut done = 0;
        while done < buf.len() {
            match body.read(&mut buf[done..]) {
                Ok(0) if done == 0 => return Err(broken(host, "it ended before a byte had come")),
                Ok(0) => return Ok(done),
                Ok(count) => done += count,
                Err(error) if done == 0 => return Err(broken(host, error)),
                Err(_) => return Ok(done),
            }
        }
        // The end is looked at, too: then the connection can be used again.
        match body.read(&mut [0]) {
            Ok(1..) => Err(Failure::Lasting(ServerProblem::MoreBytes { host, expected: buf.len() as u64 })),
            _ => Ok(done),
        }
    }

    /// The body as it comes.
    pub(crate) fn into_reader(self) -> impl Read {
        self.response.into_body().into_reader()
    }

    /// All of the body, of which there are at most `most` bytes.
    pub(crate) fn read_all(self, most: u64) -> Result<Vec<u8>, Failure> {
        let host = host(&self.url);
        let mut bytes = Vec::new();
        let body = self.response.into_body().into_reader();
        match body.take(most + 1).read_to_end(&mut bytes) {
            Err(error) => Err(broken(host, error)),
            Ok(_) if bytes.len() as u64 > most => {
                Err(Failure::Lasting(ServerProblem::LongAnswer { host, most }))
            }
            Ok(_) => Ok(bytes),
        }
    }
}

fn broken(host: String, cause: impl ToString) -> Failure {
    Failure::Passing(ServerProblem::Broken { host, cause: cause.to_string() }, None)
}

/// A header as a message shows it.
fn shortened(text: &str) -> String {
    text.chars().take(80).collect()
}
