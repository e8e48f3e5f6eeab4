//! The writer: puts tiles back into order, hands each shard's bytes to its sink, commits it, and reports its hash. Tiles of
//! reductions it hands to the reduction under way.

use std::collections::VecDeque;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender};
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::error::storage::StorageError;
use crate::plan::out_tensor::OutHeader;
use crate::schedule::tile::{MergeTile, Purpose, Work};
use crate::storage::sink::Sink;
use crate::storage::source::Source;

use crate::pipeline::clock::{Activity, StageClock};
use crate::pipeline::message::{MergedTile, ReductionResult};
use crate::pipeline::progress::Progress;
use crate::pipeline::reduce::ReductionState;
use crate::pipeline::run::Run;
use crate::pipeline::stop::Stop;

/// A shard that is committed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardDone {
    /// File name.
    pub name: String,
    /// Length in bytes.
    pub bytes: u64,
    /// BLAKE3 of the file, in hex.
    pub hash: String,
}

/// Writes every tile in the order of the schedule; returns quietly when there are no more.
pub(crate) fn run(
    run: &Run<'_>,
    ends: WriterEnds<'_, '_, '_>,
    progress: &Progress,
    shard_done: &mut (dyn FnMut(ShardDone) -> Result<()> + Send),
    stop: &Stop,
) -> Result<()> {
    let WriterEnds { merged, reduced, clock } = ends;
    let mut writer = Writer {
        run,
        progress,
        shard_done,
        reduced,
        clock,
        open: None,
        reduction: ReductionState::default(),
    };
    let mut waiting: VecDeque<Option<MergedTile<'_, '_, '_>>> = VecDeque::new();
    let mut next = 0;
    while let Ok(tile) = writer.clock.spend(Activity::Wait, || merged.recv()) {
        let place = (tile.tile.seq - next) as usize;
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
            writer.write(tile)?;
        }
    }
    Ok(())
}

/// The writer's ends of its channels.
pub(crate) struct WriterEnds<'p, 's, 'm> {
    /// Where tiles come from.
    pub(crate) merged: Receiver<MergedTile<'p, 's, 'm>>,
    /// Who waits for the results of reductions.
    pub(crate) reduced: Sender<ReductionResult>,
    /// What its time goes to.
    pub(crate) clock: Arc<StageClock>,
}

/// The shard that is being written.
struct Open {
    shard: usize,
    sink: Box<dyn Sink>,
    written: u64,
    hash: blake3::Hasher,
}

struct Writer<'w> {
    run: &'w Run<'w>,
    progress: &'w Progress,
    shard_done: &'w mut (dyn FnMut(ShardDone) -> Result<()> + Send),
    reduced: Sender<ReductionResult>,
    clock: Arc<StageClock>,
    open: Option<Open>,
    reduction: ReductionState,
}

impl Writer<'_> {
    fn write(&mut self, tile: MergedTile<'_, '_, '_>) -> Result<()> {
        let bytes = tile.buffer.as_deref().map(|buffer| &buffer[tile.bytes.clone()]);
        match &tile.tile.work {
            Work::Header => self.begin(tile.tile.shard)?,
            Work::Merge(MergeTile { purpose: Purpose::Reduce { op, is_last }, .. }) => {
                self.reduce(&tile, *op, *is_last);
                return Ok(());
            }
            Work::Copy { from, offset, .. } => {
                self.append(bytes.unwrap_or_default(), Some((self.run.sources[from.0 as usize], *offset)))?;
            }
            Work::Merge(_) => self.append(bytes.unwrap_or_default(), None)?,
        }
        drop(tile);
        self.close_if_whole()
    }

    /// Opens a shard, and writes its header where that is new.
    fn begin(&mut self, i: usize) -> Result<()> {
        let shard = &self.run.plan.shards[i];
        self.progress.enter_shard(i);
        let sink = self.run.store.create(&shard.name, shard.bytes)?;
        self.open = Some(Open { shard: i, sink, written: 0, hash: blake3::Hasher::new() });
        match &shard.header {
            // It comes as the next tiles.
            OutHeader::Copied { .. } => Ok(()),
            OutHeader::Made(header) => self.append(header, None),
        }
    }

    /// Adds the values of a tile to the reduction under way, and sends the result after its last.
    fn reduce(&mut self, tile: &MergedTile<'_, '_, '_>, op: usize, is_last: bool) {
        let Work::Merge(merge) = &tile.tile.work else { unreachable!("only such tiles are reduced") };
        let buffer = tile.buffer.as_deref().expect("such tiles have a buffer");
        let values = bytemuck::cast_slice(&buffer[tile.bytes.clone()]);
        let add = || self.reduction.add(merge, values, self.run.kernels);
        self.clock.spend(Activity::Compute, add);
        if is_last {
            // The feed may be gone; then the run has stopped.
            let _ = self.reduced.send(self.reduction.finish(op));
        }
    }

    /// Adds bytes to the shard; `same` is where else they are.
    fn append(&mut self, bytes: &[u8], same: Option<(&dyn Source, u64)>) -> Result<()> {
        let open = self.open.as_mut().expect("a header tile opened the shard");
        self.clock.spend(Activity::Write, || match same {
            Some((source, offset)) => open.sink.write_same(bytes, source, offset),
            None => open.sink.write(bytes),
        })?;
        self.clock.spend(Activity::Hash, || open.hash.update(bytes));
        open.written += bytes.len() as u64;
        self.progress.add_written(bytes.len() as u64);
        Ok(())
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
            return Err(crate::error::Error::new(StorageError::Write { path: name.into() }).because(cause));
        }
        self.clock.spend(Activity::Sync, || open.sink.commit())?;
        let hash = open.hash.finalize().to_hex().to_string();
        (self.shard_done)(ShardDone { name, bytes, hash })
    }
}
