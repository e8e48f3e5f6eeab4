//! The parts of a merge as they are found where they are to be joined: what is needed for that, and which are whole.

use crate::error::kind::ErrorKind;
use crate::error::parts::PartsError;
use crate::error::{Error, Result};
use crate::merge::join::PartStretch;
use crate::plan::out_tensor::Plan;
use crate::plan::share::{ShardRange, split};
use crate::publish::journal::HeadLine;
use crate::publish::part_number::{PartNumber, stretch_name};
use crate::publish::part_record::PartRecord;
use crate::publish::parts::{PartsDir, PartsJob};
use crate::publish::provenance::Provenance;
use crate::publish::staging::check_own;
use crate::storage::location::Location;
use crate::storage::store::Store;

/// A part that is whole.
pub(crate) struct WholePart {
    /// Which.
    pub(crate) number: PartNumber,
    /// What it makes.
    pub(crate) ranges: Vec<ShardRange>,
    /// What it has made.
    pub(crate) record: PartRecord,
}

/// What is needed to join the parts in `staged`, if some lie there; it is what the journal or the record there says.
///
/// # Errors
/// [`PartsError::Torn`]; as reading.
pub(crate) fn consistent_job(staged: &Location) -> Result<Option<PartsJob>> {
    if staged.stat("")?.is_none() {
        return Ok(None);
    }
    check_own(staged)?;
    let Some(job) = PartsJob::read(staged)? else { return Ok(None) };
    // Without a journal all is joined, and only to be shown; or nothing was made yet.
    let digest = match HeadLine::read(staged)? {
        HeadLine::Plan(digest) => Some(digest),
        HeadLine::Absent => match Provenance::read(staged)? {
            Some(record) => Some(record.plan),
            None => return Ok(None),
        },
        HeadLine::Torn | HeadLine::Unknown => None,
    };
    let is_possible = PartNumber::new(0, job.parts).is_some() && job.plan.is_sound();
    if is_possible && digest.is_some_and(|digest| digest == job.plan.digest()) {
        return Ok(Some(job));
    }
    let torn = Error::new(PartsError::Torn { path: staged.path() });
    Err(torn.hint("remove the directory, and run the parts again"))
}

/// All parts of `output` that make something, in order, which lie in `staged`.
///
/// # Errors
/// [`PartsError`], for all parts together; as reading.
pub(crate) fn whole_parts(
    output: &Location,
    (job, digest): (&PartsJob, &str),
    staged: &Location,
) -> Result<Vec<WholePart>> {
    let (parts, path) = (PartsDir::of(staged), output.path());
    if let Some(found) = parts.other_count(job.parts)? {
        let error = PartsError::OtherCount { path: staged.path(), found, asked: job.parts };
        return Err(
            Error::new(error).hint("remove the directories of parts that do not belong to this merge")
        );
    }
    let (mut whole, mut missing, mut errors) = (Vec::new(), Vec::new(), Vec::new());
    for (index, ranges) in (0..job.parts).zip(split(&job.plan, job.parts)) {
        let Some(number) = PartNumber::new(index, job.parts).filter(|_| !ranges.is_empty()) else {
            continue;
        };
        match whole_part((&parts, staged), (number, &ranges), (&job.plan, digest)) {
            Ok(Some(record)) => whole.push(WholePart { number, ranges, record }),
            Ok(None) => missing.push(number),
            Err(error) => errors.push(error),
        }
    }
    let mut unfinished = Vec::new();
    for number in &missing {
        if parts.is_being_made(*number)? {
            unfinished.push(number.index());
        }
    }
    let missing: Vec<u32> = missing.iter().map(PartNumber::index).collect();
    let missing: Vec<u32> = missing.into_iter().filter(|part| !unfinished.contains(part)).collect();
    let count = job.parts;
    if let Some(first) = missing.first() {
        let hint = format!("run the same merge with `--part {first}/{count}`, and then `shardfold finish`");
        let error = PartsError::Missing { path: path.clone(), parts: missing, count };
        errors.push(Error::new(error).hint(hint));
    }
    if !unfinished.is_empty() {
        let error = PartsError::Unfinished { path, parts: unfinished, count };
        errors.push(Error::new(error).hint("run `shardfold finish` again when they have ended"));
    }
    Error::all(errors)?;
    Ok(whole)
}

/// The record of a part that is whole; none if the part is not there.
fn whole_part(
    (parts, staged): (&PartsDir, &Location),
    (number, ranges): (PartNumber, &[ShardRange]),
    (plan, digest): (&Plan, &str),
) -> Result<Option<PartRecord>> {
    let place = parts.place(number);
    let again = || {
        format!(
            "remove `{}`, run `--part {number}` again, and then `shardfold finish`",
            place.path().display()
        )
    };
    let record = PartRecord::read(&place).map_err(|error| match error.kind() {
        ErrorKind::Parts(_) => error.hint(again()),
        _ => error,
    })?;
    let Some(record) = record else { return Ok(None) };
    let (path, part) = (staged.path(), number.index());
    if record.plan != digest {
        return Err(Error::new(PartsError::OtherPlan { path, part }).hint(again()));
    }
    if !record.is_of(number, &plan.share_shards(ranges, &stretch_name), plan.claims.len()) {
        return Err(Error::new(PartsError::Torn { path: place.path() }).hint(again()));
    }
    if let Some(shard) = record.lacks(&[&place, staged])? {
        let file = shard.name.clone();
        return Err(Error::new(PartsError::Damaged { path, part, file }).hint(again()));
    }
    Ok(Some(record))
}

/// What the parts have of each shard of the plan, in order.
pub(crate) fn stretches<'w>(plan: &Plan, whole: &'w [WholePart]) -> Vec<Vec<PartStretch<'w>>> {
    let mut by_shard: Vec<Vec<PartStretch<'w>>> = plan.shards.iter().map(|_| Vec::new()).collect();
    for WholePart { number, ranges, record } in whole {
        for ((range, file), milestone) in ranges.iter().zip(record.shards()).zip(&record.files) {
            let (number, range, counts) = (*number, range.clone(), &milestone.counts);
            by_shard[range.shard].push(PartStretch { number, range, file, counts });
        }
    }
    by_shard
}
