//! What a part has made: the record that is the last file of its directory. What the part's shards come to is counted when all
//! are joined.

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::error::parts::PartsError;
use crate::pipeline::milestone::{Milestone, MilestoneCounts, Reached, ShardDone};
use crate::pipeline::sections::section_lens;
use crate::plan::out_tensor::OutShard;
use crate::plan::output_files::RECORD;
use crate::publish::finished::is_as_long;
use crate::publish::part_number::PartNumber;
use crate::storage::files::write_small;
use crate::storage::location::Location;
use crate::storage::store::Store;

/// The most that is read of a record: that of 300,000 tensors.
const MOST_BYTES: u64 = 64 << 20;

/// The record of a part.
#[derive(Serialize, Deserialize)]
pub(crate) struct PartRecord {
    /// Version of shardfold that wrote it.
    shardfold: String,
    /// Digest of the plan of all parts.
    pub(crate) plan: String,
    /// Which part it is, from 0.
    part: u32,
    /// Of how many.
    of: u32,
    /// What others may do with the files that were read, bits of a mode.
    pub(crate) access: u32,
    /// Its files in order, with what was counted while they were made.
    pub(crate) files: Vec<Milestone>,
}

impl PartRecord {
    /// Of the part of the plan with this digest that has come to these milestones.
    pub(crate) fn new(digest: &str, number: PartNumber, access: u32, milestones: &[Milestone]) -> PartRecord {
        PartRecord {
            shardfold: env!("CARGO_PKG_VERSION").to_owned(),
            plan: digest.to_owned(),
            part: number.index(),
            of: number.count(),
            access,
            files: by_file(milestones),
        }
    }

    /// The record in `dir`; none if there is none.
    ///
    /// # Errors
    /// [`PartsError::Torn`]; as reading.
    pub(crate) fn read(dir: &Location) -> Result<Option<PartRecord>> {
        if !dir.has_file(RECORD)? {
            return Ok(None);
        }
        let text = dir.read_small(RECORD, MOST_BYTES)?;
        let record = text.and_then(|text| serde_json::from_slice(&text).ok());
        record.map(Some).ok_or_else(|| PartsError::Torn { path: dir.path_of(RECORD) }.into())
    }

    /// Writes it into `dir`. Returns its length.
    ///
    /// # Errors
    /// As [`write_small`].
    pub(crate) fn write(&self, dir: &Location) -> Result<u64> {
        let text = serde_json::to_vec(self).expect("strings and numbers");
        write_small(dir, RECORD, &text)?;
        Ok(text.len() as u64)
    }

    /// Whether it is that of this part, which makes `shards` of a plan with so many claims, and has all its files.
    pub(crate) fn is_of(&self, number: PartNumber, shards: &[OutShard], claims: usize) -> bool {
        let is_of_shard = |(milestone, shard): (&Milestone, &OutShard)| {
            let counts = &milestone.counts;
            let in_plan = counts.claims.keys().all(|&claim| (claim as usize) < claims)
                && counts.changed.keys().all(|&at| (at as usize) < shard.tensors.len());
            in_plan
                && milestone.shard().is_some_and(|done| {
                    (&done.name, done.bytes) == (&shard.name, shard.bytes)
                        && done.sections.iter().map(|section| section.bytes).eq(section_lens(shard))
                })
        };
        (self.part, self.of) == (number.index(), number.count())
            && self.files.len() == shards.len()
            && self.files.iter().zip(shards).all(is_of_shard)
    }

    /// Its files.
    pub(crate) fn shards(&self) -> impl Iterator<Item = &ShardDone> {
        self.files.iter().filter_map(Milestone::shard)
    }

    /// A file of it that is in none of these directories with its length.
    ///
    /// # Errors
    /// As [`Store::stat`].
    pub(crate) fn lacks(&self, dirs: &[&Location]) -> Result<Option<&ShardDone>> {
        for shard in self.shards() {
            let mut found = false;
            for dir in dirs {
                found |= is_as_long(dir, shard)?;
            }
            if !found {
                return Ok(Some(shard));
            }
        }
        Ok(None)
    }
}

/// One milestone for each shard, with all that was counted since the one before.
fn by_file(milestones: &[Milestone]) -> Vec<Milestone> {
    let mut counts = MilestoneCounts::default();
    let mut files = Vec::new();
    for milestone in milestones {
        for (claim, count) in &milestone.counts.claims {
            counts.claims.entry(*claim).or_default().add(count);
        }
        for (tensor, changed) in &milestone.counts.changed {
            *counts.changed.entry(*tensor).or_default() += changed;
        }
        if let Reached::Shard(done) = &milestone.reached {
            let reached = Reached::Shard(done.clone());
            files.push(Milestone { reached, counts: std::mem::take(&mut counts) });
        }
    }
    files
}
