//! What an earlier run of the same plan left in a staging directory, and whether it is still what it was.
//!
//! A later run may go on behind it if the base has not changed since: each of its shards has the times that the journal has of
//! it. Whole shards are looked at by length and hash, the open one by the hash of its first bytes, unless the journal is to be
//! trusted. From the first that is not as it was on, all is made again.

use crate::cancel::Cancel;
use crate::error::Result;
use crate::pipeline::file_hash::{FileHash, FileState};
use crate::pipeline::milestone::{
    Milestone, MilestoneCounts, Reached, ShardPart, hash_of_part, of_plan, open_part, open_state,
    whole_shards,
};
use crate::pipeline::progress::Snapshot;
use crate::pipeline::sections::section_lens;
use crate::plan::out_tensor::{OutShard, Plan};
use crate::publish::finished::{is_as_long, is_as_recorded};
use crate::publish::hashing::FileHashing;
use crate::publish::journal::{BaseStamp, JournalWork};
use crate::publish::provenance::{PROVENANCE, Provenance};
use crate::storage::location::Location;
use crate::storage::rules::part_name;
use crate::storage::store::Store;

/// What a run goes on behind.
#[derive(Default)]
pub(crate) struct Kept {
    /// What is on disk for good.
    pub(crate) milestones: Vec<Milestone>,
    /// Whether all of it has counts: nobody counted a result that was whole and only not shown yet.
    pub(crate) is_counted: bool,
    /// What was there and does not serve.
    pub(crate) lost: Option<Lost>,
}

/// Why what an earlier run left does not serve.
pub(crate) enum Lost {
    /// The base may have changed since.
    Base,
    /// This file is not as it was left.
    Damaged(String),
}

/// How what was left is looked at.
pub(crate) struct Earlier<'e> {
    /// The plan.
    pub(crate) plan: &'e Plan,
    /// Its digest.
    pub(crate) digest: &'e str,
    /// The shards of the base; none if nobody can tell when they changed.
    pub(crate) base: Option<&'e [BaseStamp]>,
    /// Whether all of the base is older than a file with times like the record's in this directory.
    pub(crate) is_base_older: &'e dyn Fn(&Location) -> Result<bool>,
    /// Whether lengths are enough.
    pub(crate) trusts_journal: bool,
    /// How many parts it is joined from, if from some.
    pub(crate) parts: Option<u32>,
    /// What stops the look.
    pub(crate) cancel: &'e Cancel,
}

impl Kept {
    /// Bytes of the output's shards that need not be made again.
    pub(crate) fn bytes(&self) -> u64 {
        bytes_of(&self.milestones)
    }

    /// The files that hold them.
    pub(crate) fn files(&self) -> Vec<String> {
        let part = open_part(&self.milestones).map(|part| part_name(&part.name));
        whole_shards(&self.milestones).map(|shard| shard.name.clone()).chain(part).collect()
    }
}

fn bytes_of(milestones: &[Milestone]) -> u64 {
    let whole: u64 = whole_shards(milestones).map(|shard| shard.bytes).sum();
    whole + open_part(milestones).map_or(0, |part| part.bytes)
}

impl Earlier<'_> {
    /// What there is in `dir` to go on behind, by the journal in another directory or the same. `tick` is called when something
    /// is looked at, and then about ten times a second.
    ///
    /// # Errors
    /// As [`Store::stat`], [`Store::open`] and reading; [`ErrorKind::Stopped`](crate::error::kind::ErrorKind::Stopped).
    pub(crate) fn find(
        &self,
        (dir, journal_dir): (&Location, &Location),
        tick: &mut dyn FnMut(&Snapshot),
    ) -> Result<Kept> {
        let JournalWork { base, milestones, .. } = JournalWork::read(journal_dir)?;
        let milestones = of_plan(self.plan, milestones);
        if milestones.is_empty() {
            return self.find_whole(dir, tick);
        }
        if base.is_none() || base.as_deref() != self.base {
            return Ok(Kept { lost: Some(Lost::Base), is_counted: true, ..Kept::default() });
        }
        self.check(dir, milestones, tick)
    }

    /// A result that was whole, and whose journal had gone, so that only showing it was left.
    fn find_whole(&self, dir: &Location, tick: &mut dyn FnMut(&Snapshot)) -> Result<Kept> {
        let nothing = Kept { is_counted: true, ..Kept::default() };
        let Some(record) = Provenance::read(dir)?.filter(|record| record.plan == self.digest) else {
            return Ok(nothing);
        };
        if !dir.has_file(PROVENANCE)? || !(self.is_base_older)(dir)? {
            return Ok(Kept { lost: Some(Lost::Base), ..nothing });
        }
        let shard = |done| Milestone { reached: Reached::Shard(done), counts: MilestoneCounts::default() };
        let all = of_plan(self.plan, record.shards.into_iter().map(shard).collect());
        let found = self.check(dir, all, tick)?;
        let is_whole = found.milestones.len() == self.plan.shards.len();
        Ok(if is_whole { Kept { is_counted: false, ..found } } else { Kept { lost: found.lost, ..nothing } })
    }

    /// As much of it, from the first on, as is still what it was.
    fn check(
        &self,
        dir: &Location,
        milestones: Vec<Milestone>,
        tick: &mut dyn FnMut(&Snapshot),
    ) -> Result<Kept> {
        let mut kept = Kept { milestones, is_counted: true, lost: None };
        let count = whole_shards(&kept.milestones).count() + 1;
        let mut hashing = (!self.trusts_journal)
            .then(|| FileHashing::new(count, bytes_of(&kept.milestones), self.cancel, tick));
        let (mut first, mut wrong) = (0, None);
        for (i, milestone) in kept.milestones.iter().enumerate() {
            let is_last = i + 1 == kept.milestones.len();
            let (name, is_sound) = match (&milestone.reached, &mut hashing) {
                (Reached::Shard(shard), None) => (&shard.name, is_as_long(dir, shard)?),
                (Reached::Shard(shard), Some(hashing)) => (&shard.name, is_as_recorded(dir, shard, hashing)?),
                // What is known of it by a later one is enough.
                (Reached::Part(_), _) if !is_last => continue,
                (Reached::Part(part), hashing) => {
                    let shard = &self.plan.shards[whole_shards(&kept.milestones).count()];
                    let state = open_state(&kept.milestones);
                    let is_kept = |state| is_kept(dir, (part, &state), shard, hashing.as_mut());
                    (&part.name, state.map_or(Ok(false), is_kept)?)
                }
            };
            if !is_sound {
                wrong = Some(name.clone());
                break;
            }
            first = i + 1;
        }
        if wrong.is_some() {
            kept.milestones.truncate(first);
        }
        kept.lost = wrong.map(Lost::Damaged);
        Ok(kept)
    }
}

/// Whether the first bytes of a shard are there as they were kept.
///
/// A run that was cut off when it had committed the shard, and had not recorded that yet, left it under its own name. What is
/// behind the part is recorded nowhere, so the shard becomes a part again.
fn is_kept(
    dir: &Location,
    (part, state): (&ShardPart, &FileState),
    shard: &OutShard,
    hashing: Option<&mut FileHashing<'_>>,
) -> Result<bool> {
    let name = part_name(&part.name);
    if dir.stat(&name)?.is_none() && dir.has_file(&part.name)? {
        dir.rename(&part.name, &name)?;
    }
    let is_there = dir.stat(&name)?.is_some_and(|stat| stat.bytes >= part.bytes);
    if !is_there {
        return Ok(false);
    }
    let Some(hashing) = hashing else { return Ok(hash_of_part(part.bytes, state, shard, dir).is_ok()) };
    let mut hash = FileHash::new(section_lens(shard));
    hashing.read(dir.open(&name)?.as_ref(), part.bytes, &mut |bytes| hash.update(bytes))?;
    Ok(hash.is_at(state))
}
