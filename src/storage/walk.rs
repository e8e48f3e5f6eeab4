//! [`Walk`]: all files below a directory, and what else lies there.

use crate::error::{Error, Result};
use crate::storage::rules;
use crate::storage::store::{Entry, EntryKind, Store, sort_by_name};

/// Directories deeper than this are not looked into; checkpoints have one or two levels.
const DEEPEST: usize = 32;

/// What is below a directory, named from there, in the order of names.
#[derive(Debug, Default)]
pub(crate) struct Walk {
    /// The regular files.
    pub(crate) files: Vec<Entry>,
    /// Links that lead to nothing.
    pub(crate) broken: Vec<String>,
    /// What was not looked into, and why.
    pub(crate) left: Vec<(String, Left)>,
}

/// Why something below a directory is not among its files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Left {
    /// A directory that may not be read.
    Denied,
    /// A link to a directory elsewhere, to one that it is itself in, or found by way of another link.
    LinkOut,
    /// A directory too far down.
    Deep,
    /// A directory with nothing in it, which no result has.
    Empty,
    /// A pipe, a socket, a device, or a name that is not UTF-8.
    Special,
}

/// A directory to look into.
struct Dir<'d> {
    name: &'d str,
    /// How many levels there are above it.
    depth: usize,
    /// Whether a link led to it.
    is_linked: bool,
}

impl Walk {
    /// Looks at all in `store`, but for directories of which `skip` says so: it gets the name of the directory that
    /// they are in, and their last name.
    ///
    /// # Errors
    /// As [`Store::list`], but for directories below that may not be read.
    pub(crate) fn of(store: &dyn Store, skip: &dyn Fn(&str, &str) -> bool) -> Result<Walk> {
        let mut walk = Walk::default();
        let entries = store.list("")?;
        walk.add(store, &Dir { name: "", depth: 0, is_linked: false }, entries, skip)?;
        sort_by_name(&mut walk.files);
        Ok(walk)
    }

    fn add(
        &mut self,
        store: &dyn Store,
        dir: &Dir<'_>,
        entries: Vec<Entry>,
        skip: &dyn Fn(&str, &str) -> bool,
    ) -> Result<()> {
        for entry in entries {
            let name = rules::join(dir.name, &entry.name);
            match entry.kind {
                EntryKind::File => self.files.push(Entry { name, ..entry }),
                EntryKind::Dangling => self.broken.push(name),
                EntryKind::Other => self.left.push((name, Left::Special)),
                EntryKind::Dir | EntryKind::DirLink if skip(dir.name, &entry.name) => {}
                EntryKind::DirLink if dir.is_linked || !store.leads_inside(&name, "") => {
                    self.left.push((name, Left::LinkOut));
                }
                EntryKind::Dir | EntryKind::DirLink => {
                    let is_linked = dir.is_linked || entry.kind == EntryKind::DirLink;
                    self.enter(store, &Dir { name: &name, depth: dir.depth + 1, is_linked }, skip)?;
                }
            }
        }
        Ok(())
    }

    fn enter(&mut self, store: &dyn Store, dir: &Dir<'_>, skip: &dyn Fn(&str, &str) -> bool) -> Result<()> {
        if dir.depth > DEEPEST {
            self.left.push((dir.name.to_owned(), Left::Deep));
            return Ok(());
        }
        match store.list(dir.name) {
            Ok(entries) if entries.is_empty() => {
                self.left.push((dir.name.to_owned(), Left::Empty));
                Ok(())
            }
            Ok(entries) => self.add(store, dir, entries, skip),
            Err(error) if rules::is_denied(&error) => {
                self.left.push((dir.name.to_owned(), Left::Denied));
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// One error for each link that leads to nothing and of whose name `is_wanted` says so.
    pub(crate) fn broken_links(&self, store: &dyn Store, is_wanted: impl Fn(&str) -> bool) -> Vec<Error> {
        let broken = self.broken.iter().filter(|name| is_wanted(name));
        // Opening says what it leads to.
        broken.filter_map(|name| store.open(name).err()).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::error::kind::ErrorKind;
    use crate::error::storage::StorageError;
    use crate::storage::location::Location;

    #[test]
    fn what_is_no_file_is_named_and_links_are_followed_inside_only() {
        let folder = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        fs::write(elsewhere.path().join("big"), "elsewhere").unwrap();
        let base = folder.path().join("base");
        fs::create_dir_all(base.join("a/b")).unwrap();
        fs::write(base.join("a/b/file"), "bytes").unwrap();
        for (target, link) in [
            ("a/b", "in"),
            (".", "self"),
            ("..", "up"),
            (elsewhere.path().to_str().unwrap(), "out"),
            ("nowhere", "a/broken"),
            ("../../in", "a/b/twice"),
            ("loop", "loop"),
        ] {
            symlink(target, base.join(link)).unwrap();
        }
        let socket = std::os::unix::net::UnixListener::bind(base.join("socket"));
        let walk = Walk::of(&Location::of_path(&base), &|_, _| false).unwrap();
        let names: Vec<&str> = walk.files.iter().map(|file| file.name.as_str()).collect();
        assert_eq!(names, ["a/b/file", "in/file"]);
        assert_eq!(walk.broken, ["a/broken", "loop"]);
        let mut left = vec![
            ("a/b/twice".to_owned(), Left::LinkOut),
            ("in/twice".to_owned(), Left::LinkOut),
            ("out".to_owned(), Left::LinkOut),
            ("self".to_owned(), Left::LinkOut),
            ("up".to_owned(), Left::LinkOut),
        ];
        if socket.is_ok() {
            left.push(("socket".to_owned(), Left::Special));
        }
        left.sort_unstable();
        let mut found = walk.left.clone();
        found.sort_unstable();
        assert_eq!(found, left);
        let errors = walk.broken_links(&Location::of_path(&base), |_| true);
        assert_eq!(errors.len(), 2);
        for error in errors {
            assert!(matches!(error.kind(), ErrorKind::Storage(StorageError::BrokenLink { .. })), "{error:?}");
        }
    }
}
