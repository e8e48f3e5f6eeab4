//! Repositories of the hub that are not in the cache: they are listed once, and their files are read by ranges, or fetched into the
//! cache first where that is asked for.
//!
//! [`endpoint`] resolves a revision to a commit, once, and all that is read is of that commit; [`listing`] reads what is in it;
//! [`repository`] is what was listed; [`access`] knows tokens, and what the hub means where it refuses. [`keep`] puts files into
//! the cache, each checked by its [`content_sum`]. The requests are `storage::http`'s.

pub(crate) mod access;
pub(crate) mod blob;
pub(crate) mod content_sum;
pub(crate) mod endpoint;
pub(crate) mod keep;
pub(crate) mod listing;
pub(crate) mod repository;
