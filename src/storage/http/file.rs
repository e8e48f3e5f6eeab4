//! [`HttpFile`]: a file of which a server gives ranges.
//!
//! A server may send on to another, by an address that is signed and expires. It is kept while it works, and asked for again
//! when it does not.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use ureq::http::Uri;

use crate::error::kind::ErrorKind;
use crate::error::storage::StorageError;
use crate::error::{Error, Result};
use crate::storage::http::answer::{Answer, ByteRange};
use crate::storage::http::client::HttpClient;
use crate::storage::http::problem::{Failure, ServerProblem};
use crate::storage::http::tries::{GaveUp, Tries};
use crate::storage::http::url::host;
use crate::storage::io::read_ahead::Readable;
use crate::storage::remote::fetch::Fetch;
use crate::storage::remote::reads::failed_once;

/// An answer that breaks off before so many bytes counts as a try that failed, so that tries are bounded.
pub(crate) const MUCH: usize = 16 << 10;

/// A file as whoever listed it says.
#[derive(Clone)]
pub(crate) struct HttpFileInfo {
    /// Where to ask for it.
    pub(crate) url: Uri,
    /// Its length in bytes.
    pub(crate) bytes: u64,
    /// What messages call it.
    pub(crate) path: PathBuf,
    /// What the server calls its bytes.
    pub(crate) content_id: Option<String>,
    /// What helps where reading it is refused.
    pub(crate) cure: Option<String>,
}

/// A file that is read by ranges.
pub(crate) struct HttpFile {
    /// Who asks.
    pub(crate) client: Arc<HttpClient>,
    /// What was listed.
    pub(crate) info: HttpFileInfo,
    /// Where the server sent on to the last time.
    found: Mutex<Option<Uri>>,
}

impl HttpFile {
    /// The file that `info` tells of.
    pub(crate) fn new(client: Arc<HttpClient>, info: HttpFileInfo) -> HttpFile {
        HttpFile { client, info, found: Mutex::default() }
    }

    /// Asks once, and gives as many bytes as come.
    fn ask(&self, buf: &mut [u8], first: u64) -> std::result::Result<usize, Failure> {
        if buf.is_empty() {
            return Ok(0);
        }
        let range = ByteRange { first, count: buf.len() as u64, of: self.info.bytes };
        let answer = self.answer(range)?;
        answer.check_range(range)?;
        answer.read_into(buf)
    }

    /// The answer to a request for `range`, by the address that served the last time if it still does.
    pub(crate) fn answer(&self, range: ByteRange) -> std::result::Result<Answer, Failure> {
        if let Some(found) = self.found() {
            let answer = self.client.get(&found, Some(range))?;
            // A signature that has expired is refused in one way or another.
            if !matches!(answer.status(), 400 | 401 | 403 | 404 | 410) {
                return Ok(answer);
            }
            self.find(None);
        }
        let answer = self.client.get(&self.info.url, Some(range))?;
        if matches!(answer.status(), 200 | 206) && answer.url != self.info.url {
            self.find(Some(answer.url.clone()));
        }
        Ok(answer)
    }

    fn found(&self) -> Option<Uri> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn find(&self, url: Option<Uri>) {
        *self.found.lock().unwrap_or_else(PoisonError::into_inner) = url;
    }

    /// The error of a file of which no more comes.
    pub(crate) fn cannot_read(&self, offset: u64, gave_up: &GaveUp) -> Error {
        let Some(text) = gave_up.text() else { return ErrorKind::Stopped.into() };
        let error = Error::new(StorageError::Read { path: self.info.path.clone(), offset }).because(text);
        match &self.info.cure {
            Some(cure) => error.hint(cure.clone()),
            None => error,
        }
    }
}

impl Readable for HttpFile {
    fn read_some(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let count = (buf.len() as u64).min(self.info.bytes.saturating_sub(offset));
        self.ask(&mut buf[..count as usize], offset).map_err(|failure| match failure {
            Failure::Passing(problem, _) | Failure::Lasting(problem) => failed_once(problem),
            Failure::Stopped => failed_once("interrupted"),
        })
    }
}

impl Fetch for HttpFile {
    fn len(&self) -> u64 {
        self.info.bytes
    }

    fn fetch(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let mut tries = Tries::new(self.client.patience, &self.client.cancel);
        let mut done = 0;
        while done < buf.len() {
            let at = offset + done as u64;
            match self.ask(&mut buf[done..], at) {
                // What broke off is gone on with where it broke.
                Ok(count) if done + count == buf.len() || count >= MUCH => {
                    done += count;
                    tries.succeeded();
                }
                Ok(count) => {
                    done += count;
                    let (host, cause) = (host(&self.info.url), "it gave next to nothing".to_owned());
                    let failure = Failure::Passing(ServerProblem::Broken { host, cause }, None);
                    tries.failed(failure).map_err(|gave_up| self.cannot_read(at, &gave_up))?;
                }
                Err(failure) => tries
                    .failed(self.client.unless_stopped(failure))
                    .map_err(|gave_up| self.cannot_read(at, &gave_up))?,
            }
        }
        Ok(())
    }

    fn path(&self) -> &Path {
        &self.info.path
    }

    fn content_id(&self) -> Option<&str> {
        self.info.content_id.as_deref()
    }
}
