//! What lies where in a slab, and which parts of which factors a tile needs.
//!
//! A factor that runs along a tile's columns, or along none of its directions, is the same for all tiles of a band:
//! it is read once into a slot that they share. One that runs along rows is the tile's own and lies behind its
//! values in its slab.

use std::ops::Range;

use crate::encodings;
use crate::encodings::logical::Logical;
use crate::encodings::{Encoding, Place};
use crate::ops::factor::Factor;
use crate::ops::op::Op;
use crate::plan::out_tensor::OutTensor;
use crate::tensor::rect::{Rect, View};

use crate::schedule::cut::{Merged, Output};

/// Pieces in a slab start at multiples of this, so that they can be seen as `f32`.
const ALIGN: usize = 64;

/// Bytes of an f32.
const F32: usize = size_of::<f32>();

/// Rounded up to where the next piece may start.
pub(crate) fn aligned(bytes: usize) -> usize {
    bytes.next_multiple_of(ALIGN)
}

/// The part of one factor that a tile or a band needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BlockSpec {
    /// Which op of the tensor.
    pub op: usize,
    /// Which factor of the op.
    pub factor: usize,
    /// Positions on the factor's axis; empty if it has none.
    pub positions: Range<u64>,
    /// Where its values go, in bytes from the start of the region; as many as its method makes of it.
    pub at: Range<usize>,
}

/// Bytes of a factor's values for so many positions; of all of it, if it runs along no axis.
pub(crate) fn factor_bytes(factor: &Factor, positions: u64) -> usize {
    let count = if factor.index.is_some() { positions } else { 1 };
    (count * factor.values()) as usize * F32
}

/// Appends a block of `factor` for `positions` behind what `blocks` holds.
fn push(blocks: &mut Vec<BlockSpec>, op: usize, index: usize, factor: &Factor, positions: Range<u64>) {
    let bytes = factor_bytes(factor, positions.end - positions.start);
    let start = blocks.last().map_or(0, |last| aligned(last.at.end));
    blocks.push(BlockSpec { op, factor: index, positions, at: start..start + bytes });
}

/// The factors that all tiles of a band share.
pub(crate) fn shared_blocks(ops: &[Op], view: View, band: &Rect) -> Vec<BlockSpec> {
    blocks(ops, view, band, false)
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

/// Bytes of a region that holds `blocks`.
pub(crate) fn region_bytes(blocks: &[BlockSpec]) -> usize {
    blocks.last().map_or(0, |last| aligned(last.at.end))
}

/// What lies where in the slab of one tile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Slab {
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
    pub(crate) fn new(merged: &Merged<'_>, rect: &Rect) -> Slab {
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

    /// The most bytes that the values of a tile of the size of `rect` take, wherever it is; `rect` is the first.
    pub(crate) fn most_values(merged: &Merged<'_>, rect: &Rect) -> usize {
        let Merged { tensor, start, view, output, .. } = *merged;
        let (place, encoding) = (Place { logical: start, view, rect }, start_encoding(start));
        let source = (0..start.parts.len()).map(|part| encoding.max_bytes(part, place) as usize).sum();
        let out = match output {
            Output::Encoded if is_in_place(tensor, encoding) => 0,
            Output::Encoded => out_encoding(tensor).max_bytes(tensor.part, place) as usize,
            Output::Observed => rect.elements() as usize * F32,
        };
        aligned(aligned(source) + out)
    }

    /// Bytes of all of it.
    pub(crate) fn bytes(&self) -> usize {
        self.own_at + region_bytes(&self.own)
    }
}

/// The encoding a tensor starts from.
pub(crate) fn start_encoding(start: &Logical) -> &'static dyn Encoding {
    encodings::find(&start.encoding).expect("a plan names encodings of the table")
}

/// The encoding a tensor is written in.
pub(crate) fn out_encoding(tensor: &OutTensor) -> &'static dyn Encoding {
    encodings::find(&tensor.encoding).expect("a plan names encodings of the table")
}

/// Whether a tile's values keep their size, so that they are changed where they lie.
fn is_in_place(tensor: &OutTensor, start: &dyn Encoding) -> bool {
    let size = |encoding: &dyn Encoding| encoding.plain().map(|dtype| dtype.bitsize());
    size(start).is_some_and(|bits| size(out_encoding(tensor)) == Some(bits))
}
