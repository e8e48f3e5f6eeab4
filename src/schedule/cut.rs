//! How a tensor is cut under a slab and a slot of some size, and what a plan needs at the least.
//!
//! Bytes of a shard are written in order, so a tile is either some whole rows, or a piece of one row. Factors along columns
//! stay in a slot for all tiles of a band: as many rows as have their factors in it together. A band narrower than the
//! tensor means that they are read again for every row; that is accepted for tensors of few rows, and otherwise the
//! schedule asks for a larger budget.

use crate::encodings::Place;
use crate::encodings::logical::Logical;
use crate::ops::access::Access;
use crate::ops::op::Op;
use crate::plan::out_tensor::{Making, OutTensor, Plan};
use crate::tensor::rect::{Rect, View};

use crate::schedule::blocks::{Slab, out_encoding, start_encoding};
use crate::schedule::budget::{BLOCK_COLS, BLOCK_ROWS};
use crate::schedule::spans::Spans;

/// Tensors of at most so many rows may have their columns' factors read once for each row.
const FEW_ROWS: u64 = 16;
/// Columns that the smallest tile should have, where the tensor has them.
const FEW_COLS: u64 = 256;
/// A row that takes no more than this fits every slab, as none is cut smaller but in tests.
const ANY_SLAB: usize = 64 << 10;

/// Factors of more than this are not held at once where those of fewer rows are enough.
const MUCH: usize = 8 << 20;

/// How the tiles of one tensor are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cutting {
    /// Into whole rows, a multiple of `least` at a time.
    Rows {
        /// Rows that must be in one tile.
        least: u64,
    },
    /// Into pieces of one row.
    Pieces {
        /// Columns whose factors are in a slot at once.
        band: u64,
    },
}

/// What the runs of one part lie in that do not touch: held in memory, it is read once for many tiles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stretch {
    /// Bytes of a stored row; 0 for a part whose runs touch.
    pub row: usize,
    /// Bytes of all rows.
    pub all: usize,
}

/// What becomes of a tile's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    /// They are encoded as the output's bytes.
    Encoded,
    /// They are added up by a fold, and nothing is written.
    Observed,
}

/// A tensor that is merged, as the schedule looks at it.
#[derive(Clone, Copy)]
pub(crate) struct Merged<'p> {
    /// The output tensor.
    pub tensor: &'p OutTensor,
    /// What it starts from.
    pub start: &'p Logical,
    /// What is done to it.
    pub ops: &'p [Op],
    /// The matrix it is cut as.
    pub view: View,
    /// What becomes of its values.
    pub output: Output,
}

impl<'p> Merged<'p> {
    /// The merge that makes `tensor`, if it is not a copy.
    pub(crate) fn of(tensor: &'p OutTensor) -> Option<Merged<'p>> {
        match &tensor.making {
            Making::Merge { start, ops, view, .. } => {
                Some(Merged { tensor, start, ops, view: *view, output: Output::Encoded })
            }
            Making::Copy { .. } => None,
        }
    }

    /// The pass before it that folds what one op must know.
    pub(crate) fn pass(self, op: usize) -> Merged<'p> {
        Merged { ops: &self.ops[op..=op], output: Output::Observed, ..self }
    }

    /// Whether a tile of whole rows holds all that a position of the op's fold needs, so that it is folded inside it.
    pub(crate) fn folds_in_rows(&self, op: &Op) -> bool {
        let rows = op.placement.grid(self.view).and_then(|grid| grid.rows.axis);
        matches!(op.access(), Access::Reduction { axis, .. } if rows == Some(axis))
    }

    /// The ops that need a pass before tiles that are cut so are written.
    pub(crate) fn passes(self, cutting: Cutting) -> impl Iterator<Item = usize> + use<'p> {
        let has_rows = matches!(cutting, Cutting::Rows { .. });
        let is_pass = move |op: &Op| {
            matches!(op.access(), Access::Reduction { .. }) && !(has_rows && self.folds_in_rows(op))
        };
        self.ops.iter().enumerate().filter(move |(_, op)| is_pass(op)).map(|(i, _)| i)
    }

    /// Rows × columns that are encoded together.
    pub(crate) fn quantum(&self) -> (u64, u64) {
        match self.output {
            Output::Encoded => out_encoding(self.tensor).block_shape(self.start),
            Output::Observed => (1, 1),
        }
    }

    /// What its ops need, by rows.
    pub(crate) fn spans(&self) -> Spans {
        Spans::of(self.ops, self.view)
    }

    /// Rows that no tile reaches beyond.
    pub(crate) fn tile_rows(&self) -> u64 {
        start_encoding(self.start).row_group(self.start)
    }

    /// For each part that is read in runs which do not touch: bytes of a stored row, and of all that tiles of one band of
    /// rows read runs of.
    pub(crate) fn stretches(&self) -> Vec<Stretch> {
        let rect = Rect { rows: 0..self.view.rows.min(1), cols: 0..self.view.cols };
        let place = Place { logical: self.start, view: self.view, rect: &rect };
        let encoding = start_encoding(self.start);
        let runs = (0..self.start.parts.len()).map(|part| encoding.runs(part, place));
        runs.map(|runs| match runs.count {
            0 | 1 => Stretch::default(),
            count => Stretch { row: runs.stride as usize, all: (runs.stride * count) as usize },
        })
        .collect()
    }

    /// Bytes of a tile's values wherever it is, without the factors of its own.
    fn values_bytes(&self, rows: u64, cols: u64) -> usize {
        Slab::most_values(self, &Rect { rows: 0..rows, cols: 0..cols })
    }

    /// Whether an op must see whole rows, and whether one must see all of the tensor.
    fn need(&self) -> Access {
        let wider = |a: Access, b: Access| match (a, b) {
            (Access::Whole, _) | (_, Access::Whole) => Access::Whole,
            (Access::Rows, _) | (_, Access::Rows) => Access::Rows,
            _ => Access::Elements,
        };
        match self.output {
            Output::Encoded => self.ops.iter().map(|op| op.access()).fold(Access::Elements, wider),
            Output::Observed => Access::Elements,
        }
    }

    /// The least rows × columns of a tile.
    fn least(&self) -> (u64, u64) {
        let View { rows, cols } = self.view;
        match (self.need(), self.quantum()) {
            (Access::Whole, _) => (rows, cols),
            (Access::Rows, (high, _)) => (high.min(rows), cols),
            (_, (1, 1)) => (1.min(rows), FEW_COLS.min(cols)),
            (_, (high, _)) => (high.min(rows), cols),
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

    /// How it is cut so that its tiles fit a slab and a slot of these sizes; `None` if none does.
    pub(crate) fn cutting(&self, spans: &Spans, slab_bytes: usize, slot_bytes: usize) -> Option<Cutting> {
        let View { rows, cols } = self.view;
        if rows == 0 || cols == 0 {
            return Some(Cutting::Rows { least: 1 });
        }
        let least = self.least().0;
        let fits = |rows, cols| self.values_bytes(rows, cols) + spans.own_bytes(rows) <= slab_bytes;
        if spans.shared_bytes(least, cols) <= slot_bytes && fits(least, cols) {
            return Some(Cutting::Rows { least });
        }
        let is_free = self.need() == Access::Elements && self.quantum() == (1, 1);
        if !is_free || !fits(1, 1) {
            return None;
        }
        let band = Self::largest(cols, slot_bytes, |band| spans.shared_bytes(1, band));
        (band == cols || rows <= FEW_ROWS && band > 0).then_some(Cutting::Pieces { band })
    }

    /// What it needs at the least, and what lets it read its factors once.
    fn requirement(&self) -> Requirement {
        let ((rows, cols), spans) = (self.least(), self.spans());
        let once = spans.shared_bytes(rows, self.view.cols);
        let least = if self.view.rows <= FEW_ROWS { spans.shared_bytes(rows, cols).min(once) } else { once };
        Requirement {
            slab_bytes: self.values_bytes(rows, cols) + spans.own_bytes(rows),
            slot_bytes: least,
            once_slot_bytes: if self.view.rows > 1 { once } else { least },
            full_slot_bytes: spans.all_shared_bytes(self.view.cols).min(MUCH).max(once),
            rank: self.ranks().max().unwrap_or(0),
            fold_bytes: 0,
            stretch_bytes: 0,
            full_stretch_bytes: 0,
            block: 0,
            rooms: 0,
            casts: false,
            of: self.tensor.name.clone(),
        }
    }

    /// Inner dimensions of products.
    fn ranks(&self) -> impl Iterator<Item = u64> {
        self.ops.iter().map(|op| op.delta().inner_dimension(&op.factors))
    }

    /// The same with all passes before it, and what workers need beside the slab.
    fn with_passes(&self) -> Requirement {
        let folded = |op: &&(usize, &Op)| matches!(op.1.access(), Access::Reduction { .. });
        let ops: Vec<(usize, &Op)> = self.ops.iter().enumerate().collect();
        let passes = ops.iter().filter(folded).map(|(i, _)| self.pass(*i).requirement());
        let most = passes.fold(self.requirement(), Requirement::or);
        Requirement {
            fold_bytes: self.fold_bytes(),
            stretch_bytes: self.stretches().iter().map(|stretch| stretch.row).sum(),
            full_stretch_bytes: self.stretches().iter().map(|stretch| stretch.all).sum(),
            block: self.block(),
            rooms: self.rooms(),
            casts: self.is_cast(),
            ..most
        }
    }

    /// Bytes of what its passes come to, for those that cannot be folded in a tile under every budget.
    fn fold_bytes(&self) -> usize {
        let row = self.values_bytes(1.min(self.view.rows), self.view.cols) + self.spans().own_bytes(1);
        let of = |op: &Op| match op.access() {
            Access::Reduction { .. } if row <= ANY_SLAB && self.folds_in_rows(op) => 0,
            Access::Reduction { axis, values } => {
                op.placement.axes[axis].count as usize * values * size_of::<f64>()
            }
            _ => 0,
        };
        self.ops.iter().map(of).sum()
    }

    /// Elements of the blocks that a worker has in f32 at a time.
    fn block(&self) -> usize {
        let (rows, cols) = self.quantum();
        let width = if self.need() == Access::Elements { cols.min(self.view.cols) } else { self.view.cols };
        (BLOCK_ROWS * BLOCK_COLS).max((rows * width) as usize)
    }

    /// Rooms of a block's size that deltas need: those of one op, and one for every other that may fall on the same
    /// elements.
    fn rooms(&self) -> usize {
        let own = self.ops.iter().map(|op| op.delta().scratch_buffers()).max().unwrap_or(0);
        // Where a block may meet several, what they come to together is kept too.
        own + if self.ops.len() > 1 { self.layers() } else { 0 }
    }

    /// Whether the output is another type than what it starts from.
    fn is_cast(&self) -> bool {
        self.tensor.encoding != self.start.encoding
    }

    /// An upper bound of how many ops fall on one element: as many as there are claims, as the ops of one claim lie side by
    /// side, and as many as have an element both before and behind one place.
    fn layers(&self) -> usize {
        let mut claims: Vec<u32> = self.ops.iter().map(|op| op.claim.0).collect();
        claims.dedup();
        if claims.len() < 2 {
            return claims.len();
        }
        let mut ends: Vec<(u64, i32)> =
            self.ops.iter().flat_map(|op| [(op.placement.start, 1), (op.placement.end(), -1)]).collect();
        ends.sort_unstable();
        let (mut now, mut most) = (0, 0);
        for (_, step) in ends {
            now += step;
            most = most.max(now);
        }
        claims.len().min(most as usize)
    }
}

/// What a plan needs at the least.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Requirement {
    /// Bytes of a slab.
    pub slab_bytes: usize,
    /// Bytes of a factor slot.
    pub slot_bytes: usize,
    /// Bytes of a slot that lets every factor be read once.
    pub once_slot_bytes: usize,
    /// Bytes of a slot beyond which more is of no use.
    pub full_slot_bytes: usize,
    /// The largest inner dimension of a product.
    pub rank: u64,
    /// Bytes of what passes before a tensor come to.
    pub fold_bytes: usize,
    /// Bytes of a stored row of every part that is read in runs which do not touch.
    pub stretch_bytes: usize,
    /// Bytes that let every such part be read once.
    pub full_stretch_bytes: usize,
    /// Elements of a worker's block.
    pub block: usize,
    /// Rooms of a block's size for deltas.
    pub rooms: usize,
    /// Whether an output is of another type than what it starts from.
    pub casts: bool,
    /// The tensor that needs most.
    pub of: String,
}

impl Requirement {
    /// The least that runs every tensor of `plan`.
    pub(crate) fn of(plan: &Plan) -> Requirement {
        let all = plan.tensors().filter_map(Merged::of).map(|merged| merged.with_passes());
        all.fold(Requirement::default(), Requirement::or)
    }

    /// What is enough for both.
    fn or(self, other: Requirement) -> Requirement {
        let more = other.slab_bytes + other.slot_bytes > self.slab_bytes + self.slot_bytes;
        Requirement {
            slab_bytes: self.slab_bytes.max(other.slab_bytes),
            slot_bytes: self.slot_bytes.max(other.slot_bytes),
            once_slot_bytes: self.once_slot_bytes.max(other.once_slot_bytes),
            full_slot_bytes: self.full_slot_bytes.max(other.full_slot_bytes),
            rank: self.rank.max(other.rank),
            fold_bytes: self.fold_bytes.max(other.fold_bytes),
            stretch_bytes: self.stretch_bytes.max(other.stretch_bytes),
            full_stretch_bytes: self.full_stretch_bytes.max(other.full_stretch_bytes),
            block: self.block.max(other.block),
            rooms: self.rooms.max(other.rooms),
            casts: self.casts || other.casts,
            of: if more { other.of } else { self.of },
        }
    }
}
