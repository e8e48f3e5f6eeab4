//! What is there in place of a path that is not.

use std::path::Path;

use crate::storage::location::Location;
use crate::storage::store::Store;

/// How like two names must be for one to be taken for the other, of 0 to 1.
const LIKE: f64 = 0.6;

/// What is there in place of a path that is not.
pub(crate) struct Nearby {
    /// It, for the hint of an error that says that nothing has the path.
    pub(crate) hint: String,
    /// Whether a directory of the path is there, so that it is no name of something else.
    pub(crate) is_path: bool,
}

/// How far `path` leads: the directory where it ends, and what is there instead if a name there is like its next one. `None` if it
/// ends in the working directory, and nothing there is.
pub(crate) fn nearby(path: &Path) -> Option<Nearby> {
    let mut missing = path;
    loop {
        let (above, name) = (missing.parent()?, missing.file_name()?.to_string_lossy());
        let is_here = [Path::new(""), Path::new(".")].contains(&above);
        let dir = Location::of_path(if is_here { Path::new(".") } else { above });
        if dir.is_directory().ok()? {
            let names = dir.list("").ok()?.into_iter().map(|entry| entry.name);
            let hint = match (most_like(&name, names), is_here) {
                (Some(like), true) => format!("`{like}` is there"),
                (Some(like), false) => format!("`{dir}` has no `{name}`, but `{like}`"),
                (None, true) => return None,
                (None, false) => format!("`{dir}` has no `{name}`"),
            };
            return Some(Nearby { hint, is_path: !is_here });
        }
        missing = above;
    }
}

fn most_like(name: &str, names: impl Iterator<Item = String>) -> Option<String> {
    let scored = names.map(|other| (strsim::normalized_damerau_levenshtein(name, &other), other));
    let best = scored.max_by(|a, b| a.0.total_cmp(&b.0).then_with(|| b.1.cmp(&a.1)));
    best.filter(|(score, _)| *score > LIKE).map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::files::write_small;

    #[test]
    fn a_path_that_is_not_there_is_followed_as_far_as_it_leads() {
        let folder = tempfile::tempdir().expect("a directory");
        for name in ["adapter/a", "adopted/a", "base/a"] {
            write_small(&Location::of_path(folder.path()), name, b"").expect("room");
        }
        let at = |name: &str| nearby(&folder.path().join(name)).expect("a directory above").hint;
        let dir = folder.path().display();
        assert_eq!(at("adaptr"), format!("`{dir}` has no `adaptr`, but `adapter`"));
        assert_eq!(at("bse/step-10"), format!("`{dir}` has no `bse`, but `base`"));
        assert_eq!(at("something"), format!("`{dir}` has no `something`"));
        assert!(nearby(Path::new("nothing/is/like/this")).is_none());
        let here = nearby(Path::new("Cargo.tml")).expect("it is the package's directory");
        assert_eq!((here.hint.as_str(), here.is_path), ("`Cargo.toml` is there", false));
    }
}
