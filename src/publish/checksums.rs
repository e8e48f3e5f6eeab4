//! `SHA256SUMS`: the SHA-256 of every file of the result, as `sha256sum -c` takes it.

use std::sync::PoisonError;

use crate::cancel::Cancel;
use crate::error::Result;
use crate::pipeline::milestone::{Milestone, Reached, ShardDone};
use crate::publish::provenance::{PROVENANCE, Provenance};
use crate::storage::checksummed::{Checksummed, Sums, sha256_of};
use crate::storage::location::Location;
use crate::storage::store::Store;

/// The hashes of a result that is being written.
#[derive(Default)]
pub(crate) struct Checksums {
    sums: Sums,
}

impl Checksums {
    /// `store`, whose new files are hashed.
    pub(crate) fn of(&self, store: Location, cancel: &Cancel) -> Location {
        Location::new(Checksummed::new(store, self.sums.clone(), cancel.clone()))
    }

    /// Adds its hash to a shard that is whole now, so that a later run need not read it.
    pub(crate) fn note(&self, milestone: &mut Milestone) {
        if let Reached::Shard(shard) = &mut milestone.reached {
            shard.sha256 = self.written(&shard.name);
        }
    }

    /// Adds its hash to a file of `store`, which is read if this run did not write it and nobody wrote its hash down.
    ///
    /// # Errors
    /// As [`Store::open`] and reading.
    pub(crate) fn add_to(&self, file: &mut ShardDone, store: &Location, cancel: &Cancel) -> Result<()> {
        if file.sha256.is_none() {
            file.sha256 = match self.written(&file.name) {
                Some(hash) => Some(hash),
                None => Some(sha256_of(store.open(&file.name)?.as_ref(), cancel)?),
            };
        }
        Ok(())
    }

    fn written(&self, name: &str) -> Option<String> {
        self.sums.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }
}

/// The content of `SHA256SUMS` for a record whose own file has the hash `own`: all files but itself, in the order of their
/// names.
pub(crate) fn sums_text(record: &Provenance, own: &str) -> String {
    let mut files: Vec<(&str, &str)> =
        record.all_files().filter_map(|file| Some((file.name.as_str(), file.sha256.as_deref()?))).collect();
    files.push((PROVENANCE, own));
    files.sort_unstable();
    files.iter().map(|(name, hash)| line(name, hash)).collect()
}

/// One line. A name with what would break it is escaped, which a backslash in front says.
fn line(name: &str, hash: &str) -> String {
    let escaped = name.replace('\\', "\\\\").replace('\n', "\\n").replace('\r', "\\r");
    let mark = if escaped == name { "" } else { "\\" };
    format!("{mark}{hash}  {escaped}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_would_break_the_line_is_escaped() {
        assert_eq!(line("a b", "00"), "00  a b\n");
        assert_eq!(line("a\\\nb", "00"), "\\00  a\\\\\\nb\n");
    }
}
