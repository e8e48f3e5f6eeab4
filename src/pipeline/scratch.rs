//! WorkerScratch of a worker: blocks of f32 and lists, made once and used for every tile.

use std::ops::Range;

use crate::kernels::fused::made::ProductScratch;
use crate::kernels::fused::tile::FusedScratch;
use crate::kernels::fused::vector::Real;
use crate::ops::formula::PRODUCTS_MOST;
use crate::ops::op::ClaimId;
use crate::ops::placement::{Grid, Window};
use crate::schedule::budget::{FORMULA_COLS, FORMULA_ROWS, ScratchSizes};

use crate::pipeline::retained::{Retention, is_sampled};
use crate::pipeline::stretch_values::StretchValues;

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
    /// Blocks that formulas are evaluated on in f32, for outputs of two bytes.
    pub(crate) singles: FormulaScratch<f32>,
    /// Blocks that formulas are evaluated on in f64, for outputs in F32.
    pub(crate) doubles: FormulaScratch<f64>,
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
            singles: FormulaScratch::new(sizes.singles),
            doubles: FormulaScratch::new(sizes.doubles),
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

/// A block that formulas are evaluated on.
pub(crate) struct FormulaScratch<T> {
    /// Running values.
    pub(crate) middles: Vec<T>,
    /// How far each may be off.
    pub(crate) radii: Vec<T>,
    /// Products of factors.
    pub(crate) products: [ProductScratch<T>; PRODUCTS_MOST],
}

impl<T: Real> FormulaScratch<T> {
    /// For formulas whose products have no greater rank; empty if there are none.
    fn new(rank: Option<usize>) -> FormulaScratch<T> {
        let (rows, cols) = if rank.is_some() { (FORMULA_ROWS, FORMULA_COLS) } else { (0, 0) };
        let numbers = || vec![T::default(); rows * cols];
        let product = |_| ProductScratch::new(rank.unwrap_or(0), rows, cols);
        FormulaScratch { middles: numbers(), radii: numbers(), products: [0; PRODUCTS_MOST].map(product) }
    }

    /// Forgets which factors are packed, as their bytes are another tile's now.
    pub(crate) fn forget(&mut self) {
        self.products.iter_mut().for_each(ProductScratch::forget);
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
    /// Hashes of the stretches that its bytes hold whole.
    pub(crate) hashed: StretchValues,
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
