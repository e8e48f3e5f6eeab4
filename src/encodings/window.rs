//! A part that is a matrix of elements of one size, and the stretch of it that a tile needs.
//!
//! The rows and columns are those of the part. Whether they run along the weight's outputs or its inputs is the scheme's
//! affair: GPTQ stores a row for every eight inputs, and in it a word for every output.

use std::ops::Range;

use crate::encodings::encoding::Runs;

/// Rows × columns of a part that a tile needs.
pub(crate) struct PartWindow {
    /// Rows of the part.
    pub rows: Range<u64>,
    /// Columns of the part.
    pub cols: Range<u64>,
    /// Columns that the part has.
    pub cols_in_all: u64,
    /// Bytes of an element.
    pub size: u64,
}

impl PartWindow {
    /// Where its bytes are in the part.
    pub(crate) fn runs(&self) -> Runs {
        Runs {
            first: (self.rows.start * self.cols_in_all + self.cols.start) * self.size,
            len: self.width() * self.size,
            count: self.rows.end - self.rows.start,
            stride: self.cols_in_all * self.size,
        }
        .joined()
    }

    /// Which element of the tile's bytes is the one at that row and column of the part.
    pub(crate) fn at(&self, row: u64, col: u64) -> usize {
        ((row - self.rows.start) * self.width() + (col - self.cols.start)) as usize
    }

    /// Columns of the part that the tile needs.
    pub(crate) fn width(&self) -> u64 {
        self.cols.end - self.cols.start
    }

    /// Bytes of it in a tile.
    pub(crate) fn bytes(&self) -> usize {
        ((self.rows.end - self.rows.start) * self.width() * self.size) as usize
    }
}

/// The units of `per` values each that a range of values lies in.
pub(crate) fn units(values: &Range<u64>, per: u64) -> Range<u64> {
    values.start / per..values.end.div_ceil(per)
}

/// The most units of `per` values that a range of so many values lies in, wherever it is, of `in_all`.
pub(crate) fn most_units(values: u64, per: u64, in_all: u64) -> u64 {
    (values / per + 2).min(in_all)
}
