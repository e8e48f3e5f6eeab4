//! [`Sink`]: a new file, and the two ways of writing where order does not matter: [`Patch`] and [`Scratch`].

use std::ops::Range;

use crate::cancel::Cancel;
use crate::error::Result;
use crate::storage::source::Source;

/// Bytes that are read and written at a time where nothing can be shared after all.
const STEP: u64 = 64 << 10;

/// A file being made: bytes arrive in order, and nobody sees it before `commit`.
pub trait Sink: Send {
    /// Appends `bytes`.
    ///
    /// # Errors
    /// [`StorageError::Write`](crate::error::storage::StorageError::Write) with the path, also for more bytes than were announced;
    /// [`StorageError::DiskFull`](crate::error::storage::StorageError::DiskFull). After one error the sink is lost.
    fn write(&mut self, bytes: &[u8]) -> Result<()>;

    /// Makes what was written so far last, though not seen, so that [`Store::resume`](crate::storage::store::Store::resume) can go
    /// on behind it. `false`: nothing is kept of such a file before its commit.
    ///
    /// # Errors
    /// As [`write`](Sink::write).
    fn keep(&mut self) -> Result<bool> {
        Ok(false)
    }

    /// Appends `bytes`, which are also those of `source` from `offset` on: a store that can share them writes them no second
    /// time.
    ///
    /// # Errors
    /// As [`write`](Sink::write).
    fn write_same(&mut self, bytes: &[u8], source: &dyn Source, offset: u64) -> Result<()> {
        let _ = (source, offset);
        self.write(bytes)
    }

    /// Appends the `bytes` bytes of `source` from `offset` on, which need not pass through memory where
    /// [`Store::sharing`](crate::storage::store::Store::sharing) says so.
    ///
    /// # Errors
    /// As [`write`](Sink::write) and [`Source::read_at`]; [`ErrorKind::Stopped`](crate::error::kind::ErrorKind::Stopped).
    fn append_from(&mut self, source: &dyn Source, offset: u64, bytes: u64, cancel: &Cancel) -> Result<()> {
        append_by_steps(&mut |bytes| self.write(bytes), source, offset..offset + bytes, cancel)
    }

    /// Leaves out so many bytes, which nobody wants: for a file that is only looked at as it is made.
    ///
    /// # Errors
    /// [`StorageError::Write`](crate::error::storage::StorageError::Write) with the path for a file that is to be whole.
    fn skip(&mut self, bytes: u64) -> Result<()>;

    /// Makes everything last and shows it under its name. When this returns, a power cut cannot undo it.
    ///
    /// # Errors
    /// [`StorageError::Write`](crate::error::storage::StorageError::Write), also for fewer bytes than were announced, or
    /// [`StorageError::DiskFull`](crate::error::storage::StorageError::DiskFull); and then nothing is visible.
    fn commit(self: Box<Self>) -> Result<()>;

    /// Shows it under its name, and leaves it to [`Store::sync_all`](crate::storage::store::Store::sync_all) to make it last. Where
    /// there is no such call it lasts at once.
    ///
    /// # Errors
    /// As [`commit`](Sink::commit).
    fn commit_unsynced(self: Box<Self>) -> Result<()> {
        self.commit()
    }

    /// Throws away what was written.
    fn abort(self: Box<Self>);
}

/// A file that is there and is changed where it stands, such as a journal that grows.
pub trait Patch: Send {
    /// Writes `bytes` at `offset`, which may reach past the end.
    ///
    /// # Errors
    /// [`StorageError::Write`](crate::error::storage::StorageError::Write) with the path,
    /// [`StorageError::DiskFull`](crate::error::storage::StorageError::DiskFull); a part of the bytes may then be there.
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> Result<()>;

    /// Makes what was written last.
    ///
    /// # Errors
    /// As [`write_at`](Patch::write_at).
    fn sync(&mut self) -> Result<()>;
}

/// An unnamed file for what does not fit memory: written anywhere, read anywhere, gone with the process.
pub trait Scratch: Source {
    /// Writes `bytes` at `offset`, inside the length it was made with.
    ///
    /// # Errors
    /// [`StorageError::Write`](crate::error::storage::StorageError::Write).
    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<()>;

    /// Lets caches go of what was written, once all of it is.
    ///
    /// # Errors
    /// [`StorageError::Write`](crate::error::storage::StorageError::Write).
    fn settle(&self) -> Result<()>;
}

/// Reads a range of `source` and hands it on piece by piece.
///
/// # Errors
/// As `write` and [`Source::read_at`]; [`ErrorKind::Stopped`](crate::error::kind::ErrorKind::Stopped).
pub(crate) fn append_by_steps(
    write: &mut dyn FnMut(&[u8]) -> Result<()>,
    source: &dyn Source,
    range: Range<u64>,
    cancel: &Cancel,
) -> Result<()> {
    let (mut at, mut buf) = (range.start, vec![0; STEP.min(range.end - range.start) as usize]);
    while at < range.end {
        cancel.check()?;
        let step = &mut buf[..(range.end - at).min(STEP) as usize];
        source.read_at(step, at)?;
        write(step)?;
        at += step.len() as u64;
        source.done_before(at);
    }
    Ok(())
}
