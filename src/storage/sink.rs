//! [`Sink`]: a new file, and the two ways of writing where order does not matter: [`Patch`] and [`Scratch`].

use std::path::PathBuf;

use crate::error::storage::StorageError;
use crate::error::{Error, Result};
use crate::storage::source::Source;

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

    /// Leaves out so many bytes, which nobody wants: for a file that is only looked at as it is made.
    ///
    /// # Errors
    /// [`StorageError::Write`](crate::error::storage::StorageError::Write) for a file that is to be whole.
    fn skip(&mut self, bytes: u64) -> Result<()> {
        let error = Error::new(StorageError::Write { path: PathBuf::new() });
        Err(error.because(format!("{bytes} bytes of it are not there")))
    }

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
