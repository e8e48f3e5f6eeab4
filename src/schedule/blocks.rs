//! What lies where in a slab, and which parts of which factors a tile needs.
//!
//! A factor that runs along a tile's columns, or along none of its directions, is the same for all tiles of a band of
//! columns: it is read once into a slot that they share. One that runs along rows is the tile's own and lies behind its
//! values in its slab.

use std::ops::Range;

use crate::encodings::{self, Encoding, Logical, Place};
use crate::plan::{Factor, Op, OutTensor};
use crate::tensor::{Rect, View};

use super::shape::{Merged, Output};

/// Pieces in a slab start at multiples of this, so that they can be seen as `f32`.
const ALIGN: usize = 64;

/// Bytes of an f32.
const F32: usize = size_of::<f32>();

fn aligned(bytes: usize) -> usize {
    bytes.next_multiple_of(ALIGN)
}

/// The part of one factor that a tile or a band needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockSpec {
    /// Which op of the tensor.
    pub op: usize,
    /// Which factor of the op.
    pub factor: usize,
    /// Positions on the factor's axis; empty if it has none.
    pub positions: Range<u64>,
    /// Where its values go, in bytes from the start of the region; as many as its method makes of it.
    pub at: Range<usize>,
}

/// Appends a block of `factor` for `positions` behind what `blocks` holds.
fn push(blocks: &mut Vec<BlockSpec>, op: usize, index: usize, factor: &Factor, positions: Range<u64>) {
    let count = if factor.index.is_some() { positions.end - positions.start } else { 1 };
    let bytes = (count * factor.values()) as usize * F32;
    let start = blocks.last().map_or(0, |last| aligned(last.at.end));
    blocks.push(BlockSpec { op, factor: index, positions, at: start..start + bytes });
}

/// The factors that all tiles of the columns `band` share.
pub fn shared_blocks(ops: &[Op], view: View, band: &Range<u64>) -> Vec<BlockSpec> {
    blocks(ops, view, &Rect { rows: 0..view.rows, cols: band.clone() }, false)
}

/// The factors that only the tile `rect` needs.
fn own_blocks(ops: &[Op], view: View, rect: &Rect) -> Vec<BlockSpec> {
    blocks(ops, view, rect, true)
}

fn blocks(ops: &[Op], view: View, rect: &Rect, own: bool) -> Vec<BlockSpec> {
    let mut blocks = Vec::new();
    for (i, op) in ops.iter().enumerate() {
        let window = op.placement.grid(view).and_then(|grid| grid.window(rect));
        let Some(window) = window else { continue };
        for (j, factor) in op.factors.iter().enumerate() {
            let follows_rows = factor.index.is_some_and(|index| Some(index.axis) == window.rows.axis);
            let positions = match factor.index {
                Some(_) if follows_rows => window.rows.range.clone(),
                Some(_) => window.cols.range.clone(),
                None => 0..0,
            };
            if follows_rows == own {
                push(&mut blocks, i, j, factor, positions);
            }
        }
    }
    blocks
}

/// The most bytes that the factors take which are a tile's own, wherever it is; `first` are those of the first tile. Ops
/// may begin anywhere: an adapter of the seventh expert alone has none in the first tile.
fn most_own(merged: &Merged<'_>, rect: &Rect, first: &[BlockSpec]) -> usize {
    if rect.height() >= merged.view.rows {
        return region_bytes(first);
    }
    // Where ops begin and end: bytes for a row, and blocks.
    let (mut ends, mut blocks, mut least) = (Vec::new(), 0, u64::MAX);
    for op in merged.ops {
        let Some(grid) = op.placement.grid(merged.view) else { continue };
        let follows = |factor: &&Factor| factor.index.is_some_and(|index| Some(index.axis) == grid.rows.axis);
        let own = op.factors.iter().filter(follows);
        let (bytes, count) = own
            .fold((0, 0), |(bytes, count), factor| (bytes + factor.values() as i64 * F32 as i64, count + 1));
        if count == 0 {
            continue;
        }
        let rows = grid.rows.at..grid.rows.at + grid.rows.count.max(1) * grid.rows.step;
        least = least.min(rows.end - rows.start);
        blocks += count;
        ends.extend([(rows.start, bytes, count), (rows.end, -bytes, -count)]);
    }
    // Behind each end, as ops side by side do not lie on one row.
    ends.sort_unstable();
    let (mut now, mut most) = ((0, 0), (0, 0));
    for (_, bytes, count) in ends {
        now = (now.0 + bytes, now.1 + count);
        most = (most.0.max(now.0), most.1.max(now.1));
    }
    // So many on one row at the most, so many ops one behind the other, and each block begins at a multiple.
    let side_by_side = rect.height() as i64 / least.min(i64::MAX as u64).max(1) as i64 + 2;
    let blocks = blocks.min(most.1 * side_by_side);
    aligned(rect.height() as usize * most.0 as usize) + blocks as usize * ALIGN
}

/// Bytes of a region that holds `blocks`.
pub fn region_bytes(blocks: &[BlockSpec]) -> usize {
    blocks.last().map_or(0, |last| aligned(last.at.end))
}

/// What lies where in the slab of one tile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slab {
    /// The bytes it starts from, part after part.
    pub source: Range<usize>,
    /// The bytes to write; the same range where values keep their size and are changed in place.
    pub out: Range<usize>,
    /// The factors of its own, each relative to `own_at`.
    pub own: Vec<BlockSpec>,
    /// Where they start.
    pub own_at: usize,
}

impl Slab {
    /// The layout of the tile `rect`.
    pub fn new(merged: &Merged<'_>, rect: &Rect) -> Slab {
        let Merged { tensor, start, ops, view, output } = *merged;
        let place = Place { logical: start, view, rect };
        let encoding = start_encoding(start);
        let source = (0..start.parts.len()).map(|part| encoding.runs(part, place).bytes() as usize).sum();
        let behind = |bytes: usize| aligned(source)..aligned(source) + bytes;
        let out = match output {
            Output::Encoded if is_in_place(tensor, encoding) => 0..source,
            Output::Encoded => behind(out_encoding(tensor).runs(tensor.part, place).bytes() as usize),
            Output::Observed => behind(rect.elements() as usize * F32),
        };
        let own_at = aligned(source.max(out.end));
        Slab { source: 0..source, out, own: own_blocks(ops, view, rect), own_at }
    }

    /// The most bytes that a tile of the size of `rect` takes, wherever it is; `rect` is the first.
    pub fn most(merged: &Merged<'_>, rect: &Rect) -> usize {
        let slab = Slab::new(merged, rect);
        let Merged { tensor, start, view, output, .. } = *merged;
        let (place, encoding) = (Place { logical: start, view, rect }, start_encoding(start));
        let source = (0..start.parts.len()).map(|part| encoding.most(part, place) as usize).sum();
        let out = match output {
            Output::Encoded if slab.out.start == 0 => 0,
            Output::Encoded => out_encoding(tensor).most(tensor.part, place) as usize,
            Output::Observed => slab.out.len(),
        };
        aligned(aligned(source) + out) + most_own(merged, rect, &slab.own)
    }

    /// Bytes of all of it.
    pub fn bytes(&self) -> usize {
        self.own_at + region_bytes(&self.own)
    }
}

/// The encoding a tensor starts from.
pub fn start_encoding(start: &Logical) -> &'static dyn Encoding {
    encodings::find(&start.encoding).expect("a plan names encodings of the table")
}

/// The encoding a tensor is written in.
pub fn out_encoding(tensor: &OutTensor) -> &'static dyn Encoding {
    encodings::find(&tensor.encoding).expect("a plan names encodings of the table")
}

/// Whether a tile's values keep their size, so that they are changed where they lie.
fn is_in_place(tensor: &OutTensor, start: &dyn Encoding) -> bool {
    let size = |encoding: &dyn Encoding| encoding.plain().map(|dtype| dtype.bitsize());
    size(start).is_some_and(|bits| size(out_encoding(tensor)) == Some(bits))
}
