//! Ways of moving bytes between the files of a directory and memory: through the page cache, past it, or through a cache
//! that keeps nothing.
//!
//! A way ([`way::IoWay`]) is one file and one row of [`ways::IO_WAYS`]. It makes a reader for the files of a store and a
//! writer for each new file. Which way is taken, and how much memory it may use, is a store's setting
//! ([`settings::IoSettings`]); nothing above a store depends on it, and the bytes are the same.
//!
//! A way is a hint. Where a file system, a kernel or a file refuses it, bytes go through the page cache, and the store can
//! tell ([`Store::refused_io`](crate::storage::store::Store::refused_io)).

pub(crate) mod block;
pub(crate) mod buffered;
pub(crate) mod choice;
pub(crate) mod cold;
pub(crate) mod direct;
pub(crate) mod dontcache;
pub(crate) mod in_order;
pub(crate) mod parallel;
pub(crate) mod read_ahead;
pub(crate) mod settings;
pub(crate) mod store_io;
#[cfg(all(test, shardfold_model))]
mod threads_model;
pub(crate) mod way;
pub(crate) mod ways;
pub(crate) mod write_behind;
