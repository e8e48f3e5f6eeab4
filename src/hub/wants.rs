//! [`Wants`]: which files of a repository are worth a place in the cache. What a file is for is not the hub's to know.

/// For each of these names of files whether it is; for none where the repository is better read as it is needed.
pub(crate) type Wants = fn(&[&str]) -> Vec<bool>;
