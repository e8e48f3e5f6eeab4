//! The writer: puts tiles back into order, hands each shard's bytes to its sink, commits it, tells its hash; and folds what
//! passes observe, as it is the one stage that sees tiles in order.

use std::collections::VecDeque;

use crossbeam_channel::{Receiver, Sender};
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::error::kind::ErrorKind;
use crate::ops::reduce::ReduceBlock;
use crate::schedule::cut::Merged as Merge;
use crate::schedule::steps::Work;
use crate::storage::sink::Sink;
use crate::tensor::rect::Rect;

use crate::pipeline::Run;
use crate::pipeline::message::{Merged, Pass};
use crate::pipeline::progress::Progress;
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
    ends: Ends<'_, '_>,
    progress: &Progress,
    shard_done: &mut (dyn FnMut(ShardDone) -> Result<()> + Send),
    stop: &Stop,
) -> Result<()> {
    let Ends { merged, pass_done } = ends;
    let mut writer = Writer { run, progress, shard_done, pass_done, open: None, state: Vec::new() };
    let mut waiting: VecDeque<Option<Merged<'_, '_>>> = VecDeque::new();
    let mut next = 0;
    for tile in merged {
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
pub(crate) struct Ends<'s, 'm> {
    /// Where tiles come from.
    pub(crate) merged: Receiver<Merged<'s, 'm>>,
    /// Who waits for what passes come to.
    pub(crate) pass_done: Sender<Pass>,
}

/// The shard that is being written.
struct Open {
    shard: usize,
    sink: Box<dyn Sink>,
    written: u64,
    hasher: blake3::Hasher,
}

struct Writer<'w> {
    run: &'w Run<'w>,
    progress: &'w Progress,
    shard_done: &'w mut (dyn FnMut(ShardDone) -> Result<()> + Send),
    pass_done: Sender<Pass>,
    open: Option<Open>,
    /// What the pass under way has come to.
    state: Vec<f64>,
}

impl Writer<'_> {
    fn write(&mut self, tile: Merged<'_, '_>) -> Result<()> {
        let shard = &self.run.plan.shards[tile.tile.shard];
        if let Work::Fold { tensor, op, rect, is_last, .. } = &tile.tile.work {
            let slab = tile.slab.as_ref().expect("tiles that are folded have a slab");
            let merge =
                Merge::of(&shard.tensors[*tensor]).expect("such tiles are made for merged tensors only");
            self.fold(merge, *op, rect, bytemuck::cast_slice(&slab[tile.bytes.clone()]));
            if *is_last {
                // The reader may be gone; then the run has stopped.
                let _ = self.pass_done.send(Pass { op: *op, state: std::mem::take(&mut self.state) });
            }
            return Ok(());
        }
        if tile.tile.work == Work::Header {
            self.progress.enter_shard(tile.tile.shard);
            let sink = self.run.store.create(&shard.name, shard.bytes)?;
            self.open =
                Some(Open { shard: tile.tile.shard, sink, written: 0, hasher: blake3::Hasher::new() });
            self.append(&shard.header)?;
        }
        if let Some(slab) = &tile.slab {
            self.append(&slab[tile.bytes.clone()])?;
        }
        drop(tile);
        self.close_if_whole()
    }

    /// Adds observed values to what the pass under way knows. Here they come in order, whoever observed them.
    fn fold(&mut self, merge: Merge<'_>, op: usize, rect: &Rect, values: &[f32]) {
        let op = &merge.ops[op];
        let Some(reduction) = op.delta().reduction() else { return };
        let (axis, per) = (reduction.axis(), reduction.values());
        if self.state.is_empty() {
            self.state = vec![0.0; op.placement.axes[axis].count as usize * per];
        }
        let grid = op.placement.grid(merge.view).expect("the plan chose the view so that it has one");
        let Some(window) = grid.window(rect) else { return };
        let block = ReduceBlock {
            values,
            width: rect.width() as usize,
            window: &window,
            axis,
            first: 0,
            per,
            kernels: self.run.kernels,
        };
        reduction.accumulate(&block, &mut self.state);
    }

    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        let open = self.open.as_mut().expect("a header tile opened the shard");
        open.sink.write(bytes)?;
        open.hasher.update(bytes);
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
            return Err(crate::error::Error::new(ErrorKind::Write { path: name.into() }).because(cause));
        }
        open.sink.commit()?;
        let hash = open.hasher.finalize().to_hex().to_string();
        (self.shard_done)(ShardDone { name, bytes, hash })
    }
}
