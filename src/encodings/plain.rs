//! What the encodings of plain numbers share: one part, elements next to each other.

use crate::tensor::{Rect, View};

use super::{RowPiece, Runs};

/// The bytes of `rect` where an element takes `size` bytes.
pub(super) fn runs(size: u64, view: View, rect: &Rect) -> Runs {
    Runs {
        first: (rect.rows.start * view.cols + rect.cols.start) * size,
        len: rect.width() * size,
        count: rect.height(),
        stride: view.cols * size,
    }
    .joined()
}

/// The bytes of a piece of a row in a tile whose rows lie next to each other.
pub(super) fn piece(size: usize, tile: &Rect, at: &RowPiece) -> std::ops::Range<usize> {
    let row = at.row * tile.width() as usize;
    (row + at.cols.start) * size..(row + at.cols.end) * size
}

/// Implements [`super::Encoding`] for one element type by its two kernels.
macro_rules! plain {
    ($type:ident, $name:literal, $dtype:ident, $size:literal, $widen:ident, $narrow:ident) => {
        impl super::Encoding for $type {
            fn name(&self) -> &'static str {
                $name
            }

            fn dtype(&self) -> crate::tensor::Dtype {
                crate::tensor::Dtype::$dtype
            }

            fn quantum(&self) -> (u64, u64) {
                (1, 1)
            }

            fn parts(&self) -> usize {
                1
            }

            fn runs(&self, _: usize, view: crate::tensor::View, rect: &crate::tensor::Rect) -> super::Runs {
                super::plain::runs($size, view, rect)
            }

            fn decode_row(
                &self,
                kernels: crate::kernels::Kernels,
                part: &[u8],
                tile: &crate::tensor::Rect,
                at: super::RowPiece,
                out: &mut [f32],
            ) -> bool {
                kernels.$widen(&part[super::plain::piece($size, tile, &at)], out)
            }

            fn encode_row(
                &self,
                kernels: crate::kernels::Kernels,
                values: &[f32],
                tile: &crate::tensor::Rect,
                at: super::RowPiece,
                part: &mut [u8],
            ) -> crate::kernels::Narrowed {
                kernels.$narrow(values, &mut part[super::plain::piece($size, tile, &at)])
            }
        }
    };
}

pub(super) use plain;
