//! The writer: puts tiles back into order, hands each shard's bytes to its sink, counts what was done, commits the shard, and
//! reports milestones. Tiles of reductions it hands to the reduction under way.

use std::collections::VecDeque;
use std::mem;
use std::ops::Range;
use std::sync::Arc;

use crate::error::storage::StorageError;
use crate::error::{Error, Result};
use crate::plan::out_tensor::OutHeader;
use crate::schedule::reduces::Reduces;
use crate::schedule::tile::{MergeTile, Purpose, Work};
use crate::storage::sink::Sink;
use crate::storage::source::Source;
use crate::tensor::reference::FileId;
use crate::threads::channel::{Receiver, Sender};

use crate::pipeline::clock::{Activity, StageClock};
use crate::pipeline::file_hash::{FileHash, hash_of};
use crate::pipeline::message::{MadeTile, MergedTile, ReductionResult};
use crate::pipeline::milestone::{
    Milestone, Reached, ShardDone, ShardPart, hash_of_part, open_part, open_state, whole_shards,
};
use crate::pipeline::progress::Progress;
use crate::pipeline::reduce::ReductionState;
use crate::pipeline::run::Run;
use crate::pipeline::scratch::Outcome;
use crate::pipeline::sections::{section_lens, spans, zeros_at};
use crate::pipeline::stop::Stop;
use crate::pipeline::stretch_values::StretchValues;
use crate::pipeline::tally::Tally;

/// Writes every tile in the order of the schedule; returns quietly when there are no more.
pub(crate) fn run(
    run: &Run<'_>,
    ends: WriterEnds<'_, '_, '_>,
    (progress, tally): (&Progress, &mut Tally),
    record: &mut (dyn FnMut(Milestone) -> Result<()> + Send),
    stop: &Stop,
) -> Result<()> {
    let WriterEnds { merged, reduced, counted, clock } = ends;
    let mut writer = Writer {
        run,
        progress,
        tally,
        record,
        reduced,
        counted,
        clock,
        open: None,
        reduction: ReductionState::default(),
    };
    in_order(merged, &writer.clock.clone(), stop, &mut |tile| writer.write(tile))
}

/// Hands on tiles in the order of the schedule; returns quietly when there are no more or the run is stopped.
///
/// # Errors
/// As `take`; the first failure of a worker, in that order.
pub(crate) fn in_order<'p, 's, 'm>(
    merged: Receiver<MadeTile<'p, 's, 'm>>,
    clock: &StageClock,
    stop: &Stop,
    take: &mut dyn FnMut(MergedTile<'p, 's, 'm>) -> Result<()>,
) -> Result<()> {
    let mut waiting: VecDeque<Option<Result<MergedTile<'p, 's, 'm>>>> = VecDeque::new();
    let mut next = 0;
    while let Ok(MadeTile { seq, tile }) = clock.spend(Activity::Wait, || merged.recv()) {
        let place = (seq - next) as usize;
        if waiting.len() <= place {
            waiting.resize_with(place + 1, || None);
        }
        waiting[place] = Some(tile);
        while let Some(tile) = waiting.front_mut().and_then(Option::take) {
            if stop.is_raised() {
                return Ok(());
            }
            waiting.pop_front();
            next += 1;
            take(tile?)?;
        }
    }
    Ok(())
}

/// The writer's ends of its channels.
pub(crate) struct WriterEnds<'p, 's, 'm> {
    /// Where tiles come from.
    pub(crate) merged: Receiver<MadeTile<'p, 's, 'm>>,
    /// Who waits for the results of reductions.
    pub(crate) reduced: Sender<ReductionResult>,
    /// Where outcomes go that are counted.
    pub(crate) counted: Sender<Outcome>,
    /// What its time goes to.
    pub(crate) clock: Arc<StageClock>,
}

/// The shard that is being written.
struct Open {
    shard: usize,
    sink: Box<dyn Sink>,
    written: u64,
    hash: FileHash,
    /// Bytes up to the last milestone.
    marked: u64,
}

struct Writer<'w> {
    run: &'w Run<'w>,
    progress: &'w Progress,
    tally: &'w mut Tally,
    record: &'w mut (dyn FnMut(Milestone) -> Result<()> + Send),
    reduced: Sender<ReductionResult>,
    counted: Sender<Outcome>,
    clock: Arc<StageClock>,
    open: Option<Open>,
    reduction: ReductionState,
}

impl Writer<'_> {
    fn write(&mut self, tile: MergedTile<'_, '_, '_>) -> Result<()> {
        let mut tile = tile;
        let outcome = mem::take(&mut tile.outcome);
        let bytes = tile.buffer.as_deref().map(|buffer| &buffer[tile.bytes.clone()]).unwrap_or_default();
        let (tensor, row) = match &tile.tile.work {
            Work::Header => {
                self.begin(tile.tile.shard)?;
                (None, None)
            }
            Work::Merge(MergeTile { purpose: Purpose::Reduce { of, is_last }, .. }) => {
                self.reduce(&tile, *of, *is_last);
                return Ok(());
            }
            Work::Merge(merge) => {
                self.leave_out_before(tile.tile.at)?;
                self.append(bytes, &outcome.hashed, None)?;
                (Some(merge.tensor), next_row(merge))
            }
            Work::Copy { from, offset, .. } => {
                self.leave_out_before(tile.tile.at)?;
                let same = (self.run.sources[from.0 as usize], *offset);
                self.append(bytes, &outcome.hashed, Some(same))?;
                (None, Some(0))
            }
            &Work::Share { from, offset, bytes } => {
                self.share(tile.tile.at, from, offset..offset + bytes)?;
                (None, Some(0))
            }
        };
        self.tally.add(tile.tile.shard, tensor, &outcome);
        self.align()?;
        // One that nobody takes is dropped.
        let _ = self.counted.try_send(outcome);
        drop(tile);
        if let Some(row) = row {
            self.mark_if_due(row)?;
        }
        self.close_if_whole()
    }

    /// Opens a shard, where an earlier run left it, and writes its header where that is new.
    fn begin(&mut self, i: usize) -> Result<()> {
        let (run, shard) = (self.run, &self.run.plan.shards[i]);
        self.progress.enter_shard(i);
        let part = open_part(run.kept).filter(|_| i == whole_shards(run.kept).count());
        let (written, hash) = match part.zip(open_state(run.kept)) {
            Some((part, state)) => (part.bytes, hash_of_part(part.bytes, &state, shard, run.store)?),
            None => (0, FileHash::new(section_lens(shard))),
        };
        self.progress.add_written(written);
        let sink = run.store.resume(&shard.name, written, shard.bytes)?;
        self.open = Some(Open { shard: i, sink, written, hash, marked: written });
        match &shard.header {
            OutHeader::Made(header) if written == 0 => self.append(header, &StretchValues::default(), None),
            // It comes as the next tiles, or is there.
            _ => Ok(()),
        }
    }

    /// Adds the values of a tile to the reduction under way, and sends the result after its last.
    fn reduce(&mut self, tile: &MergedTile<'_, '_, '_>, of: Reduces, is_last: bool) {
        let Work::Merge(merge) = &tile.tile.work else { unreachable!("only such tiles are reduced") };
        let buffer = tile.buffer.as_deref().expect("such tiles have a buffer");
        let bytes = &buffer[tile.bytes.clone()];
        let add = || self.reduction.add(merge, bytes, self.run.kernels);
        self.clock.spend(Activity::Compute, add);
        if is_last {
            // The feed may be gone; then the run has stopped.
            let _ = self.reduced.send(self.reduction.finish(of));
        }
    }

    /// Leaves out what lies before byte `at` of the shard, where only a part of it is made.
    fn leave_out_before(&mut self, at: u64) -> Result<()> {
        let Some(open) = self.open.as_mut().filter(|_| !self.run.extent.is_all()) else { return Ok(()) };
        if open.written < at {
            open.sink.skip(at - open.written)?;
            open.written = at;
        }
        Ok(())
    }

    /// Adds bytes to the shard, of which workers hashed some; `same` is where else they are.
    fn append(
        &mut self,
        bytes: &[u8],
        hashed: &StretchValues,
        same: Option<(&dyn Source, u64)>,
    ) -> Result<()> {
        let open = self.open.as_mut().expect("a header tile opened the shard");
        self.clock.spend(Activity::Write, || match same {
            Some((source, offset)) => open.sink.write_same(bytes, source, offset),
            None => open.sink.write(bytes),
        })?;
        // Of a part of a file there is no hash.
        if self.run.extent.is_all() {
            self.clock.spend(Activity::Hash, || open.hash.update_with(bytes, hashed));
        }
        open.written += bytes.len() as u64;
        self.progress.add_written(bytes.len() as u64);
        Ok(())
    }

    /// Adds the zeros that stand behind the bytes so far, if any do.
    fn align(&mut self) -> Result<()> {
        let Some(open) = self.open.as_ref().filter(|_| self.run.extent.is_all()) else { return Ok(()) };
        let mut left = zeros_at(&self.run.plan.shards[open.shard], open.written);
        while left > 0 {
            let zeros = &[0; 256][..left.min(256) as usize];
            self.append(zeros, &StretchValues::default(), None)?;
            left -= zeros.len() as u64;
        }
        Ok(())
    }

    /// Adds bytes of an input, whole sections whose hashes are known.
    fn share(&mut self, at: u64, from: FileId, range: Range<u64>) -> Result<()> {
        let open = self.open.as_mut().expect("a header tile opened the shard");
        let (source, bytes) = (self.run.sources[from.0 as usize], range.end - range.start);
        self.clock
            .spend(Activity::Write, || open.sink.append_from(source, range.start, bytes, self.run.cancel))?;
        for span in spans(&self.run.plan.shards[open.shard], at, bytes) {
            let start = range.start + span.start - at;
            let known = self.run.shared.section(from, &(start..start + span.bytes));
            open.hash.pass(known.expect("only what is known is shared"));
        }
        open.written += bytes;
        self.progress.add_shared(bytes);
        Ok(())
    }

    /// Makes the bytes so far last, if they are many; `row` is the one of their last tensor that comes next.
    fn mark_if_due(&mut self, row: u64) -> Result<()> {
        let Some(open) = &mut self.open else { return Ok(()) };
        let shard = &self.run.plan.shards[open.shard];
        let is_inside = open.written >= shard.header.bytes() && open.written < shard.bytes;
        if !is_inside || open.written - open.marked < self.run.stride {
            return Ok(());
        }
        if !self.clock.spend(Activity::Sync, || open.sink.keep())? {
            return Ok(());
        }
        open.marked = open.written;
        let part = ShardPart { name: shard.name.clone(), bytes: open.written, row, hash: open.hash.state() };
        (self.record)(Milestone { reached: Reached::Part(part), counts: self.tally.take_recent() })
    }

    /// Commits the shard once all its bytes are written.
    fn close_if_whole(&mut self) -> Result<()> {
        let bytes = match &self.open {
            Some(open) => self.run.plan.shards[open.shard].bytes,
            None => return Ok(()),
        };
        let Some(open) = self.open.take_if(|open| open.written >= bytes) else { return Ok(()) };
        let name = self.run.plan.shards[open.shard].name.clone();
        if open.written > bytes {
            let cause = format!("{} bytes were written where {bytes} were planned", open.written);
            return Err(Error::new(StorageError::Write { path: name.into() }).because(cause));
        }
        self.clock.spend(Activity::Sync, || open.sink.commit())?;
        let sections = open.hash.finish();
        let done = ShardDone { name, bytes, hash: hash_of(&sections), sha256: None, sections };
        (self.record)(Milestone { reached: Reached::Shard(done), counts: self.tally.take_recent() })
    }
}

/// The row that comes behind a tile, 0 behind the last; none where the tile ends inside a row.
fn next_row(tile: &MergeTile<'_>) -> Option<u64> {
    let view = tile.merged.view;
    let row = tile.rect.rows.end;
    (tile.rect.cols.end == view.cols).then_some(if row == view.rows { 0 } else { row })
}
