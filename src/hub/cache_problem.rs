//! What is wrong with the hub's cache where it has a model's directory, but not the files that were asked for.

/// Snapshots that a message lists.
pub(crate) const LISTED: usize = 5;

/// What is wrong with a model's directory in the cache.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CacheProblem {
    #[error("it is commit `{commit}`, which is not in `{snapshots}`")]
    NotThere { commit: String, snapshots: String },
    #[error("the Hugging Face cache has no directory `{component}` either")]
    NoComponent { component: String },
    #[error("the Hugging Face cache has nothing in `{snapshots}`")]
    NoSnapshot { snapshots: String },
    #[error(
        "in the Hugging Face cache `{revision}` begins several commits in `{snapshots}`{}",
        listing(commits)
    )]
    SeveralCommits { revision: String, snapshots: String, commits: Vec<String> },
    #[error(
        "the Hugging Face cache has several snapshots in `{snapshots}` and no `refs/main`{}",
        listing(commits)
    )]
    SeveralSnapshots { snapshots: String, commits: Vec<String> },
}

/// The first few of several commits, for the end of a message.
fn listing(commits: &[String]) -> String {
    let shown: Vec<String> = commits.iter().take(LISTED).map(|commit| format!("`{commit}`")).collect();
    let more = if commits.len() > LISTED { ", …" } else { "" };
    format!(": {}{more}", shown.join(", "))
}
