//! The largest tile of a tensor that fits a slab, and what a plan needs at the least.
//!
//! Bytes of a shard are written in order, so a tile is either some whole rows, or a piece of one row. Factors along columns
//! stay in a slot for all rows of a band of columns. A band narrower than the tensor means that they are read again for
//! every row; that is accepted for tensors of few rows, and otherwise the schedule asks for a larger budget.

use crate::plan::{Logical, Making, Need, Op, OutTensor, Plan};
use crate::tensor::{Rect, View};

use super::blocks::{Slab, region_bytes, shared_blocks};

/// Tensors of at most so many rows may have their columns' factors read once for each row.
const FEW_ROWS: u64 = 16;
/// Columns that the smallest tile should have, where the tensor has them.
const FEW_COLS: u64 = 256;

/// How the tiles of one tensor are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TileShape {
    /// Rows of a tile.
    pub rows: u64,
    /// Columns of a tile; fewer than the tensor has only if `rows` is 1.
    pub cols: u64,
    /// Columns whose factors are in a slot at once.
    pub band: u64,
}

/// A tensor that is merged, as the schedule looks at it.
#[derive(Clone, Copy)]
pub struct Merged<'p> {
    /// The output tensor.
    pub tensor: &'p OutTensor,
    /// What it starts from.
    pub start: &'p Logical,
    /// What is done to it.
    pub ops: &'p [Op],
    /// The matrix it is cut as.
    pub view: View,
}

impl<'p> Merged<'p> {
    /// The merge that makes `tensor`, if it is not a copy.
    pub fn of(tensor: &'p OutTensor) -> Option<Merged<'p>> {
        match &tensor.making {
            Making::Merge { start, ops, view, .. } => Some(Merged { tensor, start, ops, view: *view }),
            Making::Copy { .. } => None,
        }
    }

    fn slab_bytes(&self, rows: u64, cols: u64) -> usize {
        let rect = Rect { rows: 0..rows, cols: 0..cols };
        Slab::new(self.tensor, self.start, self.ops, self.view, &rect).bytes()
    }

    fn slot_bytes(&self, band: u64) -> usize {
        region_bytes(&shared_blocks(self.ops, self.view, &(0..band)))
    }

    fn need(&self) -> Need {
        let wider = |a: Need, b: Need| match (a, b) {
            (Need::Whole, _) | (_, Need::Whole) => Need::Whole,
            (Need::Rows, _) | (_, Need::Rows) => Need::Rows,
            _ => Need::Elements,
        };
        self.ops.iter().map(|op| op.need).fold(Need::Elements, wider)
    }

    /// The least rows × columns of a tile.
    fn least(&self) -> (u64, u64) {
        let View { rows, cols } = self.view;
        match self.need() {
            Need::Elements => (1.min(rows), FEW_COLS.min(cols)),
            Need::Rows => (1.min(rows), cols),
            Need::Whole => (rows, cols),
        }
    }

    /// The largest number up to `most` for which `bytes` stays within `room`.
    fn largest(most: u64, room: usize, bytes: impl Fn(u64) -> usize) -> u64 {
        let (mut fits, mut too_many) = (0, most + 1);
        while too_many - fits > 1 {
            let middle = fits + (too_many - fits) / 2;
            if bytes(middle) <= room { fits = middle } else { too_many = middle }
        }
        fits
    }

    /// The largest tile that fits a slab and a slot of these sizes; `None` if none does.
    pub fn shape(&self, slab_bytes: usize, slot_bytes: usize) -> Option<TileShape> {
        let View { rows, cols } = self.view;
        if rows == 0 || cols == 0 {
            return Some(TileShape { rows: 1, cols: 1, band: 1 });
        }
        let band = Self::largest(cols, slot_bytes, |band| self.slot_bytes(band));
        if band == cols {
            let high = Self::largest(rows, slab_bytes, |rows| self.slab_bytes(rows, cols));
            if high >= self.least().0 && high > 0 {
                return Some(TileShape { rows: high, cols, band });
            }
        }
        let wide = Self::largest(cols, slab_bytes, |cols| self.slab_bytes(1, cols)).min(band);
        let may_cut_rows = self.need() == Need::Elements && (band == cols || rows <= FEW_ROWS);
        (may_cut_rows && wide >= 1).then_some(TileShape { rows: 1, cols: wide, band })
    }

    /// What it needs at the least, and what lets it read its factors once.
    fn requirement(&self) -> Requirement {
        let (rows, cols) = self.least();
        let full = self.slot_bytes(self.view.cols);
        let least = if self.view.rows <= FEW_ROWS { self.slot_bytes(cols).min(full) } else { full };
        Requirement {
            slab_bytes: self.slab_bytes(rows, cols),
            slot_bytes: least,
            full_slot_bytes: if self.view.rows > 1 { full } else { least },
            rank: self.ops.iter().flat_map(|op| &op.factors).map(|factor| factor.inner).max().unwrap_or(0),
            of: self.tensor.name.clone(),
        }
    }
}

/// What a plan needs at the least.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requirement {
    /// Bytes of a slab.
    pub slab_bytes: usize,
    /// Bytes of a factor slot.
    pub slot_bytes: usize,
    /// Bytes of a slot that lets every factor be read once.
    pub full_slot_bytes: usize,
    /// The largest inner dimension of a factor.
    pub rank: u64,
    /// The tensor that needs most.
    pub of: String,
}

impl Requirement {
    /// The least that runs every tensor of `plan`.
    pub fn of(plan: &Plan) -> Requirement {
        let all = plan.tensors().filter_map(Merged::of).map(|merged| merged.requirement());
        all.fold(Requirement::default(), |most, one| {
            let more = one.slab_bytes + one.slot_bytes > most.slab_bytes + most.slot_bytes;
            Requirement {
                slab_bytes: most.slab_bytes.max(one.slab_bytes),
                slot_bytes: most.slot_bytes.max(one.slot_bytes),
                full_slot_bytes: most.full_slot_bytes.max(one.full_slot_bytes),
                rank: most.rank.max(one.rank),
                of: if more { one.of } else { most.of },
            }
        })
    }
}
