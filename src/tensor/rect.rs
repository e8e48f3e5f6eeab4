//! A tensor seen as a matrix, and rectangles of it.

use std::ops::Range;

use serde::{Deserialize, Serialize};

/// A row-major tensor seen as a matrix of `rows` × `cols` elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// Number of rows.
    pub rows: u64,
    /// Elements of a row, which lie next to each other.
    pub cols: u64,
}

impl View {
    /// The rectangle that covers all of it.
    pub fn whole(self) -> Rect {
        Rect { rows: 0..self.rows, cols: 0..self.cols }
    }
}

/// Rows × columns of a [`View`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rect {
    /// Rows, from the tensor's first.
    pub rows: Range<u64>,
    /// Columns, from the row's first.
    pub cols: Range<u64>,
}

impl Rect {
    /// Number of rows.
    pub fn height(&self) -> u64 {
        self.rows.end - self.rows.start
    }

    /// Number of columns.
    pub fn width(&self) -> u64 {
        self.cols.end - self.cols.start
    }

    /// Number of elements.
    pub fn elements(&self) -> u64 {
        self.height() * self.width()
    }
}
