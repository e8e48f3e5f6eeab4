//! Messages between the stages.

use std::sync::Arc;

use crate::error::Result;
use crate::memory::pool::Lease;
use crate::plan::out_tensor::OutShard;
use crate::schedule::reduces::Reduces;
use crate::schedule::tile::Tile;

use crate::pipeline::factors::BandFactors;
use crate::pipeline::scratch::Outcome;
use crate::pipeline::sections::spans;

/// A tile whose bytes are read.
pub(crate) struct LoadedTile<'p, 's, 'm> {
    /// What it is.
    pub(crate) tile: Tile<'p>,
    /// Its tile buffer; none for a shard's header, which is in the plan, and for what is shared.
    pub(crate) buffer: Option<Lease<'s, 'm>>,
    /// The factors it shares with its neighbors; none for bytes that are copied.
    pub(crate) factors: Option<Arc<BandFactors<'s, 'm>>>,
    /// The results of the reductions of its tensor; none for tiles that are not written or need none.
    pub(crate) reduced: Option<Arc<Vec<ReductionResult>>>,
}

/// The result of a reduction over a tensor; clones of it share what it holds.
#[derive(Clone)]
pub(crate) struct ReductionResult {
    /// What it was for.
    pub(crate) of: Reduces,
    /// What is known: of each position of an op's axis, or of all of the start.
    pub(crate) state: Arc<Vec<f64>>,
}

/// What a worker made of a tile. Failures come in the order of tiles too, so that of several the same one is told whatever thread was
/// quicker.
pub(crate) struct MadeTile<'p, 's, 'm> {
    /// The tile's place in the order of the schedule.
    pub(crate) seq: u64,
    /// The tile, or why it could not be made.
    pub(crate) tile: Result<MergedTile<'p, 's, 'm>>,
}

/// A tile whose bytes are ready to be written, or whose values are ready to be reduced.
pub(crate) struct MergedTile<'p, 's, 'm> {
    /// What it is.
    pub(crate) tile: Tile<'p>,
    /// The buffer that holds its bytes.
    pub(crate) buffer: Option<Lease<'s, 'm>>,
    /// Which of the buffer's bytes they are.
    pub(crate) bytes: std::ops::Range<usize>,
    /// What making them did, to be counted in the order of tiles.
    pub(crate) outcome: Outcome,
}

impl MergedTile<'_, '_, '_> {
    /// Its bytes and where in the shard they are; none if nothing of it is written.
    pub(crate) fn written_mut(&mut self) -> Option<(u64, &mut [u8])> {
        let is_written = self.tile.work.out_bytes() > 0;
        let buffer = self.buffer.as_deref_mut().filter(|_| is_written)?;
        Some((self.tile.at, &mut buffer[self.bytes.clone()]))
    }

    /// Hashes its bytes while they are in this core's cache, if they are written to `shard`.
    pub(crate) fn hash(&mut self, shard: &OutShard) {
        let bytes = self.tile.work.out_bytes();
        if let Some(buffer) = &self.buffer
            && bytes > 0
        {
            self.outcome.hashed.compute(&buffer[self.bytes.clone()], spans(shard, self.tile.at, bytes));
        }
    }
}
