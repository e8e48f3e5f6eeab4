//! [`RemoteReads`]: how the files of one store are read: through a stream that is read ahead, or by small blocks.

use std::io;
use std::sync::{Arc, PoisonError, RwLock};

use crate::cancel::Cancel;
use crate::error::Result;
use crate::storage::io::read_ahead::{Opener, ReadAhead};
use crate::storage::io::settings::IoSettings;
use crate::storage::io::way::Refusal;
use crate::storage::remote::blocks::{BLOCK_BYTES, Blocks};
use crate::storage::remote::fetch::Fetch;

/// Bytes that are read ahead until a run says how many its budget has.
const READ_BYTES: u64 = 2 << 20;

/// A file is read as it is.
const SAME: Opener<dyn Fetch> = |file| Ok(file.clone());

/// How the files of a store are read.
pub(crate) struct RemoteReads {
    /// A large read, and those that continue it.
    stream: RwLock<Arc<ReadAhead<dyn Fetch>>>,
    /// Small reads elsewhere.
    blocks: Blocks,
    /// What ends the requests that are in flight when nobody wants them any more.
    cancel: Cancel,
}

impl RemoteReads {
    /// For a store whose requests end with `cancel`.
    pub(crate) fn new(cancel: Cancel) -> RemoteReads {
        RemoteReads { stream: RwLock::new(stream(READ_BYTES)), blocks: Blocks::default(), cancel }
    }

    /// Takes so much memory from now on as the settings give: the more, the more requests are in flight.
    pub(crate) fn use_io(&self, settings: IoSettings) {
        *self.stream.write().unwrap_or_else(PoisonError::into_inner) = stream(settings.read_bytes);
    }

    /// Fills `buf` from `offset` on of the file with that number; the range lies in it.
    ///
    /// # Errors
    /// As [`Fetch::fetch`].
    pub(crate) fn read(
        &self,
        (file, number): (&Arc<dyn Fetch>, usize),
        buf: &mut [u8],
        offset: u64,
    ) -> Result<()> {
        if file.len() <= BLOCK_BYTES as u64 {
            return self.blocks.read((file.as_ref(), number), buf, offset);
        }
        let stream = self.stream.read().unwrap_or_else(PoisonError::into_inner).clone();
        let mut done = 0;
        while done < buf.len() {
            self.cancel.check()?;
            let (rest, at) = (&mut buf[done..], offset + done as u64);
            match stream.read(file, rest, at) {
                Some(count) => done += count,
                None if rest.len() < BLOCK_BYTES => {
                    return self.blocks.read((file.as_ref(), number), rest, at);
                }
                // What the stream did not get is asked for again, and heard why it cannot be had.
                None => return file.fetch(rest, at),
            }
        }
        Ok(())
    }
}

impl Drop for RemoteReads {
    fn drop(&mut self) {
        // The stream's threads are waited for.
        self.cancel.cancel();
    }
}

fn stream(window: u64) -> Arc<ReadAhead<dyn Fetch>> {
    Arc::new(ReadAhead::new(window, SAME, &Refusal::default()))
}

/// An error of a request that somebody makes again.
pub(crate) fn failed_once(problem: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::other(problem)
}
