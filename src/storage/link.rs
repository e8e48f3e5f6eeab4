//! Symbolic links, made in one step: whoever looks sees what was there before or the link, never nothing.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::error::Result;
use crate::storage::files::make_dirs;
use crate::storage::folder::Folder;
use crate::storage::interrupted::uninterrupted;
use crate::storage::rules;
use crate::storage::store::Store;

impl Folder {
    /// Makes `name` a link to `target`, a path from the directory that it is in, whatever had the name before.
    ///
    /// # Errors
    /// [`StorageError::Write`](crate::error::storage::StorageError::Write), also on a file system without links.
    pub(crate) fn link(&self, name: &str, target: &str) -> Result<()> {
        rules::check_name(name)?;
        let path = self.path().join(name);
        if uninterrupted(|| fs::read_link(&path)).is_ok_and(|found| found == Path::new(target)) {
            return Ok(());
        }
        let (above, leaf) = name.rsplit_once('/').unwrap_or(("", name));
        // Another process may make the same link at the same time.
        let beside = rules::join(above, &format!(".{leaf}.{}.link", std::process::id()));
        let made = make_link(&self.path().join(&beside), target, &path);
        if made.is_err() {
            self.remove(&beside)?;
        }
        made.map_err(|cause| rules::cannot_write(&path, cause))
    }
}

fn make_link(beside: &Path, target: &str, path: &Path) -> io::Result<()> {
    make_dirs(path.parent().unwrap_or(path))?;
    match uninterrupted(|| symlink(target, beside)) {
        // A process of this number was killed.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            uninterrupted(|| fs::remove_file(beside))?;
            uninterrupted(|| symlink(target, beside))?;
        }
        made => made?,
    }
    uninterrupted(|| fs::rename(beside, path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::store::EntryKind;

    #[test]
    fn a_link_takes_the_place_of_what_was_there() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::new(dir.path());
        fs::write(dir.path().join("blob"), "bytes").unwrap();
        for before in ["nothing", "a file", "another link", "the same link"] {
            match before {
                "a file" => {
                    fs::remove_file(dir.path().join("a/b/name")).unwrap();
                    fs::write(dir.path().join("a/b/name"), "x").unwrap();
                }
                "another link" => {
                    fs::remove_file(dir.path().join("a/b/name")).unwrap();
                    symlink("nowhere", dir.path().join("a/b/name")).unwrap();
                }
                _ => {}
            }
            folder.link("a/b/name", "../../blob").unwrap();
            assert_eq!(
                fs::read_link(dir.path().join("a/b/name")).unwrap(),
                Path::new("../../blob"),
                "{before}"
            );
            assert_eq!(folder.stat("a/b/name").unwrap().map(|stat| stat.kind), Some(EntryKind::File));
            assert_eq!(fs::read_dir(dir.path().join("a/b")).unwrap().count(), 1, "{before}");
        }
        assert!(folder.link("../name", "blob").is_err());
        // A directory is not replaced, and nothing is left beside it.
        assert!(folder.link("a/b", "blob").is_err());
        assert_eq!(fs::read_dir(dir.path().join("a")).unwrap().count(), 1);
    }
}
