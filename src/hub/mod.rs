//! Where the local cache of the Hugging Face hub keeps what a name alone means.
//!
//! The cache holds a directory `models--ORG--NAME` for each repository: `snapshots/COMMIT/` is a directory as the hub has it,
//! made of symlinks into `blobs/`, and a file `refs/REVISION` holds the commit that a branch or a tag stood for when it was
//! fetched. What stands behind `org/name/` is a directory of the snapshot, such as a component of a pipeline. Nothing is
//! fetched here. What is typed and what a file holds is checked before it becomes part of a path, so that neither leads out
//! of the cache.

pub(crate) mod blobs;
pub(crate) mod cache;
mod cache_problem;
pub(crate) mod environment;
pub(crate) mod parse;
pub(crate) mod resolved;
#[cfg(test)]
mod tests;
