//! Where bytes come from and go to: everything that is read or written has a name in a [`Store`](store::Store).
//!
//! A store ([`store`]) lists, opens, creates, renames and removes files by name; a [`Location`](location::Location) is a
//! directory of one. An open file is a [`Source`](source::Source), a new one a [`Sink`](sink::Sink). `folder.rs` is a store over a
//! directory of the file system, `memory.rs` one over a map in memory, `discard.rs` one that keeps nothing. What only one operating system has lives in `os/`.
//! No other room touches the file system.
//!
//! Some things hold for every store, and `testing/conformance.rs` checks them: a name never leads out of its store, a read
//! gives all it was asked for or an error, a file is seen whole after its commit or not at all, and what cannot be looked
//! at is never taken for absent.
//!
//! ```
//! use shardfold::{Memory, Store};
//!
//! let store = Memory::new();
//! let mut sink = store.create("model.safetensors", 4)?;
//! sink.write(b"ab")?;
//! sink.write(b"cd")?;
//! assert!(store.open("model.safetensors").is_err(), "not seen before its commit");
//! sink.commit()?;
//!
//! let mut tail = [0; 2];
//! store.open("model.safetensors")?.read_at(&mut tail, 2)?;
//! assert_eq!(&tail, b"cd");
//! # Ok::<(), shardfold::Error>(())
//! ```

#![allow(clippy::disallowed_methods, reason = "this module is the one that touches the file system")]

pub(crate) mod address;
pub(crate) mod at_byte;
pub(crate) mod behind;
pub(crate) mod chained;
pub(crate) mod checksummed;
#[cfg(feature = "cloud")]
pub(crate) mod cloud;
pub(crate) mod discard;
pub(crate) mod files;
pub(crate) mod folder;
pub(crate) mod held;
#[cfg(feature = "hub")]
pub(crate) mod http;
pub(crate) mod interrupted;
pub(crate) mod io;
#[cfg(feature = "hub")]
pub(crate) mod link;
pub(crate) mod location;
pub(crate) mod log_file;
pub(crate) mod memory;
pub(crate) mod nearby;
pub(crate) mod once;
pub(crate) mod once_sink;
pub(crate) mod open_files;
pub(crate) mod os;
#[cfg(feature = "hub")]
pub(crate) mod partial;
pub(crate) mod patching;
pub(crate) mod reading;
#[cfg(any(feature = "cloud", feature = "hub"))]
pub(crate) mod remote;
pub(crate) mod rules;
pub(crate) mod scratch;
pub(crate) mod sharing;
pub(crate) mod shown;
pub(crate) mod sink;
pub(crate) mod source;
pub(crate) mod store;
pub(crate) mod stream;
pub(crate) mod temporary;
#[cfg(any(test, feature = "testing"))]
pub(crate) mod testing;
pub(crate) mod times;
pub(crate) mod together;
pub(crate) mod walk;
pub(crate) mod writing;
