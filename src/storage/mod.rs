//! Where bytes come from and go to: positioned reads, ordered writes, and the ways to make them last.
//!
//! [`Source`] and [`Sink`] are what the pipeline sees; a [`Store`] makes them by name. `folder.rs` is a folder of the
//! file system, `memory.rs` a map in memory, `hub.rs` finds folders by their names on the Hugging Face hub. What only one operating system has lives in `os/`.
//!
//! Three things hold for every store, and `conformance.rs` checks them: a name never leads out of its store, a read gives
//! all it was asked for or an error, and a file is seen whole after its commit or not at all.
//!
//! ```
//! use shardfold::{Memory, Store};
//!
//! let store = Memory::new();
//! let mut sink = store.sink("model.safetensors", 4)?;
//! sink.write(b"ab")?;
//! sink.write(b"cd")?;
//! assert!(store.source("model.safetensors").is_err(), "not seen before its commit");
//! sink.commit()?;
//!
//! let mut tail = [0; 2];
//! store.source("model.safetensors")?.read_at(&mut tail, 2)?;
//! assert_eq!(&tail, b"cd");
//! # Ok::<(), shardfold::Error>(())
//! ```

#![allow(clippy::disallowed_methods, reason = "this module is the one that touches the file system")]

#[cfg(test)]
mod conformance;
#[cfg(any(test, feature = "testing"))]
pub(crate) mod faulty;
pub(crate) mod files;
pub(crate) mod folder;
pub(crate) mod list;
pub(crate) mod memory;
pub(crate) mod os;
pub(crate) mod reading;
pub(crate) mod rules;
pub(crate) mod scratch;
pub(crate) mod writing;

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
    /// [`crate::error::kind::ErrorKind::Read`] with the path and the offset; [`crate::error::kind::ErrorKind::Truncated`] if the bytes
    /// wanted go past the end, or the file was cut after it was opened.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()>;

    /// Says that bytes before `offset` will not be read again, so that a cache may let them go. A hint only.
    fn done_before(&self, offset: u64);
}

/// A file being made: bytes arrive in order, and nobody sees it before `commit`.
pub trait Sink: Send {
    /// Appends `bytes`.
    ///
    /// # Errors
    /// [`crate::error::kind::ErrorKind::Write`] with the path, also for more bytes than were announced;
    /// [`crate::error::kind::ErrorKind::DiskFull`]. After one error the sink is lost.
    fn write(&mut self, bytes: &[u8]) -> Result<()>;

    /// Makes everything last and shows it under its name. When this returns, a power cut cannot undo it.
    ///
    /// # Errors
    /// [`crate::error::kind::ErrorKind::Write`], also for fewer bytes than were announced, or
    /// [`crate::error::kind::ErrorKind::DiskFull`]; and then nothing is visible.
    fn commit(self: Box<Self>) -> Result<()>;

    /// Throws away what was written.
    fn abort(self: Box<Self>);
}

/// A place with named files.
pub trait Store: Send + Sync {
    /// Opens `name` for reading.
    ///
    /// # Errors
    /// [`crate::error::kind::ErrorKind::Missing`]; [`crate::error::kind::ErrorKind::Read`], also for what is no regular file;
    /// [`crate::error::kind::ErrorKind::LeadsOut`] for a name that is not plainly inside the store.
    fn source(&self, name: &str) -> Result<Box<dyn Source>>;

    /// Begins the file `name`, which will have `len` bytes; room for them is reserved where that is possible.
    ///
    /// # Errors
    /// [`crate::error::kind::ErrorKind::Write`]; [`crate::error::kind::ErrorKind::DiskFull`] when there is no room for `len` bytes;
    /// [`crate::error::kind::ErrorKind::LeadsOut`] for a name that is not plainly inside the store.
    fn sink(&self, name: &str, len: u64) -> Result<Box<dyn Sink>>;
}
