//! How a tensor is cut under a tile buffer and a factor buffer of some size.
//!
//! Bytes of a shard are written in order, so a tile is either some whole rows, or a piece of one row. Factors along columns
//! stay in a factor buffer for all tiles of a band: as many rows as have their factors in it together. A band narrower than
//! the tensor means that they are read again for every row; that is accepted for tensors of few rows, and otherwise the
//! schedule asks for a larger budget.
//!
//! An example: a delta of rank 2 on a bf16 matrix, with tile buffers of 8 KiB and factor buffers of 4 KiB. A column of
//! `lora_A` is 2 values of 4 bytes, so that a factor buffer has room for those of 512 columns.
//!
//! ```text
//! 24 rows of 400 columns: 800 bytes of values and        2 rows of 600 columns: the factors of a whole row do not fit,
//! 8 of its row of `lora_B` each, ten to a tile           so that a row is cut where the band of 512 columns ends
//!
//!       0 ────────────── 400                                   0 ───────────── 512 ── 600
//!    0  │ tile 0           │                                0  │ tile 0          │ tile 1 │
//!   10  │ tile 1           │                                1  │ tile 2          │ tile 3 │
//!   20  │ tile 2           │                                   band 0             band 1
//! ```
//!
//! On the left one band is all columns, and its factors are read once. On the right each row reads both bands again.

use crate::encodings::encoding::Place;
use crate::encodings::logical::Logical;
use crate::ops::access::Access;
use crate::ops::factor::Factor;
use crate::ops::op::Op;
use crate::plan::out_tensor::{Content, OutTensor, Plan};
use crate::tensor::rect::{Rect, View};

use crate::schedule::reduces::Reduces;
use crate::schedule::region::{out_encoding, start_encoding};
use crate::schedule::repack::{FactorLocations, TensorLocations};
use crate::schedule::spans::Spans;

/// Tensors of at most so many rows may have their columns' factors read once for each row.
pub(crate) const FEW_ROWS: u64 = 16;
/// Columns that the smallest tile should have, where the tensor has them.
const FEW_COLS: u64 = 256;
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
        /// Columns whose factors are in a factor buffer at once.
        band: u64,
    },
}

/// What is gathered of one part whose runs do not touch: held in memory, it is read once for many tiles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct StridedPart {
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
    /// They are added up by a reduction, and nothing is written.
    Observed,
    /// They are not decoded: the encoding that they are in must know something of all of them first.
    Surveyed,
}

/// A tensor that is merged, as the schedule and the workers look at it.
#[derive(Clone, Copy)]
pub(crate) struct MergedTensor<'p> {
    /// The output tensor.
    pub tensor: &'p OutTensor,
    /// What it starts from.
    pub start: &'p Logical,
    /// The encoded weight in whose form it is written, where that is another.
    pub form: Option<&'p Logical>,
    /// What is done to it.
    pub ops: &'p [Op],
    /// The matrix it is cut as.
    pub view: View,
    /// What becomes of its values.
    pub output: Output,
    /// Which of the tensor's ops is the first of `ops`.
    first_op: usize,
    /// Where its factors are read that were repacked.
    locations: Option<&'p TensorLocations>,
}

impl<'p> MergedTensor<'p> {
    /// The merge that makes `tensor`, if it is not a copy; its factors are read where the plan says.
    pub(crate) fn of(tensor: &'p OutTensor) -> Option<MergedTensor<'p>> {
        match &tensor.content {
            Content::Compute { start, ops, view, form, .. } => Some(MergedTensor {
                tensor,
                start,
                form: form.as_deref(),
                ops,
                view: *view,
                output: Output::Encoded,
                first_op: 0,
                locations: None,
            }),
            Content::Copy { .. } => None,
        }
    }

    /// The merge that makes a tensor of the plan, with its factors where `locations` says.
    pub(crate) fn located(
        plan: &'p Plan,
        (shard, tensor): (usize, usize),
        locations: &'p FactorLocations,
    ) -> Option<MergedTensor<'p>> {
        let merged = MergedTensor::of(&plan.shards[shard].tensors[tensor])?;
        Some(MergedTensor { locations: locations.of_tensor(shard, tensor), ..merged })
    }

    /// The reduction before it, of what its start or one op must know.
    pub(crate) fn reduction(self, of: Reduces) -> MergedTensor<'p> {
        match of {
            Reduces::Start => MergedTensor { ops: &[], output: Output::Surveyed, ..self },
            Reduces::Op(op) => {
                let ops = &self.ops[op..=op];
                MergedTensor { ops, first_op: self.first_op + op, output: Output::Observed, ..self }
            }
        }
    }

    /// The weight in whose form it is written.
    pub(crate) fn written_as(&self) -> &'p Logical {
        self.form.unwrap_or(self.start)
    }

    /// Whether all scales are made anew where it is encoded.
    pub(crate) fn fresh(&self) -> bool {
        matches!(self.tensor.content, Content::Compute { fresh: true, .. })
    }

    /// The weights whose bytes a tile holds, one behind the other: what it starts from, and the form if that is another.
    pub(crate) fn read_weights(&self) -> impl Iterator<Item = &'p Logical> + use<'p> {
        let form = self.form.filter(|_| self.output == Output::Encoded);
        std::iter::once(self.start).chain(form)
    }

    /// How many numbers its start must know of all of it.
    pub(crate) fn survey_len(&self) -> usize {
        start_encoding(self.start).survey_len(self.start)
    }

    /// A factor as it lies where it is read.
    pub(crate) fn location(&self, op: usize, factor: usize) -> &'p Factor {
        let repacked = self.locations.and_then(|all| all.get(&(self.first_op + op, factor)));
        repacked.unwrap_or(&self.ops[op].factors[factor])
    }

    /// Whether a tile of whole rows holds all that a position of the op's reduction needs, so that it is made inside it.
    pub(crate) fn reduces_in_rows(&self, op: &Op) -> bool {
        let rows = op.placement.grid(self.view).and_then(|grid| grid.rows.axis);
        matches!(op.access(), Access::Reduction { axis, .. } if rows == Some(axis))
    }

    /// What needs a reduction before tiles that are cut so are written, in the order in which it is made.
    pub(crate) fn reductions(self, cutting: Cutting) -> impl Iterator<Item = Reduces> + use<'p> {
        let has_rows = matches!(cutting, Cutting::Rows { .. });
        let is_before =
            move |op: &Op| op.delta().reduction().is_some() && !(has_rows && self.reduces_in_rows(op));
        let start = (self.survey_len() > 0).then_some(Reduces::Start);
        let ops = self.ops.iter().enumerate().filter(move |(_, op)| is_before(op));
        start.into_iter().chain(ops.map(|(i, _)| Reduces::Op(i)))
    }

    /// Rows × columns that are encoded together, or that an op must see together.
    pub(crate) fn quantum(&self) -> (u64, u64) {
        match self.output {
            Output::Encoded => {
                let (rows, cols) = out_encoding(self.tensor).block_shape(self.written_as());
                (self.ops.iter().map(row_group).fold(rows, common_multiple), cols)
            }
            Output::Observed | Output::Surveyed => (1, 1),
        }
    }

    /// Rows × columns that lie in one tile, from its first on: what is encoded together, and what is decoded together.
    fn tile_quantum(&self) -> (u64, u64) {
        let (out, start) = (self.quantum(), start_encoding(self.start).decode_shape(self.start));
        (common_multiple(out.0, start.0), common_multiple(out.1, start.1))
    }

    /// What its ops need, by rows.
    pub(crate) fn spans(&self) -> Spans {
        Spans::of(self.ops, self.view)
    }

    /// Rows that no tile reaches beyond.
    pub(crate) fn tile_rows(&self) -> u64 {
        let written = self.written_as();
        start_encoding(self.start).row_group(self.start).min(start_encoding(written).row_group(written))
    }

    /// For each part that is read in runs which do not touch: bytes of a stored row, and of all that tiles of one band of
    /// rows read runs of.
    pub(crate) fn strided_parts(&self) -> impl Iterator<Item = StridedPart> + use<'p> {
        let (start, view) = (self.start, self.view);
        let rect = Rect { rows: 0..view.rows.min(1), cols: 0..view.cols };
        let encoding = start_encoding(start);
        (0..start.parts().len()).map(move |part| {
            let runs = encoding.runs(part, Place::new(start, view, &rect));
            match runs.count {
                0 | 1 => StridedPart::default(),
                count => StridedPart { row: runs.stride as usize, all: (runs.stride * count) as usize },
            }
        })
    }

    /// Whether an op must see whole rows, and whether one must see all of the tensor.
    pub(crate) fn need(&self) -> Access {
        let wider = |a: Access, b: Access| match (a, b) {
            (Access::Whole, _) | (_, Access::Whole) => Access::Whole,
            (Access::Rows, _) | (_, Access::Rows) => Access::Rows,
            _ => Access::Elements,
        };
        match self.output {
            Output::Encoded => self.ops.iter().map(|op| op.access()).fold(Access::Elements, wider),
            Output::Observed | Output::Surveyed => Access::Elements,
        }
    }

    /// The least rows × columns of a tile.
    pub(crate) fn least(&self) -> (u64, u64) {
        let View { rows, cols } = self.view;
        match (self.need(), self.tile_quantum()) {
            (Access::Whole, _) => (rows, cols),
            (Access::Rows, (high, _)) => (high.min(rows), cols),
            (_, (1, 1)) => (1.min(rows), FEW_COLS.min(cols)),
            (_, (high, _)) => (high.min(rows), cols),
        }
    }

    /// Bytes of its first rows in the output.
    pub(crate) fn bytes_of_rows(&self, rows: u64) -> u64 {
        // A part that has something for a block of rows, such as scales, would have it for a block of none.
        if rows == 0 {
            return 0;
        }
        let rect = Rect { rows: 0..rows, cols: 0..self.view.cols };
        let place = Place::new(self.written_as(), self.view, &rect);
        out_encoding(self.tensor).runs(usize::from(self.tensor.part), place).bytes()
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

    /// How it is cut so that its tiles fit buffers of these sizes; `None` if none does.
    pub(crate) fn cutting(&self, spans: &Spans, slab_bytes: usize, slot_bytes: usize) -> Option<Cutting> {
        let View { rows, cols } = self.view;
        if rows == 0 || cols == 0 {
            return Some(Cutting::Rows { least: 1 });
        }
        let least = self.least().0;
        let fits = |rows, cols| self.value_bytes(rows, cols) + spans.own_bytes(rows) <= slab_bytes;
        if spans.shared_bytes(least, cols) <= slot_bytes && fits(least, cols) {
            return Some(Cutting::Rows { least });
        }
        let is_free = self.need() == Access::Elements && self.tile_quantum() == (1, 1);
        if !is_free || !fits(1, 1) {
            return None;
        }
        let band = Self::largest(cols, slot_bytes, |band| spans.shared_bytes(1, band));
        (band == cols || rows <= FEW_ROWS && band > 0).then_some(Cutting::Pieces { band })
    }
}

/// Rows that an op must see together, from the first on.
fn row_group(op: &Op) -> u64 {
    match op.access() {
        Access::RowGroups(rows) => rows.max(1),
        Access::Elements | Access::Rows | Access::Whole | Access::Reduction { .. } => 1,
    }
}

/// The least number that is a multiple of both.
fn common_multiple(a: u64, b: u64) -> u64 {
    let (mut divisor, mut rest) = (a, b);
    while rest > 0 {
        (divisor, rest) = (rest, divisor % rest);
    }
    a / divisor * b
}
