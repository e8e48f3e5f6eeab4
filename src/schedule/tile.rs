//! Tiles: the pieces of work that travel as a unit. A tile carries its layout, which the walk over the schedule computes
//! once: what lies where in its buffer, and which parts of which factors it needs, read from where.
//!
//! A factor that runs along a tile's columns, or along none of its directions, is the same for all tiles of a band:
//! it is read once into a factor buffer that they share. One that runs along rows is the tile's own and lies behind its
//! values in its tile buffer.

use crate::schedule::reduces::Reduces;
use crate::schedule::region::{F32, FactorBlock, Sharing, aligned, factor_bytes};
use crate::schedule::region::{out_encoding, start_encoding};
use std::ops::Range;

use crate::encodings::encoding::{Encoding, Place};
use crate::ops::op::ClaimId;
use crate::plan::out_tensor::OutTensor;
use crate::tensor::rect::Rect;
use crate::tensor::reference::{FileId, TensorRef};

use crate::schedule::cut::{MergedTensor, Output};

/// A piece of work that travels as a unit.
pub(crate) struct Tile<'p> {
    /// Its place in the schedule, from 0.
    pub seq: u64,
    /// Which output shard it belongs to.
    pub shard: usize,
    /// Where its bytes begin in the shard's file; of a tile that is not written, where those of the next begin.
    pub at: u64,
    /// What is to be done.
    pub work: Work<'p>,
}

/// What is to be done with a tile.
#[expect(clippy::large_enum_variant, reason = "a few are under way at a time, most of them merges")]
pub(crate) enum Work<'p> {
    /// Open the shard, and write its header where that is new.
    Header,
    /// Write bytes of an input as they are.
    Copy {
        /// Which input.
        from: FileId,
        /// First byte in it.
        offset: u64,
        /// Number of bytes, at most a tile buffer.
        bytes: u64,
        /// The replacement it is a part of, and how many of its elements.
        claim: Option<(ClaimId, u64)>,
    },
    /// Have bytes of an input, whole tensors of it, without reading them.
    Share {
        /// Which input.
        from: FileId,
        /// First byte in it.
        offset: u64,
        /// Number of bytes.
        bytes: u64,
    },
    /// Read a rectangle of one tensor, merge it, and write or reduce it.
    Merge(MergeTile<'p>),
}

impl Work<'_> {
    /// Bytes of the output that it makes.
    pub(crate) fn out_bytes(&self) -> u64 {
        match self {
            Work::Copy { bytes, .. } | Work::Share { bytes, .. } => *bytes,
            Work::Merge(tile) if tile.purpose == Purpose::Write => tile.layout.out.len() as u64,
            Work::Header | Work::Merge(_) => 0,
        }
    }
}

/// A rectangle of one tensor, with all that merging it needs to know.
pub(crate) struct MergeTile<'p> {
    /// Which tensor of the shard.
    pub tensor: usize,
    /// The tensor itself, and the ops that this tile is for.
    pub merged: MergedTensor<'p>,
    /// What its values are for.
    pub purpose: Purpose,
    /// Which part of the tensor.
    pub rect: Rect,
    /// The rows and columns whose factors it shares with its neighbors.
    pub band: Rect,
    /// What lies where in its buffer.
    pub layout: TileLayout,
}

/// What the values of a tile are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// They are bytes of the output.
    Write,
    /// They are added up, for what must know something before the tensor is written.
    Reduce {
        /// What that is.
        of: Reduces,
        /// Whether it is the last tile of that reduction.
        is_last: bool,
    },
}

/// Appends the parts of factors that `rect` needs to `blocks`, in the order of ops and of their factors.
pub(crate) fn list_blocks(
    merged: &MergedTensor<'_>,
    rect: &Rect,
    sharing: Sharing,
    blocks: &mut Vec<FactorBlock>,
) {
    each_block(merged, rect, sharing, |op, factor, positions, at| {
        let found = merged.location(op, factor);
        let TensorRef { file, offset, .. } = found.tensor;
        let runs = found.runs(&positions);
        blocks.push(FactorBlock { op, factor, positions, at, file, offset, runs });
    });
}

/// Bytes of the region that holds those parts.
pub(crate) fn region_bytes(merged: &MergedTensor<'_>, rect: &Rect, sharing: Sharing) -> usize {
    each_block(merged, rect, sharing, |_, _, _, _| {})
}

/// Calls `each` with op, factor, positions and place in the region; returns the bytes of all of it.
fn each_block(
    merged: &MergedTensor<'_>,
    rect: &Rect,
    sharing: Sharing,
    mut each: impl FnMut(usize, usize, Range<u64>, Range<usize>),
) -> usize {
    let mut next = 0;
    for (i, op) in merged.ops.iter().enumerate() {
        let window = op.placement.grid(merged.view).and_then(|grid| grid.window(rect));
        let Some(window) = window else { continue };
        for (j, factor) in op.factors.iter().enumerate() {
            let follows_rows = factor.index().is_some_and(|index| Some(index.axis) == window.rows.axis);
            if follows_rows != (sharing == Sharing::Own) {
                continue;
            }
            let positions = match factor.index() {
                Some(_) if follows_rows => window.rows.range.clone(),
                Some(_) => window.cols.range.clone(),
                None => 0..0,
            };
            let bytes = factor_bytes(factor, positions.end - positions.start);
            each(i, j, positions, next..next + bytes);
            next = aligned(next + bytes);
        }
    }
    next
}

/// What lies where in the buffer of one tile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TileLayout {
    /// The bytes it starts from, part after part.
    pub source: Range<usize>,
    /// The bytes of the form that it is written in, likewise; those that it starts from where that is one.
    pub form: Range<usize>,
    /// The bytes to write; the same range where values keep their size and are changed in place, or are only looked at.
    pub out: Range<usize>,
    /// The factors of its own, each relative to `own_at`.
    pub own: Vec<FactorBlock>,
    /// Where they start.
    pub own_at: usize,
}

impl TileLayout {
    /// The layout of the tile `rect`. `spare` is an old list of factors, to be used again.
    pub(crate) fn new(merged: &MergedTensor<'_>, rect: &Rect, spare: Vec<FactorBlock>) -> TileLayout {
        let ([source, form], out) = values(merged, rect);
        let mut own = spare;
        own.clear();
        list_blocks(merged, rect, Sharing::Own, &mut own);
        let own_at = aligned(form.end.max(out.end));
        TileLayout { source, form, out, own, own_at }
    }

    /// Bytes of all of it.
    pub(crate) fn bytes(merged: &MergedTensor<'_>, rect: &Rect) -> usize {
        let ([_, form], out) = values(merged, rect);
        aligned(form.end.max(out.end)) + region_bytes(merged, rect, Sharing::Own)
    }

    /// The most bytes that the values of a tile of the size of `rect` take, wherever it is; `rect` is the first.
    pub(crate) fn max_value_bytes(merged: &MergedTensor<'_>, rect: &Rect) -> usize {
        let MergedTensor { tensor, start, view, output, .. } = *merged;
        let most = |weight| {
            let (encoding, place) = (start_encoding(weight), Place::new(weight, view, rect));
            let parts = (0..weight.parts().len()).map(|part| encoding.max_bytes(part, place) as usize);
            aligned(parts.sum())
        };
        let written = Place::new(merged.written_as(), view, rect);
        let out = match output {
            Output::Encoded if is_in_place(tensor, start_encoding(start)) => 0,
            Output::Encoded => out_encoding(tensor).max_bytes(usize::from(tensor.part), written) as usize,
            Output::Observed => rect.elements() as usize * F32,
            Output::Surveyed => 0,
        };
        aligned(merged.read_weights().map(most).sum::<usize>() + out)
    }
}

impl MergedTensor<'_> {
    /// Bytes of a tile's values wherever it is, without the factors of its own.
    pub(crate) fn value_bytes(&self, rows: u64, cols: u64) -> usize {
        TileLayout::max_value_bytes(self, &Rect { rows: 0..rows, cols: 0..cols })
    }
}

/// Where the bytes lie that a tile starts from, where those of the form that it is written in, and where its output.
fn values(merged: &MergedTensor<'_>, rect: &Rect) -> ([Range<usize>; 2], Range<usize>) {
    let MergedTensor { tensor, start, view, output, .. } = *merged;
    let bytes = |weight| {
        let (encoding, place) = (start_encoding(weight), Place::new(weight, view, rect));
        (0..weight.parts().len()).map(|part| encoding.runs(part, place).bytes() as usize).sum()
    };
    let source: Range<usize> = 0..bytes(start);
    let form = match merged.read_weights().nth(1) {
        Some(form) => aligned(source.end)..aligned(source.end) + bytes(form),
        None => source.clone(),
    };
    let behind = |bytes: usize| aligned(form.end)..aligned(form.end) + bytes;
    let written = Place::new(merged.written_as(), view, rect);
    let out = match output {
        Output::Encoded if is_in_place(tensor, start_encoding(start)) => source.clone(),
        Output::Encoded => {
            behind(out_encoding(tensor).runs(usize::from(tensor.part), written).bytes() as usize)
        }
        Output::Observed => behind(rect.elements() as usize * F32),
        Output::Surveyed => source.clone(),
    };
    ([source, form], out)
}

/// Whether a tile's values keep their size, so that they are changed where they lie.
fn is_in_place(tensor: &OutTensor, start: &dyn Encoding) -> bool {
    let size = |encoding: &dyn Encoding| encoding.plain().map(|dtype| dtype.bitsize());
    size(start).is_some_and(|bits| size(out_encoding(tensor)) == Some(bits))
}
