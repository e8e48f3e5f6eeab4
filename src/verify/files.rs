//! The files of a directory beside its tensors, held against what the merge gives them: headers, the index, the config, the
//! card, side files, and the record.

use std::collections::HashMap;

use crate::cancel::Cancel;
use crate::error::Result;
use crate::merge::prepare::Prepared;
use crate::pipeline::milestone::ShardDone;
use crate::plan::out_tensor::{OutHeader, OutShard};
use crate::plan::output_files::CARD;
use crate::publish::model_card::model_card;
use crate::publish::provenance::Provenance;
use crate::storage::location::Location;
use crate::storage::source::Source;
use crate::storage::store::{EntryKind, Store};
use crate::verify::finding::Finding;
use crate::verify::found_tensors::FoundTensors;
use crate::verify::hashes::check_own;

/// Bytes that are read at a time.
const STEP: usize = 256 << 10;

/// Bytes that a file should have.
enum Expected<'e> {
    /// The first of another file.
    Of(&'e dyn Source, u64),
    /// These.
    Bytes(&'e [u8]),
}

impl Expected<'_> {
    fn len(&self) -> u64 {
        match self {
            Expected::Of(_, len) => *len,
            Expected::Bytes(bytes) => bytes.len() as u64,
        }
    }

    fn read(&self, buf: &mut [u8], at: u64) -> Result<()> {
        match self {
            Expected::Of(source, _) => source.read_at(buf, at),
            Expected::Bytes(bytes) => {
                buf.copy_from_slice(&bytes[at as usize..at as usize + buf.len()]);
                Ok(())
            }
        }
    }
}

/// Compares the headers of all shards.
///
/// # Errors
/// As reading.
pub(crate) fn check_headers(prepared: &Prepared, target: &FoundTensors) -> Result<Vec<Finding>> {
    let (plan, mut findings) = (&prepared.plan, Vec::new());
    let shards: HashMap<&str, &OutShard> =
        plan.shards.iter().map(|shard| (shard.name.as_str(), shard)).collect();
    for (name, source) in &target.files {
        let Some(shard) = shards.get(name.as_str()) else { continue };
        let expected = match &shard.header {
            OutHeader::Copied { from, bytes } => {
                Expected::Of(prepared.sources[from.0 as usize].as_ref(), *bytes)
            }
            OutHeader::Made(header) => Expected::Bytes(header),
        };
        if let Some(offset) = first_difference(&expected, source.as_ref(), &prepared.cancel)? {
            findings.push(Finding::Bytes { file: name.clone(), offset });
        }
    }
    Ok(findings)
}

/// Compares the files beside the shards. Returns their hashes as the merge gives them, too.
///
/// # Errors
/// As reading.
pub(crate) fn check_others(prepared: &Prepared, dir: &Location) -> Result<(Vec<Finding>, Vec<ShardDone>)> {
    let plan = &prepared.plan;
    let card = model_card(plan, &prepared.base_name, prepared.library);
    let own = plan.files.iter().map(|file| (file.name.as_str(), file.content.as_str()));
    let own = own.chain([(CARD, card.as_str())]);
    let own = own.map(|(name, text)| (name, Expected::Bytes(text.as_bytes())));
    let copied = plan.copied.iter().zip(&prepared.copied);
    let copied =
        copied.map(|(file, source)| (file.name.as_str(), Expected::Of(source.as_ref(), source.len())));
    let (mut findings, mut done) = (Vec::new(), Vec::new());
    for (name, expected) in copied.chain(own) {
        let hash = hash_of(&expected, &prepared.cancel)?;
        done.push(ShardDone {
            name: name.to_owned(),
            bytes: expected.len(),
            hash,
            sha256: None,
            sections: Vec::new(),
        });
        findings.extend(check_file(dir, name, &expected, &prepared.cancel)?);
    }
    Ok((findings, done))
}

fn check_file(
    dir: &Location,
    name: &str,
    expected: &Expected<'_>,
    cancel: &Cancel,
) -> Result<Option<Finding>> {
    let file = name.to_owned();
    if !dir.stat(name)?.is_some_and(|stat| stat.kind == EntryKind::File) {
        return Ok(Some(Finding::MissingFile { file }));
    }
    let source = dir.open(name)?;
    if let Some(offset) = first_difference(expected, source.as_ref(), cancel)? {
        return Ok(Some(Finding::Bytes { file, offset }));
    }
    let (expected, found) = (expected.len(), source.len());
    Ok((found != expected).then_some(Finding::Length { file, expected, found }))
}

/// Memory for the next bytes of a file of that length: most of many side files are small.
fn buffer(len: u64) -> Vec<u8> {
    vec![0; len.min(STEP as u64) as usize]
}

/// The first byte of a file that is not as it should be, as far as it reaches.
fn first_difference(expected: &Expected<'_>, found: &dyn Source, cancel: &Cancel) -> Result<Option<u64>> {
    let len = expected.len().min(found.len());
    let (mut own, mut other, mut at) = (buffer(len), buffer(len), 0);
    while at < len {
        cancel.check()?;
        let step = (len - at).min(STEP as u64) as usize;
        expected.read(&mut own[..step], at)?;
        found.read_at(&mut other[..step], at)?;
        if let Some(first) = own[..step].iter().zip(&other[..step]).position(|(own, other)| own != other) {
            return Ok(Some(at + first as u64));
        }
        at += step as u64;
    }
    Ok(None)
}

fn hash_of(expected: &Expected<'_>, cancel: &Cancel) -> Result<String> {
    let (mut hasher, mut buf, mut at) = (blake3::Hasher::new(), buffer(expected.len()), 0);
    while at < expected.len() {
        cancel.check()?;
        let step = (expected.len() - at).min(STEP as u64) as usize;
        expected.read(&mut buf[..step], at)?;
        hasher.update(&buf[..step]);
        at += step as u64;
    }
    Ok(hasher.finalize().to_hex().to_string())
}

/// Compares the record of `dir` with the hashes of what the merge gives.
///
/// # Errors
/// As reading.
pub(crate) fn check_record(
    dir: &Location,
    record: &Provenance,
    expected: &[ShardDone],
    cancel: &Cancel,
) -> Result<Vec<Finding>> {
    let recorded: HashMap<&str, &ShardDone> =
        record.all_files().map(|file| (file.name.as_str(), file)).collect();
    let is_other = |file: &&ShardDone| {
        recorded.get(file.name.as_str()).is_none_or(|recorded| !recorded.is_same_as(file))
    };
    let mut findings: Vec<Finding> =
        expected.iter().filter(is_other).map(|file| Finding::Recorded { file: file.name.clone() }).collect();
    findings.extend(check_own(dir, record, cancel)?);
    Ok(findings)
}
