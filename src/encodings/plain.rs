//! What the encodings of plain numbers share: one part, elements next to each other.

use super::{Place, RowPiece, Runs};

/// The bytes of a tile where an element takes `size` bytes.
pub(super) fn runs(size: u64, place: Place<'_>) -> Runs {
    let Place { view, rect, .. } = place;
    Runs {
        first: (rect.rows.start * view.cols + rect.cols.start) * size,
        len: rect.width() * size,
        count: rect.height(),
        stride: view.cols * size,
    }
    .joined()
}

/// The bytes of a piece of a row in a tile whose rows lie next to each other.
pub(super) fn piece(size: usize, place: Place<'_>, at: &RowPiece) -> std::ops::Range<usize> {
    let row = at.row * place.rect.width() as usize;
    (row + at.cols.start) * size..(row + at.cols.end) * size
}

/// Implements [`super::Encoding`] for one element type by its two kernels.
macro_rules! plain {
    ($type:ident, $name:literal, $dtype:ident, $size:literal, $widen:ident, $narrow:ident) => {
        impl super::Encoding for $type {
            fn name(&self) -> &'static str {
                $name
            }

            fn plain(&self) -> Option<crate::tensor::Dtype> {
                Some(crate::tensor::Dtype::$dtype)
            }

            fn quantum(&self, _: &super::Logical) -> (u64, u64) {
                (1, 1)
            }

            fn runs(&self, _: usize, place: super::Place<'_>) -> super::Runs {
                super::plain::runs($size, place)
            }

            fn decode_row(
                &self,
                kernels: crate::kernels::Kernels,
                parts: &[u8],
                place: super::Place<'_>,
                at: super::RowPiece,
                out: &mut [f32],
            ) -> bool {
                kernels.$widen(&parts[super::plain::piece($size, place, &at)], out)
            }

            fn encode(
                &self,
                kernels: crate::kernels::Kernels,
                block: &mut super::ToEncode<'_>,
                bytes: &mut [u8],
            ) -> crate::kernels::Narrowed {
                let mut narrowed = crate::kernels::Narrowed { finite: true, changed: 0 };
                let rows = block.rows.clone().zip(block.values.chunks_exact_mut(block.cols.len()));
                for (row, values) in rows {
                    let at = super::RowPiece { row, cols: block.cols.clone() };
                    let bytes = &mut bytes[super::plain::piece($size, block.place, &at)];
                    let row = kernels.$narrow(values, bytes);
                    kernels.$widen(bytes, values);
                    narrowed.finite &= row.finite;
                    narrowed.changed += row.changed;
                }
                narrowed
            }

            fn decode_flat(&self, kernels: crate::kernels::Kernels, bytes: &[u8], out: &mut [f32]) -> bool {
                kernels.$widen(bytes, out)
            }
        }
    };
}

pub(super) use plain;
