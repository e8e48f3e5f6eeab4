//! Names as the hub gives them out: `org/name`, with a directory and a revision.

/// The longest `org` or `name` that the hub gives out.
const MOST_NAME_CHARS: usize = 96;

/// What a name asks for.
pub(crate) struct RepoQuery<'t> {
    /// All of it, for messages.
    pub(crate) typed: &'t str,
    /// The repository, as `org/name`.
    pub(crate) name: &'t str,
    /// The directory in it.
    pub(crate) component: Option<&'t str>,
    /// The branch, tag or commit.
    pub(crate) revision: Option<&'t str>,
}

impl<'t> RepoQuery<'t> {
    /// `None` for what is no name of the hub.
    pub(crate) fn parse(typed: &'t str) -> Option<RepoQuery<'t>> {
        let (path, revision) = match typed.split_once('@') {
            Some((path, revision)) => (path, Some(revision)),
            None => (typed, None),
        };
        let parts = path.split('/').count();
        let (name, component) = match path.rsplit_once('/') {
            Some((name, component)) if parts > 2 => (name, Some(component)),
            _ => (path, None),
        };
        let is_name = parts <= 3 && path.split('/').all(is_name);
        (is_name && revision.is_none_or(is_revision)).then_some(RepoQuery {
            typed,
            name,
            component,
            revision,
        })
    }
}

/// Whether a part of `org/name` is one by the hub's rules. `--` parts the two in the cache, so neither holds it.
fn is_name(part: &str) -> bool {
    (1..=MOST_NAME_CHARS).contains(&part.len())
        && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
        && !part.starts_with(['-', '.'])
        && !part.ends_with(['-', '.'])
        && !part.contains("--")
        && !part.contains("..")
}

/// Whether a text can be a branch, a tag or a commit. A branch may have several parts, as `refs/pr/1`.
fn is_revision(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.+/".contains(&byte);
    text.bytes().all(is_plain)
        && text
            .split('/')
            .all(|part| !part.is_empty() && !part.starts_with(['-', '.']) && !part.contains(".."))
}

/// Whether a text is a plain name of a commit.
pub(crate) fn is_commit(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}
