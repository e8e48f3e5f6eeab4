//! [`Fetching`]: how far a repository is on its way into the cache.

/// How far a repository is on its way into the cache.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fetching {
    /// The repository and the commit, as `org/name@commit`.
    pub(crate) what: String,
    /// Files that the cache lacks, and the one that is being fetched, from 0.
    pub(crate) files: usize,
    pub(crate) file: usize,
    /// Bytes of these files, and those that are there and checked.
    pub(crate) total_bytes: u64,
    pub(crate) done_bytes: u64,
}

/// Who looks at it.
pub(crate) type Watch<'w> = dyn FnMut(&Fetching) + 'w;
