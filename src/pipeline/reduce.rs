//! Reductions: what an op must know of every position of one axis before its tensor is written.
//!
//! Sums must not depend on how a tensor is cut, so values are accumulated in the order of the schedule. The writer is the
//! one stage that sees tiles in that order, and keeps a [`Reduction`] while its tiles pass. Where a tile holds all that a
//! position needs, its worker accumulates inside the tile.

use crate::adapters::claim::Seen;
use crate::kernels::dispatch::Kernels;
use crate::ops::op::{Need, Op};
use crate::ops::placement::Window;
use crate::schedule::cut::method_of;
use crate::schedule::tile::MergeTile;

use crate::pipeline::message::Reduced;

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
pub(crate) fn accumulate(op: &Op, observed: &Observed<'_>, kernels: Kernels, state: &mut [f64]) {
    let Need::Fold { axis, values: per } = op.need else { unreachable!("the op asks for no reduction") };
    let &Observed { values, width, window, first } = observed;
    method_of(op).fold(&Seen { values, width, window, axis, first, per, kernels }, state);
}

/// The reduction under way.
#[derive(Default)]
pub(crate) struct Reduction {
    state: Vec<f64>,
}

impl Reduction {
    /// Adds the observed values of its next tile.
    pub(crate) fn add(&mut self, tile: &MergeTile<'_>, values: &[f32], kernels: Kernels) {
        let [op] = tile.merged.ops else { unreachable!("a reduction is for one op") };
        let Need::Fold { axis, values: per } = op.need else { unreachable!("it asks for a reduction") };
        if self.state.is_empty() {
            self.state = vec![0.0; op.placement.axes[axis].count as usize * per];
        }
        let grid = op.placement.grid(tile.merged.view).expect("the plan chose the view so that it has one");
        let Some(window) = grid.window(&tile.rect) else { return };
        let width = tile.rect.width() as usize;
        accumulate(op, &Observed { values, width, window: &window, first: 0 }, kernels, &mut self.state);
    }

    /// Its result, after its last tile; the next one starts anew.
    pub(crate) fn finish(&mut self, op: usize) -> Reduced {
        Reduced { op, state: std::mem::take(&mut self.state) }
    }
}
