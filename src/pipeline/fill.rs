//! The last stage of a run that is read or compared: it hands the bytes of tiles to the caller, or puts them where they are wanted,
//! and writes nothing.
//!
//! It stands where the writer stands in a merge, sees tiles in the order of the schedule as that does, and so accumulates
//! reductions too. Nothing is hashed or counted: what is read is chosen, and never all that a claim must reach.

use std::ops::Range;

use crate::error::Result;
use crate::error::run::RunError;
use crate::memory::pool::PoolMemory;
use crate::schedule::tile::{MergeTile, Purpose, Work};

use crate::pipeline::clock::Activity;
use crate::pipeline::message::MergedTile;
use crate::pipeline::progress::{Progress, Snapshot};
use crate::pipeline::reduce::ReductionState;
use crate::pipeline::run::Run;
use crate::pipeline::stop::Stop;
use crate::pipeline::writer::{WriterEnds, in_order};

/// Bytes of a shard that are wanted, and the memory that they go to: each is written once.
pub(crate) struct FillSpan<'o> {
    /// Where they are in the shard's file.
    pub(crate) range: Range<u64>,
    /// As many bytes of the caller's.
    pub(crate) to: &'o mut [u8],
}

/// What the bytes of a tile are handed to, with the shard and where in it they are.
pub(crate) type PassTile<'p> = dyn FnMut(usize, u64, &[u8]) -> Result<()> + Send + 'p;

impl Run<'_> {
    /// Makes the run's extent, all of it in one shard, and puts what of it is `wanted` (apart, and in order) to where it is
    /// wanted. Returns how many bytes that were.
    ///
    /// # Errors
    /// The first thing that went wrong in any stage. The bytes are then worth nothing.
    pub(crate) fn fill(&self, memory: &mut PoolMemory, wanted: &mut [FillSpan<'_>]) -> Result<u64> {
        let mut filled = 0;
        let put_each = &mut |_, at, bytes: &[u8]| {
            filled += put(at, bytes, wanted);
            Ok(())
        };
        self.pass(memory, put_each, &mut |_| {})?;
        Ok(filled)
    }

    /// Makes the run's extent, and hands on the bytes of each tile: the shard, where in it they are, and they. `tick` is called
    /// about ten times a second.
    ///
    /// # Errors
    /// The first thing that went wrong in any stage, `each` among them.
    pub(crate) fn pass(
        &self,
        memory: &mut PoolMemory,
        each: &mut PassTile<'_>,
        tick: &mut dyn FnMut(&Snapshot),
    ) -> Result<()> {
        let progress = Progress::new(self.plan, self.extent, self.kept);
        let last = |ends: WriterEnds<'_, '_, '_>, stop: &Stop| {
            let mut reduction = ReductionState::default();
            in_order(ends.merged, &ends.clock, stop, &mut |tile| {
                if let Work::Merge(MergeTile { purpose: Purpose::Reduce { of, is_last }, .. }) =
                    tile.tile.work
                {
                    ends.clock.spend(Activity::Compute, || add(&mut reduction, &tile, self));
                    if is_last {
                        // The feed may be gone; then the run has stopped.
                        let _ = ends.reduced.send(reduction.finish(of));
                    }
                    return Ok(());
                }
                let Some(buffer) = tile.buffer.as_deref() else { return Ok(()) };
                progress.add_written(tile.bytes.len() as u64);
                each(tile.tile.shard, tile.tile.at, &buffer[tile.bytes.clone()])
            })
        };
        self.stages(memory, &progress, last, tick)
    }
}

/// Adds the values of a tile to the reduction under way.
fn add(reduction: &mut ReductionState, tile: &MergedTile<'_, '_, '_>, run: &Run<'_>) {
    let (Work::Merge(merge), Some(buffer)) = (&tile.tile.work, tile.buffer.as_deref()) else { return };
    reduction.add(merge, &buffer[tile.bytes.clone()], run.kernels);
}

/// Puts the bytes of a tile to where they are wanted, and says how many that are.
fn put(at: u64, bytes: &[u8], wanted: &mut [FillSpan<'_>]) -> u64 {
    let end = at + bytes.len() as u64;
    let first = wanted.partition_point(|wanted| wanted.range.end <= at);
    let mut filled = 0;
    for FillSpan { range, to } in wanted[first..].iter_mut().take_while(|wanted| wanted.range.start < end) {
        let (from, until) = (range.start.max(at), range.end.min(end));
        let to = &mut to[(from - range.start) as usize..(until - range.start) as usize];
        to.copy_from_slice(&bytes[(from - at) as usize..(until - at) as usize]);
        filled += until - from;
    }
    filled
}

/// Fails unless all that was wanted of `tensor` was filled.
///
/// # Errors
/// [`RunError::Unfilled`], which is a bug of ours.
pub(crate) fn check_filled(tensor: &str, filled: u64, wanted: u64) -> Result<()> {
    if filled == wanted {
        return Ok(());
    }
    Err(RunError::Unfilled { tensor: tensor.to_owned(), filled, wanted }.into())
}
