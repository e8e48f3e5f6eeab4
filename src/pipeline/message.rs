//! What travels between the stages.

use std::sync::Arc;

use crate::memory::Lease;
use crate::schedule::{BlockSpec, Tile};

/// The factors that the tiles of a band share, decoded.
pub(super) struct Shared<'s, 'm> {
    /// What lies where in the slot.
    pub(super) blocks: Vec<BlockSpec>,
    /// The slot; none if no op has such factors.
    pub(super) slot: Option<Lease<'s, 'm>>,
}

/// A tile whose bytes are read.
pub(super) struct Loaded<'s, 'm> {
    /// What it is.
    pub(super) tile: Tile,
    /// Its bytes; none for a shard's header, which is in the plan.
    pub(super) slab: Option<Lease<'s, 'm>>,
    /// The factors it shares with its neighbours.
    pub(super) shared: Option<Arc<Shared<'s, 'm>>>,
    /// What the passes over its tensor came to.
    pub(super) folded: Arc<Vec<Pass>>,
}

/// What a pass over a tensor came to.
pub(super) struct Pass {
    /// Which op it was for.
    pub(super) op: usize,
    /// What is known of each position of the op's axis.
    pub(super) state: Vec<f64>,
}

/// A tile whose bytes are ready to be written.
pub(super) struct Merged<'s, 'm> {
    /// What it is.
    pub(super) tile: Tile,
    /// The slab that holds its bytes.
    pub(super) slab: Option<Lease<'s, 'm>>,
    /// Which of the slab's bytes they are.
    pub(super) bytes: std::ops::Range<usize>,
}
