//! A store that keeps nothing: for a run whose bytes are only looked at as they pass.

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::storage::rules;
use crate::storage::rules::Length;
use crate::storage::sink::{Patch, Sink};
use crate::storage::source::Source;
use crate::storage::store::{DirRename, Entry, EntryKind, Stat, Store};

/// What looks at bytes of a file as they pass: its name, how many came before, and they.
type Look = Arc<dyn Fn(&str, u64, &[u8]) -> Result<()> + Send + Sync>;

/// Takes every file and holds none.
#[derive(Clone, Default)]
pub(crate) struct Discard {
    look: Option<Look>,
}

impl Discard {
    /// One whose files are looked at as they pass. What `look` fails with ends the writing.
    pub(crate) fn looking(look: impl Fn(&str, u64, &[u8]) -> Result<()> + Send + Sync + 'static) -> Discard {
        Discard { look: Some(Arc::new(look)) }
    }
}

impl Store for Discard {
    fn open(&self, name: &str) -> Result<Box<dyn Source>> {
        rules::check_name(name)?;
        Err(rules::missing("file", Path::new(name)))
    }

    fn create(&self, name: &str, len: u64) -> Result<Box<dyn Sink>> {
        rules::check_name(name)?;
        let (name, length) = (name.to_owned(), Length::new(len));
        Ok(Box::new(DiscardSink { name, at: 0, length, look: self.look.clone() }))
    }

    fn patch(&self, name: &str) -> Result<Box<dyn Patch>> {
        rules::check_name(name)?;
        Err(rules::missing("file", Path::new(name)))
    }

    fn stat(&self, dir: &str) -> Result<Option<Stat>> {
        rules::check_dir(dir)?;
        Ok(dir.is_empty().then_some(Stat { kind: EntryKind::Dir, bytes: 0 }))
    }

    fn list(&self, dir: &str) -> Result<Vec<Entry>> {
        rules::check_dir(dir)?;
        if dir.is_empty() { Ok(Vec::new()) } else { Err(rules::missing("directory", Path::new(dir))) }
    }

    fn rename(&self, from: &str, _to: &str) -> Result<()> {
        Err(nothing_there(from))
    }

    fn rename_dir(&self, from: &str, _to: &str) -> Result<DirRename> {
        Err(nothing_there(from))
    }

    fn remove(&self, name: &str) -> Result<()> {
        rules::check_name(name)
    }

    fn remove_dir(&self, dir: &str) -> Result<()> {
        rules::check_dir(dir)
    }

    fn sync(&self, dir: &str) -> Result<()> {
        rules::check_dir(dir)
    }
}

fn nothing_there(name: &str) -> Error {
    rules::cannot_write(Path::new(name), io::ErrorKind::NotFound.into())
}

/// Holds its writer to the length that was announced.
struct DiscardSink {
    name: String,
    /// Bytes that came.
    at: u64,
    length: Length,
    look: Option<Look>,
}

impl DiscardSink {
    fn cannot_write(&self, cause: io::Error) -> Error {
        rules::no_room(Path::new(&self.name), self.length.missing(), || 0, cause)
    }
}

impl Sink for DiscardSink {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.length.extend(bytes.len() as u64, |_| Ok(())).map_err(|cause| self.cannot_write(cause))?;
        if let Some(look) = &self.look {
            look(&self.name, self.at, bytes)?;
        }
        self.at += bytes.len() as u64;
        Ok(())
    }

    fn skip(&mut self, bytes: u64) -> Result<()> {
        let skipped = self.length.extend(bytes, |_| Ok(()));
        skipped.map_err(|cause| self.cannot_write(cause))?;
        self.at += bytes;
        Ok(())
    }

    fn commit(self: Box<Self>) -> Result<()> {
        self.length.check_whole().map_err(|cause| self.cannot_write(cause))
    }

    fn abort(self: Box<Self>) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::files::write_small;

    #[test]
    fn a_file_is_taken_whole_and_is_not_there() {
        let store = Discard::default();
        write_small(&store, "a/b", b"bytes").unwrap();
        assert!(store.open("a/b").is_err() && store.list("").unwrap().is_empty());
        let mut sink = store.create("a", 3).unwrap();
        sink.write(b"ab").unwrap();
        assert!(sink.write(b"cd").is_err(), "more than was announced");
        assert!(sink.commit().is_err(), "less than was announced");
        assert!(store.create("../a", 3).is_err());
    }
}
