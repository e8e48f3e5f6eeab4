//! [`Leftovers`]: what an earlier run left in a staging directory, and what of it stays.
//!
//! A result may have tens of thousands of side files, so that names are looked up and not compared one by one.

use std::collections::HashSet;

use crate::error::output::OutputError;
use crate::error::storage::StorageError;
use crate::error::{Error, Result};
use crate::plan::output_files::PARTS;
use crate::publish::journal::JOURNAL;
use crate::storage::location::Location;
use crate::storage::rules::part_name;
use crate::storage::store::{Entry, EntryKind, Store};

/// The names that something may have which a run of one plan left.
pub(crate) struct Leftovers<'l> {
    /// Files that this run goes on behind.
    kept: HashSet<&'l str>,
    /// They, or the directories that they are in.
    kept_tops: HashSet<&'l str>,
    /// All files of the output, or the directories that they are in.
    planned_tops: HashSet<&'l str>,
    /// Names that files of the output have until they are whole.
    parts: HashSet<String>,
    /// Whether the parts that it is joined from stay.
    keeps_parts: bool,
}

impl<'l> Leftovers<'l> {
    /// Of a run with these `planned` files, of which those of `kept` are left and wanted.
    pub(crate) fn new(kept: &'l [String], planned: &'l [String]) -> Leftovers<'l> {
        Leftovers {
            kept: kept.iter().map(String::as_str).collect(),
            kept_tops: kept.iter().map(|name| top(name)).collect(),
            planned_tops: planned.iter().map(|name| top(name)).collect(),
            parts: planned.iter().map(|name| part_name(name)).collect(),
            keeps_parts: false,
        }
    }

    /// The same where the parts that the output is joined from stay, if `keeps` says so.
    pub(crate) fn keeping_parts(self, keeps: bool) -> Leftovers<'l> {
        Leftovers { keeps_parts: keeps, ..self }
    }

    /// Whether this run goes on behind the file.
    pub(crate) fn is_kept(&self, name: &str) -> bool {
        self.kept.contains(name)
    }

    /// Removes everything in `dir` but the journal and what is kept, if all of it is what such a run leaves. Messages call it
    /// `place`.
    ///
    /// # Errors
    /// [`OutputError::OutputHolds`]; [`StorageError::Write`] for what cannot be removed; as [`Store::list`].
    pub(crate) fn clear(&self, dir: &Location, place: &Location) -> Result<()> {
        let found = self.looked_at(dir)?;
        if let Some(other) = found.iter().find(|entry| !self.is_ours(&entry.name)) {
            let error = Error::new(OutputError::OutputHolds { path: place.path() });
            return Err(error.hint(format!("`{}` in it is no file of this merge: move it away", other.name)));
        }
        for Entry { name, kind, .. } in found {
            match kind {
                EntryKind::Dir if self.kept_tops.contains(name.as_str()) => {
                    let below = dir.join(&name).files(&|_| false)?.into_iter();
                    let below = below.map(|file| format!("{name}/{}", file.name));
                    below.filter(|name| !self.is_kept(name)).try_for_each(|name| dir.remove(&name))?;
                }
                EntryKind::Dir => dir.remove_dir(&name)?,
                _ if self.is_kept(&name) => {}
                _ => dir.remove(&name)?,
            }
        }
        let is_wanted = |entry: &Entry| self.kept_tops.contains(entry.name.as_str());
        let Some(entry) = self.looked_at(dir)?.into_iter().find(|entry| !is_wanted(entry)) else {
            return Ok(());
        };
        Err(Error::new(StorageError::Write { path: dir.path_of(&entry.name) })
            .because("it cannot be removed"))
    }

    /// Whether a run of the plan may have left what has this name.
    fn is_ours(&self, name: &str) -> bool {
        // Network file systems keep what was removed while it was open.
        let is_left = name.starts_with('.') && (name.ends_with(".tmp") || name.starts_with(".nfs"));
        is_left || name == PARTS || self.planned_tops.contains(name) || self.parts.contains(name)
    }

    /// Everything in `dir` that goes or is kept by its name.
    fn looked_at(&self, dir: &Location) -> Result<Vec<Entry>> {
        let mut entries = others(dir)?;
        entries.retain(|entry| !self.keeps_parts || entry.name != PARTS);
        Ok(entries)
    }
}

/// Everything in `dir` but the journal.
///
/// # Errors
/// As [`Store::list`].
pub(crate) fn others(dir: &Location) -> Result<Vec<Entry>> {
    let mut entries = dir.list("")?;
    entries.retain(|entry| entry.name != JOURNAL);
    Ok(entries)
}

/// A file, or of one further down the directory.
pub(crate) fn top(name: &str) -> &str {
    name.split_once('/').map_or(name, |(top, _)| top)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::kind::ErrorKind;
    use crate::storage::files::write_small;
    use crate::storage::memory::Memory;

    #[test]
    fn what_is_kept_stays_and_what_is_nobodys_is_refused() {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let planned = owned(&["a", "b/c", "b/d", "e/f", "g"]);
        let kept = owned(&["a", "b/c", ".g.part"]);
        let leftovers = Leftovers::new(&kept, &planned);
        let dir = Location::new(Memory::new()).join("staging");
        for name in ["a", "b/c", "b/d", "e/f", "g", ".g.part", ".a.part", ".x.1-0.tmp", ".nfs1", JOURNAL] {
            write_small(&dir, name, b"bytes").unwrap();
        }
        leftovers.clear(&dir, &dir).unwrap();
        let left: Vec<String> = dir.files(&|_| false).unwrap().into_iter().map(|file| file.name).collect();
        assert_eq!(left, [".g.part", "a", "b/c", JOURNAL]);
        for name in ["c", "b.d", "ab", ".h.part"] {
            write_small(&dir, name, b"bytes").unwrap();
            let error = leftovers.clear(&dir, &dir).unwrap_err();
            let is_held = matches!(error.kind(), ErrorKind::Output(OutputError::OutputHolds { .. }));
            assert!(is_held && error.advice().unwrap().contains(name), "{name}: {error:?}");
            dir.remove(name).unwrap();
        }
    }
}
