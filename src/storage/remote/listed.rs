//! [`Listed`]: names that are known from a list made once, as the directories and files that they are.

use std::collections::BTreeMap;

use crate::storage::rules;
use crate::storage::store::{Entry, EntryKind, Stat};

/// Values by name, in the order of names; a name is one or more parts joined by `/`.
pub(crate) struct Listed<T>(BTreeMap<String, (u64, T)>);

impl<T> Listed<T> {
    /// Files of these names, with their lengths in bytes.
    pub(crate) fn new(files: impl IntoIterator<Item = (String, u64, T)>) -> Listed<T> {
        let mut listed = BTreeMap::new();
        listed.extend(files.into_iter().map(|(name, bytes, value)| (name, (bytes, value))));
        Listed(listed)
    }

    /// What the file of that name has.
    pub(crate) fn get(&self, name: &str) -> Option<&T> {
        self.0.get(name).map(|(_, value)| value)
    }

    /// What has the name: a file, or a directory with files below it; the empty one is the store itself.
    pub(crate) fn stat(&self, name: &str) -> Option<Stat> {
        if let Some((bytes, _)) = self.0.get(name) {
            return Some(Stat { kind: EntryKind::File, bytes: *bytes });
        }
        let is_dir = name.is_empty() || self.below(name).next().is_some();
        is_dir.then_some(Stat { kind: EntryKind::Dir, bytes: 0 })
    }

    /// What is directly in `dir`, in the order of names; none if there is no such directory.
    pub(crate) fn list(&self, dir: &str) -> Option<Vec<Entry>> {
        let mut found: BTreeMap<&str, Entry> = BTreeMap::new();
        for (rest, bytes) in self.below(dir) {
            let (name, kind, bytes) = match rest.split_once('/') {
                None => (rest, EntryKind::File, bytes),
                Some((name, _)) => (name, EntryKind::Dir, 0),
            };
            found.entry(name).or_insert_with(|| Entry { name: name.to_owned(), kind, bytes });
        }
        let is_there = !found.is_empty() || dir.is_empty();
        is_there.then(|| found.into_values().collect())
    }

    /// The files below `dir`, named from there, with their lengths.
    fn below(&self, dir: &str) -> impl Iterator<Item = (&str, u64)> {
        let start = if dir.is_empty() { String::new() } else { rules::join(dir, "") + "/" };
        let from = self.0.range(start.clone()..);
        let names = from.map(move |(name, (bytes, _))| (name.strip_prefix(&start), *bytes));
        names.map_while(|(rest, bytes)| Some((rest?, bytes)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_files_and_directories() {
        let listed = Listed::new(["a.b", "a/x/1", "a/x/2", "a/y"].map(|name| (name.to_owned(), 3, ())));
        let shown = |dir: &str| -> Option<Vec<String>> {
            let mark = |entry: Entry| match entry.kind {
                EntryKind::Dir => entry.name + "/",
                _ => entry.name,
            };
            Some(listed.list(dir)?.into_iter().map(mark).collect())
        };
        assert_eq!(shown("").as_deref(), Some(["a/", "a.b"].map(str::to_owned).as_slice()));
        assert_eq!(shown("a").as_deref(), Some(["x/", "y"].map(str::to_owned).as_slice()));
        assert_eq!((shown("a.b"), shown("nothing"), shown("a/x/1")), (None, None, None));
        assert_eq!(listed.stat("a/y"), Some(Stat { kind: EntryKind::File, bytes: 3 }));
        assert_eq!(listed.stat("a/x").map(|stat| stat.kind), Some(EntryKind::Dir));
        assert_eq!(listed.stat("a/"), None);
        assert!(listed.get("a/x/1").is_some() && listed.get("a/x").is_none());
        assert_eq!(Listed::<()>::new([]).list(""), Some(Vec::new()));
    }
}
