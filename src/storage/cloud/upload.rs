//! [`UploadSink`]: an object that is made of parts, which are sent while more come. Nobody sees it before all of it is there.
//!
//! What is sent and never completed is stored, and paid for, until somebody throws it away: so that is done whenever a sink goes
//! that was not whole.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use object_store::path::Path as Key;
use object_store::{MultipartUpload, ObjectStoreExt, PutPayload};
use tokio::task::JoinHandle;

use crate::error::Result;
use crate::storage::cloud::client::{CloudClient, NoAnswer};
use crate::storage::remote::reads::RemoteReads;
use crate::storage::rules;
use crate::storage::rules::Length;
use crate::storage::sink::Sink;

const MIB: u64 = 1 << 20;
/// Bytes of a part, unless there would be more parts than stores take.
pub(crate) const PART_LEAST: u64 = 8 * MIB;
/// Parts that stores take.
const PARTS_MOST: u64 = 10_000;
/// Parts that are on their way at once, at most. One more is being filled.
const IN_FLIGHT_MOST: u64 = 2;
/// Bytes of all parts that are held at once.
const HELD: u64 = (IN_FLIGHT_MOST + 1) * PART_LEAST;
/// Bytes that one file takes while it is written, with what its connections hold.
pub(crate) const WRITE_MEMORY: u64 = HELD + 2 * MIB;

/// How a file is cut into parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PartCut {
    /// Bytes of a part.
    pub(crate) bytes: u64,
    /// Parts that may be on their way while one is filled: fewer where they are larger.
    pub(crate) in_flight: u64,
}

impl PartCut {
    /// That of a file of `len` bytes; none if no memory is held for such parts.
    pub(crate) fn of(len: u64) -> Option<PartCut> {
        let bytes = len.div_ceil(PARTS_MOST).next_multiple_of(MIB).max(PART_LEAST);
        let in_flight = (HELD / bytes).checked_sub(1)?;
        Some(PartCut { bytes, in_flight: in_flight.min(IN_FLIGHT_MOST) })
    }
}

/// An object that is being made.
pub(crate) struct UploadSink {
    parts: UploadParts,
    path: PathBuf,
    length: Length,
    is_whole: bool,
    /// Requests end when nobody reads from the store, and nobody writes to it.
    _reads: Arc<RemoteReads>,
}

/// What is sent, and what is not sent yet.
struct UploadParts {
    client: Arc<CloudClient>,
    key: Key,
    cut: PartCut,
    /// Bytes that are to come.
    missing: u64,
    /// Those of the next part.
    buffer: Vec<u8>,
    /// None for what one request sends, and before the first part.
    upload: Option<Box<dyn MultipartUpload>>,
    in_flight: VecDeque<JoinHandle<object_store::Result<()>>>,
}

impl UploadSink {
    /// Begins the object `key`, which will have `len` bytes. Nothing is sent yet.
    ///
    /// # Errors
    /// [`StorageError::Write`](crate::error::storage::StorageError::Write) for one that is too large.
    pub(crate) fn begin(
        client: Arc<CloudClient>,
        key: Key,
        len: u64,
        reads: Arc<RemoteReads>,
    ) -> Result<UploadSink> {
        let path = client.path_of(key.as_ref());
        let Some(cut) = PartCut::of(len) else {
            let text = format!("{len} bytes are more than {PARTS_MOST} parts of {} MiB", HELD / MIB);
            return Err(rules::cannot_write(&path, io::Error::new(io::ErrorKind::FileTooLarge, text)));
        };
        let (buffer, in_flight) = (Vec::new(), VecDeque::new());
        let parts = UploadParts { client, key, cut, missing: len, buffer, upload: None, in_flight };
        Ok(UploadSink { parts, path, length: Length::new(len), is_whole: false, _reads: reads })
    }
}

impl UploadParts {
    /// Takes bytes, and sends each part that they fill.
    fn append(&mut self, mut bytes: &[u8]) -> std::result::Result<(), NoAnswer> {
        while !bytes.is_empty() {
            if self.buffer.capacity() == 0 {
                self.buffer.reserve_exact(self.missing.min(self.cut.bytes) as usize);
            }
            let room = self.cut.bytes as usize - self.buffer.len();
            let (now, rest) = bytes.split_at(room.min(bytes.len()));
            self.buffer.extend_from_slice(now);
            self.missing -= now.len() as u64;
            bytes = rest;
            if self.buffer.len() as u64 == self.cut.bytes && (self.upload.is_some() || self.missing > 0) {
                self.send()?;
            }
        }
        Ok(())
    }

    /// Sends what there is as the next part, and waits until only so many are on their way as there is memory for.
    fn send(&mut self) -> std::result::Result<(), NoAnswer> {
        let client = self.client.clone();
        if self.upload.is_none() {
            self.upload = Some(client.wait(client.objects.put_multipart(&self.key))?);
        }
        let Some(upload) = &mut self.upload else { return Err(NoAnswer::Stopped) };
        let part = upload.put_part(PutPayload::from(std::mem::take(&mut self.buffer)));
        self.in_flight.push_back(client.start(part));
        self.wait_for_all_but(self.cut.in_flight as usize)
    }

    fn wait_for_all_but(&mut self, count: usize) -> std::result::Result<(), NoAnswer> {
        while self.in_flight.len() > count {
            let Some(part) = self.in_flight.front_mut() else { break };
            self.client.wait(async { part.await? })?;
            self.in_flight.pop_front();
        }
        Ok(())
    }

    /// Sends the rest, and shows all of it.
    fn complete(&mut self) -> std::result::Result<(), NoAnswer> {
        let client = self.client.clone();
        if self.upload.is_none() {
            let bytes = PutPayload::from(std::mem::take(&mut self.buffer));
            return client.wait(client.objects.put(&self.key, bytes)).map(drop);
        }
        if !self.buffer.is_empty() {
            self.send()?;
        }
        self.wait_for_all_but(0)?;
        let Some(upload) = &mut self.upload else { return Err(NoAnswer::Stopped) };
        client.wait(upload.complete()).map(drop)
    }

    /// Throws away what was sent.
    fn abort(&mut self) {
        self.in_flight.drain(..).for_each(|part| part.abort());
        if let Some(mut upload) = self.upload.take() {
            self.client.throw_away(upload.abort());
        }
    }
}

impl Sink for UploadSink {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let (parts, mut failed) = (&mut self.parts, None);
        let written = self.length.extend(bytes.len() as u64, |_| {
            parts.append(bytes).map_err(|cause| {
                failed = Some(cause);
                io::ErrorKind::Other.into()
            })
        });
        written.map_err(|error| match failed {
            Some(cause) => self.parts.client.unwritable(&self.path, cause),
            None => rules::cannot_write(&self.path, error),
        })
    }

    fn skip(&mut self, bytes: u64) -> Result<()> {
        Err(rules::cannot_leave_out(&self.path, bytes))
    }

    fn commit(mut self: Box<Self>) -> Result<()> {
        self.length.check_whole().map_err(|cause| rules::cannot_write(&self.path, cause))?;
        let completed = self.parts.complete();
        completed.map_err(|cause| self.parts.client.unwritable(&self.path, cause))?;
        self.is_whole = true;
        Ok(())
    }

    fn abort(self: Box<Self>) {}
}

impl Drop for UploadSink {
    fn drop(&mut self) {
        if !self.is_whole {
            self.parts.abort();
        }
    }
}
