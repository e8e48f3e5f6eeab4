//! What an encoding is: logical weights to f32 and back, tile by tile.

use crate::encodings::logical::{Candidate, Detected, Logical};
use crate::encodings::scheme::Scheme;
use crate::error::Result;
use crate::kernels::dispatch::Kernels;
use crate::kernels::exact::float_format::FloatFormat;
use crate::kernels::outcome::Narrowed;
use crate::tensor::dtype::Dtype;
use crate::tensor::rect::{Rect, View};
use crate::tensor::shape::Shape;
use std::ops::Range;

/// Equal runs of bytes at equal distances, relative to the start of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Runs {
    /// First byte of the first run.
    pub first: u64,
    /// Bytes of a run.
    pub len: u64,
    /// Number of runs.
    pub count: u64,
    /// Bytes from the start of one run to the start of the next; where runs do not touch, those of a stored row, and stored
    /// rows start at multiples of it.
    pub stride: u64,
}

impl Runs {
    /// Bytes in all runs.
    pub(crate) fn bytes(&self) -> u64 {
        self.len * self.count
    }

    /// The same bytes, as one run where they touch.
    pub(crate) fn joined(self) -> Runs {
        if self.stride == self.len || self.count <= 1 {
            Runs { first: self.first, len: self.bytes(), count: 1, stride: self.bytes() }
        } else {
            self
        }
    }
}

/// How the matrix that is written has the values of that of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WrittenOrder {
    /// Its last two axes are exchanged.
    Exchanged,
    /// So many stretches of the model's rows stand beside each other, column by column in turn.
    Interleaved(u64),
}

/// A tile of a logical weight.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    /// The weight, as it is stored.
    pub logical: &'a Logical,
    /// The matrix it is cut as.
    pub view: View,
    /// Which part of the matrix the tile is.
    pub rect: &'a Rect,
    /// What is known of all of the weight, for encodings that [survey](Encoding::survey) it; empty for all else.
    pub surveyed: &'a [f64],
}

impl<'a> Place<'a> {
    /// A tile of a weight of which nothing need be known as a whole, or is not needed here.
    pub(crate) fn new(logical: &'a Logical, view: View, rect: &'a Rect) -> Place<'a> {
        Place { logical, view, rect, surveyed: &[] }
    }
}

/// One encoding.
pub(crate) trait Encoding: Sync {
    /// Its name in plans.
    fn name(&self) -> &'static str;

    /// The element type whose tensors are this encoding and need nothing else; none for quantized data, which needs auxiliary tensors.
    fn plain(&self) -> Option<Dtype> {
        None
    }

    /// A weight of that shape of which nothing is stored yet, if tensors of that element type are this encoding and need nothing
    /// else, though they are no plain numbers.
    fn unwritten(&self, _: Dtype, _: &Shape) -> Option<Logical> {
        None
    }

    /// The format of its numbers, for encodings that are [`plain`](Self::plain).
    fn float_format(&self) -> Option<FloatFormat> {
        None
    }

    /// The facts of its scheme; none for plain numbers, which have no scheme.
    fn scheme(&self) -> Option<&'static Scheme> {
        None
    }

    /// Detects a tensor that is stored this way by its auxiliary tensors in the checkpoint.
    ///
    /// # Errors
    /// When a tensor is stored this way and something is wrong with its auxiliary tensors.
    fn detect(&self, _: &Candidate<'_>) -> Result<Option<Detected>> {
        Ok(None)
    }

    /// Why changed values of a weight are not encoded this way again; none if they are.
    fn decode_only(&self, _: &Logical) -> Option<&'static str> {
        None
    }

    /// The same weight in the order in which its codes are stored, so that it is encoded again so, and which that is; none where it is
    /// written in the order that it has.
    fn across(&self, _: &Logical) -> Option<(WrittenOrder, Logical)> {
        None
    }

    /// Why scales are not made anew though codes are; none if they are, or there are none.
    fn keeps_scales(&self, _: &Logical) -> Option<&'static str> {
        None
    }

    /// Rows of a matrix that a tile must not reach beyond: none holds rows on both sides of a multiple of them.
    fn row_group(&self, _: &Logical) -> u64 {
        u64::MAX
    }

    /// Rows × columns of a matrix that lie in one tile from its first on, as they are decoded from each other.
    fn decode_shape(&self, _: &Logical) -> (u64, u64) {
        (1, 1)
    }

    /// How many numbers must be known of all of a weight before any of it is decoded.
    fn survey_len(&self, _: &Logical) -> usize {
        0
    }

    /// Adds a tile to these numbers, which are zero at first. Tiles come in order, whatever their size.
    fn survey(&self, _: &[u8], _: Place<'_>, _: &mut [f64]) {}

    /// Whether a part stays as it is, whatever becomes of the values.
    fn is_kept(&self, _: &Logical, _part: usize) -> bool {
        false
    }

    /// Rows × columns of the logical weight that must be encoded together.
    fn block_shape(&self, logical: &Logical) -> (u64, u64);

    /// The bytes of one part that hold a tile. In a slab they lie one run after the other, part after part.
    fn runs(&self, part: usize, place: Place<'_>) -> Runs;

    /// The most bytes of one part that any tile of the size of `place` takes, wherever it is; `place` is the first.
    fn max_bytes(&self, part: usize, place: Place<'_>) -> u64 {
        self.runs(part, place).bytes()
    }

    /// Decodes some columns of one row (both counted from the tile's corner) into `out`; true if all values are finite.
    /// `parts` holds the bytes that `runs` names, part after part.
    fn decode_row(
        &self,
        kernels: Kernels,
        parts: &[u8],
        place: Place<'_>,
        at: RowPiece,
        out: &mut [f32],
    ) -> bool;

    /// Encodes a block of values into one part's bytes of the tile, rounding once, to nearest even. Afterwards the values
    /// are what the bytes decode to. An encoding that is [decoded only](Self::decode_only) has none.
    fn encode(&self, _: Kernels, _: &mut ToEncode<'_>, _: &mut [u8]) -> Narrowed {
        unreachable!("the plan refuses to change what is decoded only")
    }

    /// Rounds values to what plain numbers hold, and leaves these numbers' codes, for encodings that are [`plain`](Self::plain).
    fn round_flat(&self, _: Kernels, _: &mut [f32], _: &mut [u8]) {
        unreachable!("only plain numbers are rounded without a place")
    }

    /// Decodes plain numbers that lie next to each other, for encodings that are [`plain`](Self::plain); true if all are
    /// finite.
    fn decode_flat(&self, _: Kernels, _: &[u8], _: &mut [f32]) -> bool {
        unreachable!("only plain numbers are decoded without a place")
    }
}

/// Some columns of one row, counted from a tile's corner.
#[derive(Clone, Debug)]
pub(crate) struct RowPiece {
    /// The row.
    pub row: usize,
    /// The columns.
    pub cols: Range<usize>,
}

/// A block of values that is to be encoded.
pub(crate) struct ToEncode<'a> {
    /// The values, row-major.
    pub values: &'a mut [f32],
    /// Rows of the block, from the tile's first.
    pub rows: Range<usize>,
    /// Columns of the block, from the tile's first.
    pub cols: Range<usize>,
    /// The tile.
    pub place: Place<'a>,
    /// Which part is written.
    pub part: usize,
    /// The bytes of the encoded weight in whose form it is written, part after part, where they are still there.
    pub source: &'a [u8],
    /// Whether all scales are made anew, by the rule of the scheme's own library.
    pub fresh: bool,
}
