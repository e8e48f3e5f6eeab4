//! All of a file, or the rest of one, in order: one request while nothing breaks, through a buffer that stays as small as it is.

use std::io::Read;

use crate::error::Result;
use crate::storage::http::answer::ByteRange;
use crate::storage::http::file::{HttpFile, MUCH};
use crate::storage::http::problem::{Failure, ServerProblem};
use crate::storage::http::tries::Tries;
use crate::storage::http::url::host;

/// What takes the bytes as they come.
pub(crate) type Taking<'t> = dyn FnMut(&[u8]) -> Result<()> + 't;

/// How one request ended: whatever is wrong with the taking is no failure of the server.
enum Ended {
    Whole,
    Broken(Failure),
}

impl HttpFile {
    /// Hands on all bytes from `from` to the end in order, through `buf`, which is not empty. What breaks off is gone on with where it
    /// broke.
    ///
    /// # Errors
    /// As [`Fetch::fetch`](crate::storage::remote::fetch::Fetch::fetch); as `take`.
    pub(crate) fn download(&self, from: u64, buf: &mut [u8], take: &mut Taking<'_>) -> Result<()> {
        let mut tries = Tries::new(self.client.patience, &self.client.cancel);
        let mut at = from;
        while at < self.info.bytes {
            let begun = at;
            let Ended::Broken(failure) = self.download_once(&mut at, buf, take)? else { continue };
            if at - begun >= MUCH as u64 {
                tries.succeeded();
            }
            let failed = tries.failed(self.client.unless_stopped(failure));
            failed.map_err(|gave_up| self.cannot_read(at, &gave_up))?;
        }
        Ok(())
    }

    /// One request for the rest of the file; `at` is raised by what was taken of it.
    fn download_once(&self, at: &mut u64, buf: &mut [u8], take: &mut Taking<'_>) -> Result<Ended> {
        let range = ByteRange { first: *at, count: self.info.bytes - *at, of: self.info.bytes };
        let answer = self.answer(range).and_then(|answer| answer.check_range(range).map(|()| answer));
        let answer = match answer {
            Ok(answer) => answer,
            Err(failure) => return Ok(Ended::Broken(failure)),
        };
        let host = host(&answer.url);
        let mut body = answer.into_reader();
        while *at < self.info.bytes {
            self.client.cancel.check()?;
            let most = (buf.len() as u64).min(self.info.bytes - *at) as usize;
            let (count, broken) = fill(&mut body, &mut buf[..most]);
            take(&buf[..count])?;
            *at += count as u64;
            if let Some(cause) = broken {
                let problem = ServerProblem::Broken { host, cause };
                return Ok(Ended::Broken(Failure::Passing(problem, None)));
            }
        }
        // The end is looked at, too: then the connection can be used again.
        Ok(match body.read(&mut [0]) {
            Ok(1..) => {
                Ended::Broken(Failure::Lasting(ServerProblem::MoreBytes { host, expected: range.count }))
            }
            _ => Ended::Whole,
        })
    }
}

/// Fills `buf` as far as bytes come: how many did, and what broke where that is not all.
fn fill(body: &mut impl Read, buf: &mut [u8]) -> (usize, Option<String>) {
    let mut done = 0;
    while done < buf.len() {
        match body.read(&mut buf[done..]) {
            Ok(0) => return (done, Some("it ended early".to_owned())),
            Ok(count) => done += count,
            Err(error) => return (done, Some(error.to_string())),
        }
    }
    (done, None)
}
