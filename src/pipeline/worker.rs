//! A worker: prepares factors, merges tiles, and says what that did.

use std::ops::Range;
use std::sync::Arc;

use crate::error::Result;
use crate::schedule::region::FactorBlock;
use crate::schedule::tile::{MergeTile, Work};
use crate::threads::channel::{Receiver, Sender};

use crate::pipeline::apply::{TileJob, merge_tile};
use crate::pipeline::clock::{Activity, StageClock};
use crate::pipeline::factors::{BandFactors, FactorRegion, prepare};
use crate::pipeline::message::{LoadedTile, MadeTile, MergedTile, ReductionResult};
use crate::pipeline::run::Run;
use crate::pipeline::scratch::{ClaimOutcome, Outcome, WorkerScratch};
use crate::pipeline::stop::Stop;

/// A worker's ends of its channels.
pub(crate) struct WorkerEnds<'p, 's, 'm> {
    /// Where tiles come from.
    pub(crate) loaded: Receiver<LoadedTile<'p, 's, 'm>>,
    /// Where they go.
    pub(crate) to_write: Sender<MadeTile<'p, 's, 'm>>,
    /// Where the lists of factors go that no tile needs any longer.
    pub(crate) spare: Sender<Vec<FactorBlock>>,
    /// Outcomes that are counted, to be used again.
    pub(crate) counted: Receiver<Outcome>,
    /// What its time goes to.
    pub(crate) clock: Arc<StageClock>,
}

impl WorkerEnds<'_, '_, '_> {
    /// An outcome of which nothing is said yet.
    fn outcome(&self) -> Outcome {
        let mut outcome = self.counted.try_recv().unwrap_or_default();
        outcome.changed = 0;
        outcome.claims.clear();
        outcome.hashed.clear();
        outcome
    }
}

/// Merges tiles until there are no more, or nobody takes them.
pub(crate) fn run(run: &Run<'_>, ends: &WorkerEnds<'_, '_, '_>, stop: &Stop) -> Result<()> {
    let mut scratch = WorkerScratch::new(run.schedule.scratch);
    while let Ok(message) = ends.clock.spend(Activity::Wait, || ends.loaded.recv()) {
        if stop.is_raised() {
            return Ok(());
        }
        let seq = message.tile.seq;
        let mut made = ends.clock.spend(Activity::Compute, || merge(run, ends, message, &mut scratch));
        if let Ok(merged) = &mut made
            && let Err(error) = finish(run, ends, merged)
        {
            made = Err(error);
        }
        // What comes behind a failure is not written.
        let is_last = made.is_err();
        if ends.to_write.send(MadeTile { seq, tile: made }).is_err() || is_last {
            return Ok(());
        }
    }
    Ok(())
}

/// Puts right what was made, hashes it, and hands back the list that made it.
fn finish(run: &Run<'_>, ends: &WorkerEnds<'_, '_, '_>, merged: &mut MergedTile<'_, '_, '_>) -> Result<()> {
    if let Some(undo) = run.undo {
        let place = (run.plan, merged.tile.shard);
        merged.written_mut().map_or(Ok(()), |(at, bytes)| undo.put_right(place, at, bytes))?;
    }
    // Of a part of a file there is no hash.
    if run.extent.is_all() {
        let shard = &run.plan.shards[merged.tile.shard];
        ends.clock.spend(Activity::Hash, || merged.hash(shard));
    }
    if let Work::Merge(tile) = &mut merged.tile.work {
        // A list that nobody takes is dropped.
        let _ = ends.spare.try_send(std::mem::take(&mut tile.layout.own));
    }
    Ok(())
}

fn merge<'p, 's, 'm>(
    run: &Run<'_>,
    ends: &WorkerEnds<'_, '_, '_>,
    message: LoadedTile<'p, 's, 'm>,
    scratch: &mut WorkerScratch,
) -> Result<MergedTile<'p, 's, 'm>> {
    let LoadedTile { tile, mut buffer, factors, reduced } = message;
    let mut outcome = ends.outcome();
    let bytes = match &tile.work {
        Work::Header | Work::Share { .. } => 0..0,
        Work::Copy { bytes, claim, .. } => {
            if let Some((claim, elements)) = claim {
                outcome.claims.push(ClaimOutcome { elements: *elements, ..ClaimOutcome::new(*claim) });
            }
            0..*bytes as usize
        }
        Work::Merge(merge) => {
            let buffer = buffer.as_deref_mut().expect("such tiles have a buffer");
            let factors = factors.as_deref().expect("such tiles have factors, if only none");
            let reduced = reduced.as_deref().map_or(&[][..], Vec::as_slice);
            let bytes = merge_one(run, merge, (buffer, factors, reduced), scratch)?;
            std::mem::swap(&mut outcome, &mut scratch.outcome);
            bytes
        }
    };
    // The factor buffer goes back as soon as no worker needs it; the tile buffer only when its bytes are written.
    drop(factors);
    Ok(MergedTile { tile, buffer, bytes, outcome })
}

/// Merges a tile of a merged tensor; says which bytes of its buffer are the result, and leaves in `scratch` what it did.
fn merge_one(
    run: &Run<'_>,
    tile: &MergeTile<'_>,
    (buffer, factors, reduced): (&mut [u8], &BandFactors<'_, '_>, &[ReductionResult]),
    scratch: &mut WorkerScratch,
) -> Result<Range<usize>> {
    let (merged, layout, kernels) = (tile.merged, &tile.layout, run.kernels);
    let (data, own) = buffer.split_at_mut(layout.own_at);
    let prepared = prepare(merged.ops, &layout.own, own, kernels);
    prepared.map_err(|non_finite| non_finite.error(run.plan, merged.ops))?;
    let shared = factors.prepared(merged.ops, kernels);
    let shared = shared.map_err(|non_finite| non_finite.error(run.plan, merged.ops))?;
    let own = FactorRegion { blocks: &layout.own, bytes: own };
    let job = TileJob { merged, rect: &tile.rect, layout, shared, own, reduced, kernels };
    merge_tile(&job, data, scratch)?;
    Ok(layout.out.clone())
}
