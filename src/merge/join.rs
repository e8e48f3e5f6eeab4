//! Shards made of what the parts of a merge have of them: moved where one part has all of a shard, else put together from the
//! stretches of several, in steps of little memory. Where blocks can be shared, nothing is copied.

use std::time::{Duration, Instant};

use crate::cancel::Cancel;
use crate::error::parts::PartsError;
use crate::error::{Error, Result};
use crate::pipeline::file_hash::{FileHash, SectionSum, hash_of};
use crate::pipeline::milestone::{
    Milestone, MilestoneCounts, Reached, ShardDone, ShardPart, hash_of_part, open_part, open_state,
    whole_shards,
};
use crate::pipeline::progress::Snapshot;
use crate::pipeline::sections::section_lens;
use crate::plan::out_tensor::Plan;
use crate::plan::share::ShardRange;
use crate::publish::part_number::PartNumber;
use crate::publish::parts::PartsDir;
use crate::publish::staging::Staging;
use crate::storage::location::Location;
use crate::storage::sink::Sink;
use crate::storage::source::Source;
use crate::storage::store::Store;

/// How often progress is reported.
const TICK: Duration = Duration::from_millis(100);
/// Bytes that are read and written at a time.
const STEP: u64 = 1 << 20;
/// Bytes of a shard that are put together before they are kept.
pub(crate) const STRIDE: u64 = 768 << 20;

/// What one part has of a shard.
pub(crate) struct PartStretch<'s> {
    /// Which part.
    pub(crate) number: PartNumber,
    /// Which of the shard's tensors it has.
    pub(crate) range: ShardRange,
    /// The file in which it has them.
    pub(crate) file: &'s ShardDone,
    /// What was counted while they were made.
    pub(crate) counts: &'s MilestoneCounts,
}

/// The shards of a plan that are joined.
pub(crate) struct Joining<'j> {
    /// The plan of all parts.
    pub(crate) plan: &'j Plan,
    /// Where the parts are.
    pub(crate) parts: &'j PartsDir,
    /// Bytes of a shard from one place that is kept to the next.
    pub(crate) stride: u64,
    /// Whether it is taken for granted that blocks can be shared.
    pub(crate) shares: bool,
    /// What stops it.
    pub(crate) cancel: &'j Cancel,
    /// Hears of how far it is.
    pub(crate) tick: &'j mut dyn FnMut(&Snapshot),
    /// How far it is.
    pub(crate) now: Snapshot,
    /// When that was told last.
    pub(crate) told: Instant,
}

/// A shard that is put together.
struct OpenJoin<'o> {
    sink: Box<dyn Sink>,
    hash: FileHash,
    written: u64,
    /// Bytes that are kept.
    marked: u64,
    /// Where it is recorded what is kept.
    staging: &'o mut Staging,
}

impl Joining<'_> {
    /// Joins shard `i` of the plan from its stretches, behind what an earlier run left of it, and records it.
    ///
    /// # Errors
    /// [`PartsError::Damaged`]; as reading and writing; [`ErrorKind::Stopped`](crate::error::kind::ErrorKind::Stopped).
    pub(crate) fn join(
        &mut self,
        i: usize,
        stretches: &[PartStretch<'_>],
        store: &Location,
        staging: &mut Staging,
    ) -> Result<Milestone> {
        self.cancel.check()?;
        self.now.shard = i;
        (self.tick)(&self.now);
        let counts = counts_of(stretches);
        if let [whole] = stretches
            && whole.range.is_whole
        {
            return self.move_whole(whole, counts, staging);
        }
        let shard = &self.plan.shards[i];
        let mut open = self.open(i, store, staging)?;
        for stretch in stretches {
            self.append(stretch, store, &mut open)?;
        }
        open.sink.commit()?;
        let sections = open.hash.finish();
        let done = ShardDone {
            name: shard.name.clone(),
            bytes: shard.bytes,
            hash: hash_of(&sections),
            sha256: None,
            sections,
        };
        let milestone = Milestone { reached: Reached::Shard(done), counts };
        staging.record(&milestone)?;
        Ok(milestone)
    }

    /// Moves a shard that one part has made. It is recorded first: by its place it is known whether it was moved.
    fn move_whole(
        &mut self,
        whole: &PartStretch<'_>,
        counts: MilestoneCounts,
        staging: &mut Staging,
    ) -> Result<Milestone> {
        let (dir, place) = (staging.dir().clone(), self.parts.place(whole.number));
        if !place.has_file(&whole.file.name)? {
            return Err(self.damaged(whole));
        }
        let milestone = Milestone { reached: Reached::Shard(whole.file.clone()), counts };
        staging.record(&milestone)?;
        place.move_file(&whole.file.name, &dir)?;
        dir.sync("")?;
        self.now.written_bytes += whole.file.bytes;
        Ok(milestone)
    }

    /// Opens shard `i` where an earlier run left it.
    fn open<'o>(&mut self, i: usize, store: &Location, staging: &'o mut Staging) -> Result<OpenJoin<'o>> {
        let shard = &self.plan.shards[i];
        let kept = &staging.kept().milestones;
        let part = open_part(kept).filter(|_| i == whole_shards(kept).count());
        let (written, hash) = match part.zip(open_state(kept)) {
            Some((part, state)) => (part.bytes, hash_of_part(part.bytes, &state, shard, store)?),
            None => (0, FileHash::new(section_lens(shard))),
        };
        self.now.written_bytes += written;
        let sink = store.resume(&shard.name, written, shard.bytes)?;
        Ok(OpenJoin { sink, hash, written, marked: written, staging })
    }

    /// Appends what comes next of a stretch.
    fn append(&mut self, stretch: &PartStretch<'_>, store: &Location, open: &mut OpenJoin<'_>) -> Result<()> {
        let (start, end) = (stretch.range.start(self.plan), stretch.range.end(self.plan));
        if end <= open.written {
            return Ok(());
        }
        let place = self.parts.place(stretch.number);
        let source = place.open(&stretch.file.name)?;
        let sections = own_sections(stretch);
        let can_share = self.shares || store.sharing("", source.as_ref()).ranges;
        if open.written == start && can_share {
            let from = stretch.range.pad(self.plan);
            open.sink.append_from(source.as_ref(), from, end - start, self.cancel)?;
            sections.iter().for_each(|section| open.hash.pass(section));
            open.written = end;
            self.now.written_bytes += end - start;
            self.now.shared_bytes += end - start;
            return self.mark(stretch.range.shard, open);
        }
        self.copy(stretch, source.as_ref(), sections, open)
    }

    /// Copies what comes next of a stretch, section by section, and sees that it is what was written.
    fn copy(
        &mut self,
        stretch: &PartStretch<'_>,
        source: &dyn Source,
        sections: &[SectionSum],
        open: &mut OpenJoin<'_>,
    ) -> Result<()> {
        let mut buf = vec![0; STEP as usize];
        let (start, pad) = (stretch.range.start(self.plan), stretch.range.pad(self.plan));
        let mut at = start;
        for section in sections {
            let (from, end) = (at, at + section.bytes);
            at = end;
            // What is kept ends where a section ends.
            if end <= open.written {
                continue;
            }
            let mut hash = FileHash::new(vec![section.bytes]);
            while open.written < end {
                self.cancel.check()?;
                let step = &mut buf[..(end - open.written).min(STEP) as usize];
                let offset = open.written - start + pad;
                source.read_at(step, offset)?;
                source.done_before(offset + step.len() as u64);
                hash.update(step);
                open.hash.update(step);
                open.sink.write(step)?;
                open.written += step.len() as u64;
                self.now.read_bytes += step.len() as u64;
                self.now.written_bytes += step.len() as u64;
                if self.told.elapsed() >= TICK {
                    self.told = Instant::now();
                    (self.tick)(&self.now);
                }
            }
            if from < end && hash.finish().iter().map(|sum| sum.hash).ne([section.hash]) {
                return Err(self.damaged(stretch));
            }
            if open.written - open.marked >= self.stride {
                self.mark(stretch.range.shard, open)?;
            }
        }
        Ok(())
    }

    /// Makes what is put together so far last.
    fn mark(&self, i: usize, open: &mut OpenJoin<'_>) -> Result<()> {
        let shard = &self.plan.shards[i];
        let is_inside = open.written >= shard.header.bytes() && open.written < shard.bytes;
        if !is_inside || !open.sink.keep()? {
            return Ok(());
        }
        open.marked = open.written;
        let part =
            ShardPart { name: shard.name.clone(), bytes: open.written, row: 0, hash: open.hash.state() };
        // What was counted comes with the shard.
        open.staging.record(&Milestone { reached: Reached::Part(part), counts: MilestoneCounts::default() })
    }

    /// The error of a stretch that is not what its part wrote. That part is to be made again.
    fn damaged(&self, stretch: &PartStretch<'_>) -> Error {
        let (part, file) = (stretch.number.index(), stretch.file.name.clone());
        let error = PartsError::Damaged { path: self.parts.staging().path(), part, file };
        // If it cannot be removed, this is found again.
        let _ = self.parts.forget(stretch.number);
        Error::new(error).hint(format!(
            "it was removed: run `--part {}` again, and then `shardfold finish`",
            stretch.number
        ))
    }
}

/// The hashes of a stretch's own sections: what stands before its first tensor to keep its place is none.
fn own_sections<'s>(stretch: &PartStretch<'s>) -> &'s [SectionSum] {
    let before = usize::from(stretch.range.tensors.start > 0);
    &stretch.file.sections[before..]
}

/// What was counted while the stretches of a shard were made, by its tensors.
fn counts_of(stretches: &[PartStretch<'_>]) -> MilestoneCounts {
    let mut all = MilestoneCounts::default();
    for PartStretch { range, counts, .. } in stretches {
        for (claim, count) in &counts.claims {
            all.claims.entry(*claim).or_default().add(count);
        }
        let moved = counts.changed.iter();
        all.changed.extend(moved.map(|(tensor, changed)| (tensor + range.tensors.start as u32, *changed)));
    }
    all
}
