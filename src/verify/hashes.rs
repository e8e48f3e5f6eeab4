//! A directory held against the hashes of its own record.

use std::collections::HashSet;

use crate::cancel::Cancel;
use crate::error::verify::VerifyError;
use crate::error::{Error, Result};
use crate::pipeline::file_hash::SectionSum;
use crate::pipeline::milestone::ShardDone;
use crate::pipeline::section_hash::PIECE;
use crate::publish::finished::has_sums_of;
use crate::publish::hashing::FileHashing;
use crate::publish::provenance::{PROVENANCE, Provenance};
use crate::report::event::{Event, Reporter};
use crate::storage::location::Location;
use crate::storage::rules::FOREIGN;
use crate::storage::store::{EntryKind, Store};
use crate::verify::finding::Finding;
use crate::verify::verified::Verified;

/// Reads every file that the record in `dir` lists, and compares lengths and hashes.
///
/// # Errors
/// [`VerifyError::NoRecord`], [`VerifyError::UnreadableRecord`]; as reading;
/// [`ErrorKind::Stopped`](crate::error::kind::ErrorKind::Stopped).
pub(crate) fn check_hashes(dir: &Location, cancel: &Cancel, reporter: &mut dyn Reporter) -> Result<Verified> {
    dir.check_dir()?;
    let Some(record) = Provenance::read(dir)? else {
        let (path, is_there) = (dir.path(), dir.has_file(PROVENANCE)?);
        let hint = "without `--hashes-only`, and with `--base` and `--adapter`, it is compared with what its inputs give";
        let kind =
            if is_there { VerifyError::UnreadableRecord { path } } else { VerifyError::NoRecord { path } };
        return Err(Error::new(kind).hint(hint));
    };
    let files: Vec<&ShardDone> = record.all_files().collect();
    let bytes = files.iter().map(|file| file.bytes).sum();
    let mut findings = Vec::new();
    let mut is_begun = false;
    let mut tick = |now: &_| {
        let began = Event::Verifying { total_bytes: bytes };
        reporter.event(&if is_begun { Event::Progress(now) } else { began });
        is_begun = true;
    };
    let mut hashing = FileHashing::new(files.len(), bytes, cancel, &mut tick);
    for file in &files {
        findings.extend(check_file(dir, file, &mut hashing)?);
    }
    findings.extend(check_own(dir, &record, cancel)?);
    let own = [Some(PROVENANCE), record.checksums.as_deref()];
    let listed: HashSet<&str> = files.iter().map(|file| file.name.as_str()).collect();
    let is_listed = |name: &str| own.contains(&Some(name)) || listed.contains(name);
    let unlisted = unlisted(dir, &is_listed)?;
    let path = dir.to_string();
    Ok(Verified { path, files: files.len(), bytes, findings, unlisted, ..Verified::default() })
}

/// In what one file alone is not as it was recorded.
///
/// # Errors
/// As reading; [`ErrorKind::Stopped`](crate::error::kind::ErrorKind::Stopped).
pub(crate) fn check_one(dir: &Location, file: &ShardDone, cancel: &Cancel) -> Result<Option<Finding>> {
    check_file(dir, file, &mut FileHashing::new(1, file.bytes, cancel, &mut |_| {}))
}

/// In what one file is not as it was recorded.
fn check_file(dir: &Location, file: &ShardDone, hashing: &mut FileHashing<'_>) -> Result<Option<Finding>> {
    let name = file.name.clone();
    let found = match dir.stat(&name)? {
        Some(stat) if stat.kind == EntryKind::File => stat.bytes,
        _ => {
            hashing.pass();
            return Ok(Some(Finding::MissingFile { file: name }));
        }
    };
    if found != file.bytes {
        hashing.pass();
        return Ok(Some(Finding::Length { file: name, expected: file.bytes, found }));
    }
    let source = dir.open(&name)?;
    let (found, sections) = hashing.of_file(source.as_ref(), file)?;
    if found == file.hash && sections_agree(file, &sections) {
        return Ok(None);
    }
    let (ranges, tensors) = differing(&file.sections, &sections);
    let expected = file.hash.clone();
    Ok(Some(Finding::Hash { file: name, expected, found, ranges, tensors }))
}

/// Whether the sections that were recorded are those that were found.
fn sections_agree(file: &ShardDone, found: &[SectionSum]) -> bool {
    let pairs = file.sections.iter().zip(found);
    file.sections.len() == found.len() && pairs.into_iter().all(|(own, other)| own.hash == other.hash)
}

/// Between which bytes a file differs from what was recorded, and in which tensors.
fn differing(recorded: &[SectionSum], found: &[SectionSum]) -> (Vec<[u64; 2]>, Vec<String>) {
    let (mut ranges, mut tensors): (Vec<[u64; 2]>, Vec<String>) = Default::default();
    let mut at = 0_u64;
    for (own, other) in recorded.iter().zip(found) {
        if own.hash != other.hash {
            let within = differing_pieces(own, other).into_iter();
            ranges.extend(within.map(|range| range.map(|place| at.saturating_add(place))));
            tensors.extend((!own.tensor.is_empty()).then(|| own.tensor.to_string()));
        }
        at = at.saturating_add(own.bytes);
    }
    (ranges, tensors)
}

/// Between which bytes a section differs.
fn differing_pieces(own: &SectionSum, other: &SectionSum) -> Vec<[u64; 2]> {
    if own.pieces.len() != other.pieces.len() {
        return vec![[0, own.bytes]];
    }
    let pairs = own.pieces.iter().zip(&other.pieces).enumerate();
    let differing = pairs.filter(|(_, (own, other))| own != other).map(|(i, _)| i as u64);
    let mut ranges: Vec<[u64; 2]> = Vec::new();
    for i in differing {
        let [start, end] = [i * PIECE, (i + 1) * PIECE];
        match ranges.last_mut().filter(|last| last[1] == start) {
            Some(last) => last[1] = end,
            None => ranges.push([start, end]),
        }
    }
    if ranges.is_empty() {
        // All that have a value are as they were: it is in what comes behind them.
        ranges.push([own.pieces.len() as u64 * PIECE, own.bytes]);
    }
    ranges
}

/// In what a record and the checksums beside it do not fit what it lists.
///
/// # Errors
/// As reading.
pub(crate) fn check_own(dir: &Location, record: &Provenance, cancel: &Cancel) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let expected = record.digest_of_files();
    // Records of earlier versions have none.
    if !record.result.is_empty() && record.result != expected {
        findings.push(Finding::Result { expected, found: record.result.clone() });
    }
    if let Some(file) = &record.checksums
        && !has_sums_of(dir, record, cancel)?
    {
        findings.push(Finding::Checksums { file: file.clone() });
    }
    Ok(findings)
}

/// The files of `dir` that are not listed.
///
/// # Errors
/// As [`Store::list`].
pub(crate) fn unlisted(dir: &Location, is_listed: &dyn Fn(&str) -> bool) -> Result<Vec<String>> {
    let files = dir.files(&|name| FOREIGN.contains(&name))?.into_iter().map(|file| file.name);
    Ok(files.filter(|name| !is_listed(name)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::kind::ErrorKind;
    use crate::plan::out_tensor::Plan;
    use crate::storage::files::write_small;
    use crate::storage::memory::Memory;
    use crate::verify::stopping::Stopping;

    #[test]
    fn hashing_ends_with_the_token() {
        let dir = Location::new(Memory::new()).join("merged");
        write_small(&dir, "a", b"abc").unwrap();
        let hash = blake3::hash(b"abc").to_hex().to_string();
        let file = ShardDone { name: "a".to_owned(), bytes: 3, hash, sha256: None, sections: Vec::new() };
        let record = Provenance::new(&Plan::default(), "", Vec::new(), vec![file]);
        record.write(&dir, record.sum().bytes).unwrap();
        let check = |on_event: Cancel, cancel: &Cancel| check_hashes(&dir, cancel, &mut Stopping(on_event));
        assert!(check(Cancel::default(), &Cancel::default()).unwrap().findings.is_empty());
        let cancel = Cancel::default();
        let error = check(cancel.clone(), &cancel).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Stopped), "{error:?}");
    }
}
