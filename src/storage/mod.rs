//! Where bytes come from and go to: positioned reads, ordered writes, and the ways to make them last.
//!
//! [`Source`] and [`Sink`] are what the pipeline sees; a [`Store`] makes them by name. `folder.rs` is a folder of the
//! file system, `memory.rs` a map in memory. What only one operating system has lives in `os/`.

use crate::error::Result;

/// Something with a length that can be read at any offset, from any thread.
pub trait Source: Send + Sync {
    /// Length in bytes, as it was when the source was opened.
    fn len(&self) -> u64;

    /// Whether there is nothing to read.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills `buf` from `offset`. A file that ends early is an error, never a short read.
    ///
    /// # Errors
    /// [`crate::error::ErrorKind::Read`] with the path and the offset.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()>;

    /// Says that bytes before `offset` will not be read again, so that a cache may let them go. A hint only.
    fn done_before(&self, offset: u64);
}

/// A file being made: bytes arrive in order, and nobody sees it before `commit`.
pub trait Sink: Send {
    /// Appends `bytes`.
    ///
    /// # Errors
    /// [`crate::error::ErrorKind::Write`] with the path; after one error the sink is lost.
    fn write(&mut self, bytes: &[u8]) -> Result<()>;

    /// Makes everything last and shows it under its name. When this returns, a power cut cannot undo it.
    ///
    /// # Errors
    /// [`crate::error::ErrorKind::Write`], and then nothing is visible.
    fn commit(self: Box<Self>) -> Result<()>;

    /// Throws away what was written.
    fn abort(self: Box<Self>);
}

/// A place with named files.
pub trait Store: Send + Sync {
    /// Opens `name` for reading.
    ///
    /// # Errors
    /// [`crate::error::ErrorKind::Missing`] or [`crate::error::ErrorKind::Read`].
    fn source(&self, name: &str) -> Result<Box<dyn Source>>;

    /// Begins the file `name`, which will have `len` bytes; room for them is reserved where that is possible.
    ///
    /// # Errors
    /// [`crate::error::ErrorKind::Write`], also when there is no room for `len` bytes.
    fn sink(&self, name: &str, len: u64) -> Result<Box<dyn Sink>>;
}
