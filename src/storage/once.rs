//! [`Once`]: a directory whose files are written once, and in which nothing is renamed, changed or locked.

use std::io;
use std::path::PathBuf;

use crate::error::{Error, Result};
use crate::storage::io::settings::IoSettings;
use crate::storage::location::Location;
use crate::storage::rules;
use crate::storage::sink::{Patch, Sink};
use crate::storage::source::Source;
use crate::storage::store::{DirRename, Entry, Stat, Store};

/// A directory whose new files are written once.
pub(crate) struct Once {
    /// The directory.
    inner: Location,
}

impl Once {
    /// The directory `inner`.
    pub(crate) fn new(inner: Location) -> Once {
        Once { inner }
    }

    /// The refusal of what such a directory does not do.
    fn refused(&self, name: &str) -> Error {
        rules::cannot_write(&self.inner.path_of(name), io::ErrorKind::Unsupported.into())
    }
}

impl Store for Once {
    fn open(&self, name: &str) -> Result<Box<dyn Source>> {
        self.inner.open(name)
    }

    fn create(&self, name: &str, len: u64) -> Result<Box<dyn Sink>> {
        self.inner.write_once(name, len)
    }

    fn patch(&self, name: &str) -> Result<Box<dyn Patch>> {
        Err(self.refused(name))
    }

    fn stat(&self, dir: &str) -> Result<Option<Stat>> {
        self.inner.stat(dir)
    }

    fn list(&self, dir: &str) -> Result<Vec<Entry>> {
        self.inner.list(dir)
    }

    fn rename(&self, from: &str, _to: &str) -> Result<()> {
        Err(self.refused(from))
    }

    fn rename_dir(&self, _from: &str, _to: &str) -> Result<DirRename> {
        Ok(DirRename::Unsupported)
    }

    fn remove(&self, name: &str) -> Result<()> {
        self.inner.remove(name)
    }

    fn remove_dir(&self, dir: &str) -> Result<()> {
        self.inner.remove_dir(dir)
    }

    fn sync(&self, dir: &str) -> Result<()> {
        rules::check_dir(dir)
    }

    fn free_bytes(&self, dir: &str) -> Option<u64> {
        self.inner.free_bytes(dir)
    }

    fn is_in_memory(&self, dir: &str) -> bool {
        self.inner.is_in_memory(dir)
    }

    fn use_io(&self, settings: IoSettings) {
        self.inner.use_io(settings);
    }

    fn path_of(&self, dir: &str) -> PathBuf {
        self.inner.path_of(dir)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::storage::files::write_small;

    #[test]
    fn a_file_has_its_name_from_the_first_byte_and_is_gone_if_it_is_not_whole() {
        let folder = tempfile::tempdir().unwrap();
        let once = Once::new(Location::of_path(folder.path()));
        write_small(&once, "dir/a", b"bytes").unwrap();
        assert_eq!(fs::read(folder.path().join("dir/a")).unwrap(), b"bytes");
        assert!(once.create("dir/a", 5).is_err(), "a name is used once");
        let mut sink = once.create("b", 5).unwrap();
        sink.write(b"by").unwrap();
        assert_eq!(fs::read(folder.path().join("b")).unwrap(), b"by");
        assert!(sink.commit().is_err() && !folder.path().join("b").exists());
        assert!(once.patch("dir/a").is_err() && once.rename("dir/a", "c").is_err());
        assert_eq!(once.rename_dir("dir", "c").unwrap(), DirRename::Unsupported);
        assert!(!once.lock("").unwrap().is_held());
    }
}
