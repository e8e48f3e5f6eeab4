//! How the values of a logical weight are stored: which bytes a rectangle of it takes, and the way to `f32` and back.
//!
//! One file per encoding and one row in [`ENCODINGS`]. An encoding knows bytes and values, no files and no threads. Rows of
//! a tile are decoded and encoded one after the other, so that one whose values share a scale can look it up by row and
//! column.

mod bf16;
mod f16;
mod f32;
mod plain;

use std::ops::Range;

use crate::kernels::{Kernels, Narrowed};
use crate::tensor::{Dtype, Rect, View};

/// Equal runs of bytes at equal distances, relative to the start of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Runs {
    /// First byte of the first run.
    pub first: u64,
    /// Bytes of a run.
    pub len: u64,
    /// Number of runs.
    pub count: u64,
    /// Bytes from the start of one run to the start of the next.
    pub stride: u64,
}

impl Runs {
    /// Bytes in all runs.
    pub fn bytes(&self) -> u64 {
        self.len * self.count
    }

    /// The same bytes, as one run where they touch.
    pub fn joined(self) -> Runs {
        if self.stride == self.len || self.count <= 1 {
            Runs { first: self.first, len: self.bytes(), count: 1, stride: self.bytes() }
        } else {
            self
        }
    }
}

/// One encoding.
pub trait Encoding: Sync {
    /// Its name in plans.
    fn name(&self) -> &'static str;

    /// The element type of its first part in a header.
    fn dtype(&self) -> Dtype;

    /// The smallest rows × columns that can be decoded and encoded on their own.
    fn quantum(&self) -> (u64, u64);

    /// How many tensors make up a logical weight.
    fn parts(&self) -> usize;

    /// The bytes of one part that hold `rect` of `view`. In a tile they lie one run after the other.
    fn runs(&self, part: usize, view: View, rect: &Rect) -> Runs;

    /// Decodes plain numbers that lie next to each other, for encodings of one part and a quantum of one; true if all are
    /// finite.
    fn decode_flat(&self, kernels: Kernels, bytes: &[u8], out: &mut [f32]) -> bool {
        let tile = Rect { rows: 0..1, cols: 0..out.len() as u64 };
        self.decode_row(kernels, bytes, &tile, RowPiece { row: 0, cols: 0..out.len() }, out)
    }

    /// Decodes columns `cols` of row `row` (both counted from the tile's corner) of a tile of size `tile` into `out`; true
    /// if all values are finite. `parts` holds the bytes that `runs` names, part after part.
    fn decode_row(&self, kernels: Kernels, part: &[u8], tile: &Rect, at: RowPiece, out: &mut [f32]) -> bool;

    /// Encodes `values` over the same place of a tile's bytes, rounding once, to nearest even.
    fn encode_row(
        &self,
        kernels: Kernels,
        values: &[f32],
        tile: &Rect,
        at: RowPiece,
        part: &mut [u8],
    ) -> Narrowed;
}

/// Some columns of one row, counted from a tile's corner.
#[derive(Clone, Debug)]
pub struct RowPiece {
    /// The row.
    pub row: usize,
    /// The columns.
    pub cols: Range<usize>,
}

/// Every encoding there is.
pub static ENCODINGS: &[&dyn Encoding] = &[&bf16::Bf16, &f16::F16, &f32::F32];

/// The encoding of that name.
pub fn find(name: &str) -> Option<&'static dyn Encoding> {
    ENCODINGS.iter().copied().find(|encoding| encoding.name() == name)
}

/// The encoding of plain numbers of that element type.
pub fn plain(dtype: Dtype) -> Option<&'static dyn Encoding> {
    ENCODINGS.iter().copied().find(|encoding| encoding.parts() == 1 && encoding.dtype() == dtype)
}
