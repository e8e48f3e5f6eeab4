//! What travels between the stages.

use std::sync::Arc;

use crate::memory::pool::Lease;
use crate::schedule::blocks::BlockSpec;
use crate::schedule::steps::Tile;

/// The factors that the tiles of a band share, decoded.
pub(crate) struct Shared<'s, 'm> {
    /// What lies where in the slot.
    pub(crate) blocks: Vec<BlockSpec>,
    /// The slot; none if no op has such factors.
    pub(crate) slot: Option<Lease<'s, 'm>>,
}

/// A tile whose bytes are read.
pub(crate) struct Loaded<'s, 'm> {
    /// What it is.
    pub(crate) tile: Tile,
    /// Its bytes; none for a shard's header, which is in the plan.
    pub(crate) slab: Option<Lease<'s, 'm>>,
    /// The factors it shares with its neighbours.
    pub(crate) shared: Option<Arc<Shared<'s, 'm>>>,
    /// What the passes over its tensor came to.
    pub(crate) folded: Arc<Vec<Pass>>,
}

/// What a pass over a tensor came to.
pub(crate) struct Pass {
    /// Which op it was for.
    pub(crate) op: usize,
    /// What is known of each position of the op's axis.
    pub(crate) state: Vec<f64>,
}

/// A tile whose bytes are ready to be written.
pub(crate) struct Merged<'s, 'm> {
    /// What it is.
    pub(crate) tile: Tile,
    /// The slab that holds its bytes.
    pub(crate) slab: Option<Lease<'s, 'm>>,
    /// Which of the slab's bytes they are.
    pub(crate) bytes: std::ops::Range<usize>,
}
