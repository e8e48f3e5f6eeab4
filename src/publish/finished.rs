//! A finished output looked at again: every file by its hash, the record against the plan, the side files against the inputs.

use std::collections::HashMap;

use crate::cancel::Cancel;
use crate::error::output::OutputError;
use crate::error::{Error, Result};
use crate::pipeline::milestone::ShardDone;
use crate::pipeline::progress::Snapshot;
use crate::plan::out_tensor::Plan;
use crate::plan::output_files::SUMS;
use crate::publish::checksums::sums_text;
use crate::publish::hashing::FileHashing;
use crate::publish::provenance::{PROVENANCE, Provenance};
use crate::storage::checksummed::sha256_of;
use crate::storage::location::Location;
use crate::storage::source::Source;
use crate::storage::store::{EntryKind, Store};

/// What a finished output must be.
pub(crate) struct Wanted<'w> {
    /// The plan.
    pub(crate) plan: &'w Plan,
    /// Its digest.
    pub(crate) digest: &'w str,
    /// The files that it copies, in its order.
    pub(crate) copied: &'w [Box<dyn Source>],
    /// Where programs keep their state, if they have such a place.
    pub(crate) state: Option<&'w Location>,
    /// How many parts it is made in, if in several.
    pub(crate) parts: Option<u32>,
    /// What stops the look.
    pub(crate) cancel: &'w Cancel,
}

impl Wanted<'_> {
    /// Fails unless `output`, whose record is of this plan, is all that the plan makes, as it was written. `tick` is called
    /// when it begins, and then about ten times a second.
    ///
    /// # Errors
    /// [`OutputError::OutputDamaged`] with all files that are missing or other; [`OutputError::OtherSideFile`];
    /// [`ErrorKind::Stopped`](crate::error::kind::ErrorKind::Stopped).
    pub(crate) fn check(
        &self,
        output: &Location,
        record: &Provenance,
        tick: &mut dyn FnMut(&Snapshot),
    ) -> Result<()> {
        let path = || output.path();
        let damaged = |files: Vec<String>| {
            let error = Error::new(OutputError::OutputDamaged { path: path(), files });
            Err(error.hint("move the directory away and run the merge again"))
        };
        if !self.is_recorded(record) {
            return damaged(vec![PROVENANCE.to_owned()]);
        }
        let files: Vec<&ShardDone> = record.all_files().collect();
        let copied = &self.plan.copied;
        let bytes = files.iter().map(|file| file.bytes).chain(copied.iter().map(|file| file.bytes)).sum();
        let mut hashing = FileHashing::new(files.len() + copied.len(), bytes, self.cancel, tick);
        let mut wrong = Vec::new();
        for file in &files {
            if !is_as_recorded(output, file, &mut hashing)? {
                wrong.push(file.name.clone());
            }
        }
        if self.plan.sha256 && !has_sums_of(output, record, self.cancel)? {
            wrong.push(SUMS.to_owned());
        }
        if !wrong.is_empty() {
            return damaged(wrong);
        }
        let recorded: HashMap<&str, &str> =
            record.files.iter().map(|file| (file.name.as_str(), file.hash.as_str())).collect();
        for (copied, source) in copied.iter().zip(self.copied) {
            let hash = hashing.of_source(source.as_ref())?;
            if recorded.get(copied.name.as_str()) != Some(&hash.as_str()) {
                let error = OutputError::OtherSideFile { path: path(), file: copied.name.clone() };
                return Err(Error::new(error).hint("name an output that does not exist yet"));
            }
        }
        Ok(())
    }

    /// Whether the record has every file of the plan, each with its length, and no other.
    fn is_recorded(&self, record: &Provenance) -> bool {
        let mut recorded: Vec<(&str, u64)> =
            record.all_files().map(|file| (file.name.as_str(), file.bytes)).collect();
        recorded.sort_unstable();
        let mut planned = self.plan.output_files();
        planned.retain(|file| ![PROVENANCE, SUMS].contains(&file.name));
        planned.sort_unstable_by(|a, b| a.name.cmp(b.name));
        let is_like = |(recorded, planned): (&(&str, u64), &crate::plan::output_files::OutputFile<'_>)| {
            recorded.0 == planned.name && planned.bytes.is_none_or(|bytes| bytes == recorded.1)
        };
        recorded.len() == planned.len() && recorded.iter().zip(&planned).all(is_like)
    }
}

/// Whether `SHA256SUMS` in `dir` is what goes with the record there.
///
/// # Errors
/// As [`Location::read_start`] and reading.
pub(crate) fn has_sums_of(dir: &Location, record: &Provenance, cancel: &Cancel) -> Result<bool> {
    let own = sha256_of(dir.open(PROVENANCE)?.as_ref(), cancel)?;
    let expected = sums_text(record, &own);
    let found = dir.read_start(SUMS, expected.len() as u64)?;
    Ok(found.is_some_and(|found| found.is_whole && found.bytes == expected.as_bytes()))
}

/// Whether a file in `dir` has the length and the hash that were recorded of it.
///
/// # Errors
/// As [`Store::stat`], [`Store::open`] and [`FileHashing::of_source`].
pub(crate) fn is_as_recorded(
    dir: &Location,
    file: &ShardDone,
    hashing: &mut FileHashing<'_>,
) -> Result<bool> {
    if !is_as_long(dir, file)? {
        hashing.pass();
        return Ok(false);
    }
    let source = dir.open(&file.name)?;
    Ok(hashing.of_file(source.as_ref(), file)?.0 == file.hash)
}

/// Whether a file in `dir` has the length that was recorded of it.
///
/// # Errors
/// As [`Store::stat`].
pub(crate) fn is_as_long(dir: &Location, file: &ShardDone) -> Result<bool> {
    let stat = dir.stat(&file.name)?;
    Ok(stat.is_some_and(|stat| stat.kind == EntryKind::File && stat.bytes == file.bytes))
}
