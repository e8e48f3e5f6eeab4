//! Reductions: what an op must know of every position of one axis, or the start's encoding of all of it, before a tensor is
//! written.
//!
//! Sums must not depend on how a tensor is cut, so values are accumulated in the order of the schedule. The writer is the
//! one stage that sees tiles in that order, and keeps a [`ReductionState`] while its tiles pass. Where a tile holds all that a
//! position needs, its worker accumulates inside the tile.

use std::sync::Arc;

use crate::encodings::encoding::Place;
use crate::kernels::dispatch::Kernels;
use crate::ops::placement::Window;
use crate::ops::reduce::{ReduceBlock, Reduction};
use crate::schedule::reduces::Reduces;
use crate::schedule::region::start_encoding;
use crate::schedule::tile::{MergeTile, Purpose};

use crate::pipeline::message::ReductionResult;

/// Observed values, row-major, and the part of the op's delta that they are.
pub(crate) struct Observed<'v> {
    /// The values.
    pub(crate) values: &'v [f32],
    /// Elements of a row.
    pub(crate) width: usize,
    /// Which part of the delta, and where.
    pub(crate) window: &'v Window,
    /// The position that the state's first values belong to.
    pub(crate) first: u64,
}

/// Adds observed values to what is known of their positions.
pub(crate) fn accumulate(
    reduction: &dyn Reduction,
    observed: &Observed<'_>,
    kernels: Kernels,
    state: &mut [f64],
) {
    let &Observed { values, width, window, first } = observed;
    let (axis, per) = (reduction.axis(), reduction.values());
    reduction.accumulate(&ReduceBlock { values, width, window, axis, first, per, kernels }, state);
}

/// The reduction under way.
#[derive(Default)]
pub(crate) struct ReductionState {
    state: Vec<f64>,
}

impl ReductionState {
    /// Adds the bytes of its next tile: observed values, or what the start's encoding looks at.
    pub(crate) fn add(&mut self, tile: &MergeTile<'_>, bytes: &[u8], kernels: Kernels) {
        match tile.purpose {
            Purpose::Reduce { of: Reduces::Start, .. } => self.survey(tile, bytes),
            _ => self.observe(tile, bytemuck::cast_slice(bytes), kernels),
        }
    }

    fn survey(&mut self, tile: &MergeTile<'_>, bytes: &[u8]) {
        let merged = tile.merged;
        if self.state.is_empty() {
            self.state = vec![0.0; merged.survey_len()];
        }
        let place = Place::new(merged.start, merged.view, &tile.rect);
        start_encoding(merged.start).survey(bytes, place, &mut self.state);
    }

    fn observe(&mut self, tile: &MergeTile<'_>, values: &[f32], kernels: Kernels) {
        // The schedule makes such tiles for one op, which asks for a reduction.
        let Some(op) = tile.merged.ops.first() else { return };
        let Some(reduction) = op.delta().reduction() else { return };
        if self.state.is_empty() {
            let positions = op.placement.axes[reduction.axis()].count as usize;
            self.state = vec![0.0; positions * reduction.values()];
        }
        let grid = op.placement.grid(tile.merged.view).expect("the plan chose the view so that it has one");
        let Some(window) = grid.window(&tile.rect) else { return };
        let width = tile.rect.width() as usize;
        let observed = Observed { values, width, window: &window, first: 0 };
        accumulate(reduction, &observed, kernels, &mut self.state);
    }

    /// Its result, after its last tile; the next one starts from zero.
    pub(crate) fn finish(&mut self, of: Reduces) -> ReductionResult {
        ReductionResult { of, state: Arc::new(std::mem::take(&mut self.state)) }
    }
}
