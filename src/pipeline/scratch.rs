//! WorkerScratch of a worker: blocks of f32 and lists, made once and used for every tile.

use std::ops::Range;

use crate::kernels::fused::tile::FusedScratch;
use crate::ops::op::ClaimId;
use crate::ops::placement::{Grid, Window};
use crate::schedule::budget::ScratchSizes;

use crate::pipeline::retained::{Retention, is_sampled};

/// All that merging a tile writes to, but the tile itself.
pub(crate) struct WorkerScratch {
    /// Blocks of values.
    pub(crate) buffers: Buffers,
    /// The ops that meet the tile.
    pub(crate) ops: Vec<TileOp>,
    /// What was done to the last block.
    pub(crate) applied: Vec<AppliedDelta>,
    /// What was done to the tile.
    pub(crate) outcome: Outcome,
    /// What the fused kernel writes to.
    pub(crate) fused: FusedScratch,
    /// Blocks that are evaluated in f64.
    pub(crate) exact: ExactRows,
    /// Rows and columns at which the tile is cut into cells.
    pub(crate) cuts: [Vec<usize>; 2],
}

impl WorkerScratch {
    /// WorkerScratch of these sizes.
    pub(crate) fn new(sizes: ScratchSizes) -> WorkerScratch {
        let block = || vec![0.0; sizes.block];
        let buffers = Buffers {
            block: sizes.block,
            values: block(),
            original: block(),
            rounded: if sizes.casts { block() } else { Vec::new() },
            deltas: vec![0.0; sizes.block * sizes.deltas],
            states: Vec::new(),
        };
        WorkerScratch {
            buffers,
            ops: Vec::new(),
            applied: Vec::new(),
            outcome: Outcome::default(),
            fused: FusedScratch::new(sizes.ranks),
            exact: ExactRows::new(sizes.exact),
            cuts: [Vec::new(), Vec::new()],
        }
    }
}

/// Blocks of values.
pub(crate) struct Buffers {
    /// Elements of a block.
    pub(crate) block: usize,
    /// Running values.
    pub(crate) values: Vec<f32>,
    /// What the tensor started from.
    pub(crate) original: Vec<f32>,
    /// What the original would be in the output's type, where that is another.
    pub(crate) rounded: Vec<f32>,
    /// What each op added, and scratch to make it; behind these the sum of all, if there are several.
    pub(crate) deltas: Vec<f32>,
    /// Results for each row of some blocks, for reductions that are made in a tile: by the ops of the tile.
    pub(crate) states: Vec<Vec<f64>>,
}

/// A block in f64, with bounds of its error.
pub(crate) struct ExactRows {
    /// Running values.
    pub(crate) middles: Vec<f64>,
    /// How far each may be off.
    pub(crate) radii: Vec<f64>,
    /// The ends of the bounds that are farther from zero.
    pub(crate) ends: Vec<f32>,
    /// Their codes.
    pub(crate) codes: Vec<u8>,
}

impl ExactRows {
    /// For blocks of so many elements.
    fn new(elements: usize) -> ExactRows {
        ExactRows {
            middles: vec![0.0; elements],
            radii: vec![0.0; elements],
            ends: vec![0.0; elements],
            codes: vec![0; elements * size_of::<f32>()],
        }
    }
}

/// An op that meets a tile.
pub(crate) struct TileOp {
    /// Which of the ops of the tile's tensor.
    pub(crate) index: usize,
    /// Where its delta falls.
    pub(crate) grid: Grid,
    /// Its blocks among the factors that the band shares.
    pub(crate) shared: Range<usize>,
    /// Its blocks among the tile's own factors.
    pub(crate) own: Range<usize>,
    /// Whether its reduction is made here, row by row.
    pub(crate) reduces_here: bool,
}

impl TileOp {
    /// Whether what is left of its delta is measured at a position of the axis that runs along rows.
    pub(crate) fn is_sampled(&self, position: u64) -> bool {
        is_sampled(position, self.grid.rows.count, self.grid.cols.count)
    }
}

/// What one op did to a block.
pub(crate) struct AppliedDelta {
    /// Which op of the tile.
    pub(crate) op: usize,
    /// The part of its delta that falls on the block.
    pub(crate) window: Window,
    /// Where among the deltas it left what it added.
    pub(crate) at: usize,
}

/// What merging a tile did.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Elements whose bytes are not the base's.
    pub(crate) changed: u64,
    /// What each claim reached. One with several ops in the tile stands here several times.
    pub(crate) claims: Vec<ClaimOutcome>,
}

/// What a claim reached in a tile.
#[derive(Debug)]
pub(crate) struct ClaimOutcome {
    /// Which claim.
    pub(crate) claim: ClaimId,
    /// Elements it reached.
    pub(crate) elements: u64,
    /// What is left of its delta; nothing for a replacement.
    pub(crate) retained: Retention,
}

impl ClaimOutcome {
    /// Nothing reached yet.
    pub(crate) fn new(claim: ClaimId) -> ClaimOutcome {
        ClaimOutcome { claim, elements: 0, retained: Retention::default() }
    }
}
