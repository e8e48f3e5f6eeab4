//! What the encodings of plain numbers share: one part, elements next to each other.

use crate::encodings::encoding::{Place, RowPiece, Runs};
use crate::kernels::dispatch::Kernels;
use crate::tensor::dtype::Dtype;

/// The bytes of a tile where an element takes `size` bytes.
pub(crate) fn runs(size: u64, place: Place<'_>) -> Runs {
    let Place { view, rect, .. } = place;
    Runs {
        first: (rect.rows.start * view.cols + rect.cols.start) * size,
        len: rect.width() * size,
        count: rect.height(),
        stride: view.cols * size,
    }
    .joined()
}

/// Bytes of an element of a weight that one tensor of plain numbers holds, or several of one type.
pub(crate) fn size(place: Place<'_>) -> usize {
    place.logical.parts()[0].dtype.bitsize() / 8
}

/// The bytes of a piece of a row in a tile whose rows lie next to each other.
pub(crate) fn piece(size: usize, place: Place<'_>, at: &RowPiece) -> std::ops::Range<usize> {
    let row = at.row * place.rect.width() as usize;
    (row + at.cols.start) * size..(row + at.cols.end) * size
}

/// Decodes plain numbers of some type that lie next to each other; true if all are finite.
pub(crate) fn decode(kernels: Kernels, dtype: Dtype, bytes: &[u8], out: &mut [f32]) -> bool {
    match dtype {
        Dtype::BF16 => kernels.widen_bf16(bytes, out),
        Dtype::F16 => kernels.widen_f16(bytes, out),
        _ => kernels.widen_f32(bytes, out),
    }
}

/// Implements [`crate::encodings::encoding::Encoding`] for one element type by its two kernels.
macro_rules! plain {
    ($type:ident, $name:literal, $dtype:ident, $size:literal, $widen:ident, $narrow:ident) => {
        impl crate::encodings::encoding::Encoding for $type {
            fn name(&self) -> &'static str {
                $name
            }

            fn plain(&self) -> Option<crate::tensor::dtype::Dtype> {
                Some(crate::tensor::dtype::Dtype::$dtype)
            }

            fn float_format(&self) -> Option<crate::kernels::exact::float_format::FloatFormat> {
                Some(crate::kernels::exact::float_format::FloatFormat::$dtype)
            }

            fn block_shape(&self, _: &crate::encodings::logical::Logical) -> (u64, u64) {
                (1, 1)
            }

            fn runs(
                &self,
                _: usize,
                place: crate::encodings::encoding::Place<'_>,
            ) -> crate::encodings::encoding::Runs {
                crate::encodings::plain::runs($size, place)
            }

            fn decode_row(
                &self,
                kernels: crate::kernels::dispatch::Kernels,
                parts: &[u8],
                place: crate::encodings::encoding::Place<'_>,
                at: crate::encodings::encoding::RowPiece,
                out: &mut [f32],
            ) -> bool {
                kernels.$widen(&parts[crate::encodings::plain::piece($size, place, &at)], out)
            }

            fn encode(
                &self,
                kernels: crate::kernels::dispatch::Kernels,
                block: &mut crate::encodings::encoding::ToEncode<'_>,
                bytes: &mut [u8],
            ) -> crate::kernels::outcome::Narrowed {
                let mut narrowed = crate::kernels::outcome::Narrowed { finite: true, changed: 0 };
                let rows = block.rows.clone().zip(block.values.chunks_exact_mut(block.cols.len()));
                for (row, values) in rows {
                    let at = crate::encodings::encoding::RowPiece { row, cols: block.cols.clone() };
                    let bytes = &mut bytes[crate::encodings::plain::piece($size, block.place, &at)];
                    let row = kernels.$narrow(values, bytes);
                    kernels.$widen(bytes, values);
                    narrowed.finite &= row.finite;
                    narrowed.changed += row.changed;
                }
                narrowed
            }

            fn round_flat(
                &self,
                kernels: crate::kernels::dispatch::Kernels,
                values: &mut [f32],
                codes: &mut [u8],
            ) {
                kernels.$narrow(values, codes);
                kernels.$widen(codes, values);
            }

            fn decode_flat(
                &self,
                kernels: crate::kernels::dispatch::Kernels,
                bytes: &[u8],
                out: &mut [f32],
            ) -> bool {
                kernels.$widen(bytes, out)
            }
        }
    };
}

pub(crate) use plain;
