//! [`Milestone`]: what of the output is on disk for good, and what was counted on the way there. A later run goes on behind
//! the last one.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::error::storage::StorageError;
use crate::plan::out_tensor::{OutShard, Plan};
use crate::schedule::order::WalkStart;
use crate::storage::rules::part_name;
use crate::storage::store::Store;

use crate::pipeline::file_hash::{FileHash, FileState, SectionSum};
use crate::pipeline::retained::Retention;
use crate::pipeline::section_hash::STRETCH;
use crate::pipeline::sections::section_lens;

/// A shard or a part of one is on disk for good.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Milestone {
    /// Which.
    #[serde(flatten)]
    pub reached: Reached,
    /// What was counted since the last.
    pub(crate) counts: MilestoneCounts,
}

/// How far an output is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reached {
    /// A shard is committed.
    Shard(ShardDone),
    /// The first bytes of the shard behind the last that is committed are kept.
    Part(ShardPart),
}

/// A shard that is committed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardDone {
    /// File name.
    pub name: String,
    /// Length in bytes.
    pub bytes: u64,
    /// BLAKE3 in hex: of a shard that of its sections' hashes, of any other file that of its bytes.
    pub hash: String,
    /// SHA-256 of it, in hex, where that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) sha256: Option<String>,
    /// The sections of a shard: its header, and each of its tensors.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) sections: Vec<SectionSum>,
}

impl ShardDone {
    /// Bytes of all its sections.
    pub(crate) fn section_bytes(&self) -> Option<u64> {
        self.sections.iter().try_fold(0_u64, |all, section| all.checked_add(section.bytes))
    }

    /// Whether both have the same name and bytes, and say the same of every section.
    pub(crate) fn is_same_as(&self, other: &ShardDone) -> bool {
        let sections =
            |file: &ShardDone| file.sections.iter().map(|section| section.hash).collect::<Vec<_>>();
        (&self.name, self.bytes, &self.hash) == (&other.name, other.bytes, &other.hash)
            && sections(self) == sections(other)
    }
}

/// The first bytes of a shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardPart {
    /// The shard's file name.
    pub name: String,
    /// How many there are.
    pub bytes: u64,
    /// The row of a merged tensor that begins there; 0 where a tensor begins, or a copied one goes on.
    pub row: u64,
    /// The state of their hash, but for sections that earlier milestones of the shard have.
    pub(crate) hash: FileState,
}

/// What was counted: elements by claim, and changed elements by tensor of the shard.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct MilestoneCounts {
    /// By position of the claim in the plan.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) claims: BTreeMap<u32, ClaimCount>,
    /// By position of the tensor in its shard.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) changed: BTreeMap<u32, u64>,
}

/// What was reached of a claim. It is written as bits, so that it is read as it was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "[u64; 7]", into = "[u64; 7]")]
pub(crate) struct ClaimCount {
    /// Elements.
    pub(crate) elements: u64,
    /// What is left of its delta.
    pub(crate) retained: Retention,
}

impl From<[u64; 7]> for ClaimCount {
    fn from(
        [elements, arrived, squares, weight_squares, nonzero, unchanged, measured]: [u64; 7],
    ) -> ClaimCount {
        let [arrived, squares, weight_squares] = [arrived, squares, weight_squares].map(f64::from_bits);
        let retained = Retention { arrived, squares, weight_squares, nonzero, unchanged, measured };
        ClaimCount { elements, retained }
    }
}

impl From<ClaimCount> for [u64; 7] {
    fn from(count: ClaimCount) -> [u64; 7] {
        let Retention { arrived, squares, weight_squares, nonzero, unchanged, measured } = count.retained;
        let [arrived, squares, weight_squares] = [arrived, squares, weight_squares].map(f64::to_bits);
        [count.elements, arrived, squares, weight_squares, nonzero, unchanged, measured]
    }
}

impl ClaimCount {
    /// Adds what was reached elsewhere.
    pub(crate) fn add(&mut self, other: &ClaimCount) {
        self.elements = self.elements.saturating_add(other.elements);
        self.retained.add(&other.retained);
    }
}

impl Milestone {
    /// The shard that is whole, if one is.
    pub(crate) fn shard(&self) -> Option<&ShardDone> {
        match &self.reached {
            Reached::Shard(done) => Some(done),
            Reached::Part(_) => None,
        }
    }
}

/// The shards that are whole, in the plan's order.
pub(crate) fn whole_shards(milestones: &[Milestone]) -> impl Iterator<Item = &ShardDone> {
    milestones.iter().filter_map(Milestone::shard)
}

/// What there is of the shard behind them.
pub(crate) fn open_part(milestones: &[Milestone]) -> Option<&ShardPart> {
    match &milestones.last()?.reached {
        Reached::Part(part) => Some(part),
        Reached::Shard(_) => None,
    }
}

/// Where a run begins that goes on behind the last milestone.
pub(crate) fn walk_start(milestones: &[Milestone]) -> WalkStart {
    let (bytes, row) = open_part(milestones).map_or((0, 0), |part| (part.bytes, part.row));
    WalkStart { shard: whole_shards(milestones).count(), bytes, row }
}

/// As many of the milestones, from the first on, as can be those of a run of `plan`.
pub(crate) fn of_plan(plan: &Plan, mut milestones: Vec<Milestone>) -> Vec<Milestone> {
    let (mut shard, mut bytes, mut sound) = (0, 0, 0);
    // Of the shard under way.
    let mut sections = Vec::new();
    for milestone in &milestones {
        let Some(planned) = plan.shards.get(shard) else { break };
        let in_plan = milestone.counts.claims.keys().all(|&claim| (claim as usize) < plan.claims.len())
            && milestone.counts.changed.keys().all(|&at| (at as usize) < planned.tensors.len());
        let is_next = match &milestone.reached {
            Reached::Shard(done) => done.name == planned.name && done.bytes == planned.bytes,
            Reached::Part(part) => {
                let start = WalkStart { shard, bytes: part.bytes, row: part.row };
                sections.extend_from_slice(&part.hash.sections);
                let state =
                    FileState { sections: std::mem::take(&mut sections), open: part.hash.open.clone() };
                let is_sound = is_sound(part.bytes, &state, planned);
                sections = state.sections;
                part.name == planned.name && part.bytes > bytes && start.is_in(plan) && is_sound
            }
        };
        if !in_plan || !is_next {
            break;
        }
        sound += 1;
        (shard, bytes) = match &milestone.reached {
            Reached::Shard(_) => (shard + 1, 0),
            Reached::Part(part) => (shard, part.bytes),
        };
        if bytes == 0 {
            sections.clear();
        }
    }
    milestones.truncate(sound);
    milestones
}

/// Whether `state` is that of the hash of the first `bytes` bytes of a shard.
fn is_sound(bytes: u64, state: &FileState, shard: &OutShard) -> bool {
    let tail = state.bytes().and_then(|hashed| bytes.checked_sub(hashed));
    tail.is_some_and(|tail| tail <= STRETCH) && state.fits(&section_lens(shard))
}

/// The state of the hash of the bytes that the open part has; its sections are those of all its milestones.
pub(crate) fn open_state(milestones: &[Milestone]) -> Option<FileState> {
    let open = open_part(milestones)?.hash.open.clone();
    let first = milestones.iter().rposition(|milestone| milestone.shard().is_some()).map_or(0, |i| i + 1);
    let sections = milestones[first..].iter().flat_map(|milestone| match &milestone.reached {
        Reached::Part(part) => &part.hash.sections[..],
        Reached::Shard(_) => &[],
    });
    Some(FileState { sections: sections.cloned().collect(), open })
}

/// The hash of the first bytes of a shard, of which those behind `state` are read again.
///
/// # Errors
/// [`StorageError::Changed`] if they are not what was written; as [`Store::open`] and [`Source::read_at`](crate::storage::source::Source::read_at).
pub(crate) fn hash_of_part(
    bytes: u64,
    state: &FileState,
    shard: &OutShard,
    store: &dyn Store,
) -> Result<FileHash> {
    let kept = part_name(&shard.name);
    let changed = || StorageError::Changed { path: store.path_of(&kept) };
    let mut hash = FileHash::from_state(section_lens(shard), state).ok_or_else(changed)?;
    let hashed = state.bytes().filter(|hashed| *hashed <= bytes).ok_or_else(changed)?;
    let mut tail = vec![0; (bytes - hashed) as usize];
    store.open(&kept)?.read_at(&mut tail, hashed)?;
    hash.update(&tail);
    if hash.is_at(state) { Ok(hash) } else { Err(changed().into()) }
}
