//! The bytes of a header as they are asked for: its length stands nowhere.

use crate::formats::container::{ContainerProblem, FileBytes};
use crate::formats::gguf::MAX_HEADER_BYTES;
use crate::formats::gguf::problem::GgufProblem;

/// Bytes that are read at a time, at least.
const STEP: u64 = 256 << 10;

/// The start of a file, as far as it was asked for.
pub(crate) struct Cursor<'f> {
    file: &'f FileBytes<'f>,
    /// The most bytes that it may take.
    room: u64,
    bytes: Vec<u8>,
    at: usize,
}

impl<'f> Cursor<'f> {
    /// At the start of a file whose header has that `room`.
    pub(crate) fn new(file: &'f FileBytes<'f>, room: u64) -> Cursor<'f> {
        Cursor { file, room, bytes: Vec::new(), at: 0 }
    }

    /// Bytes so far.
    pub(crate) fn at(&self) -> u64 {
        self.at as u64
    }

    /// Bytes of the file behind them.
    pub(crate) fn left(&self) -> u64 {
        self.file.len - self.at()
    }

    /// The next `count` bytes.
    pub(crate) fn take(&mut self, count: u64) -> Result<&[u8], ContainerProblem> {
        let end = self.at().saturating_add(count);
        if end > self.file.len {
            return Err(ContainerProblem::NotWhole(GgufProblem::PastEnd { file: self.file.len }.into()));
        }
        if end > MAX_HEADER_BYTES {
            return Err(ContainerProblem::Broken(GgufProblem::TooLong.into()));
        }
        self.fill(end)?;
        let start = self.at;
        self.at = end as usize;
        Ok(&self.bytes[start..self.at])
    }

    /// Reads on until there are so many bytes, and some more if the file has them.
    fn fill(&mut self, end: u64) -> Result<(), ContainerProblem> {
        let have = self.bytes.len() as u64;
        if end <= have {
            return Ok(());
        }
        if end > self.room {
            return Err(ContainerProblem::NoRoom(end));
        }
        let upto = end.max(have + have.max(STEP)).min(self.file.len).min(self.room);
        self.bytes.resize(upto as usize, 0);
        (self.file.read)(have, &mut self.bytes[have as usize..]).map_err(ContainerProblem::Unreadable)
    }

    /// The next number of four bytes.
    pub(crate) fn u32(&mut self) -> Result<u32, ContainerProblem> {
        Ok(u32::from_le_bytes(*self.take(4)?.first_chunk().expect("there are four")))
    }

    /// The next number of eight bytes.
    pub(crate) fn u64(&mut self) -> Result<u64, ContainerProblem> {
        Ok(u64::from_le_bytes(*self.take(8)?.first_chunk().expect("there are eight")))
    }

    /// The next text, of at most so many bytes.
    pub(crate) fn text(&mut self, what: &'static str, most: u64) -> Result<&str, ContainerProblem> {
        let len = self.u64()?;
        if len > most {
            return Err(ContainerProblem::Broken(GgufProblem::LongText { what, found: len, most }.into()));
        }
        let at = self.at();
        let text = std::str::from_utf8(self.take(len)?);
        text.map_err(|_| ContainerProblem::Broken(GgufProblem::NoText { what, at }.into()))
    }

    /// All bytes up to here.
    pub(crate) fn into_bytes(mut self) -> Vec<u8> {
        self.bytes.truncate(self.at);
        self.bytes
    }

    /// The bytes from one place up to here.
    pub(crate) fn since(&self, start: u64) -> &[u8] {
        &self.bytes[start as usize..self.at]
    }
}
