//! What a name of the Hugging Face hub alone means: a snapshot in the local cache, else the repository on the hub.
//!
//! The cache holds a directory `models--ORG--NAME` for each repository: `snapshots/COMMIT/` is a directory as the hub has it,
//! made of symlinks into `blobs/`, and a file `refs/REVISION` holds the commit that a branch or a tag stood for when it was
//! fetched. What stands behind `org/name/` is a directory of the snapshot, such as a component of a pipeline. What is typed and
//! what a file holds is checked before it becomes part of a path, so that neither leads out of the cache. What the cache lacks
//! is read from the hub by ranges (`remote`), and nothing is put into the cache unless that is asked for.

pub(crate) mod blobs;
pub(crate) mod cache;
mod cache_problem;
pub(crate) mod environment;
pub(crate) mod fetching;
mod lookup;
pub(crate) mod parse;
#[cfg(feature = "hub")]
pub(crate) mod remote;
pub(crate) mod resolved;
#[cfg(test)]
mod tests;
#[cfg(feature = "hub")]
pub(crate) mod wants;
#[cfg(feature = "hub")]
mod whole;
