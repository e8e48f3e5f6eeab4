//! Repositories of the hub that are not in the cache: they are listed once, and their files are read by ranges.
//!
//! [`endpoint`] resolves a revision to a commit, once, and all that is read is of that commit; [`listing`] reads what is in it;
//! [`access`] knows tokens, and what the hub means where it refuses. The requests are `storage::http`'s.

pub(crate) mod access;
pub(crate) mod endpoint;
pub(crate) mod listing;
