//! Plain numbers with their last two axes exchanged: what is written in the order of inputs, and starts from a matrix that is stored
//! in the order of outputs.

use std::borrow::Cow;

use crate::encodings::encoding::{Encoding, Place, RowPiece, Runs};
use crate::encodings::logical::{Logical, LogicalFields};
use crate::encodings::plain::{decode, size};
use crate::kernels::dispatch::Kernels;
use crate::tensor::reference::TensorRef;
use crate::tensor::shape::Shape;

/// Numbers with their last two axes exchanged.
pub(crate) struct Transposed;

const NAME: &str = "transposed";
/// Bytes of numbers that are picked at a time.
const PICKED: usize = 512;

/// The transposes of a tensor's matrices of plain numbers; none for what has none.
pub(crate) fn transposed(tensor: &TensorRef) -> Option<Logical> {
    Logical::plain(tensor)?;
    Some(Logical::from(LogicalFields {
        encoding: Cow::Borrowed(NAME),
        shape: exchanged(&tensor.shape)?,
        block: (1, 1),
        parts: vec![tensor.clone()],
        constants: Vec::new(),
    }))
}

/// A shape with its last two axes exchanged.
pub(crate) fn exchanged(shape: &Shape) -> Option<Shape> {
    let [before @ .., rows, cols] = shape.axes() else { return None };
    Shape::new(&[before, &[*cols, *rows]].concat())
}

/// Rows of one of its matrices.
fn rows_of_one(logical: &Logical) -> u64 {
    logical.shape().axes().iter().rev().nth(1).copied().unwrap_or(1).max(1)
}

impl Encoding for Transposed {
    fn name(&self) -> &'static str {
        NAME
    }

    fn row_group(&self, logical: &Logical) -> u64 {
        rows_of_one(logical)
    }

    fn block_shape(&self, _: &Logical) -> (u64, u64) {
        (1, 1)
    }

    fn runs(&self, _: usize, place: Place<'_>) -> Runs {
        let (rows, rect, size) = (rows_of_one(place.logical), place.rect, size(place) as u64);
        let (matrix, row) = (rect.rows.start / rows, rect.rows.start % rows);
        Runs {
            first: ((matrix * place.view.cols + rect.cols.start) * rows + row) * size,
            len: rect.height() * size,
            count: rect.width(),
            stride: rows * size,
        }
        .joined()
    }

    fn max_bytes(&self, _: usize, place: Place<'_>) -> u64 {
        place.rect.elements() * size(place) as u64
    }

    fn decode_row(
        &self,
        kernels: Kernels,
        parts: &[u8],
        place: Place<'_>,
        at: RowPiece,
        out: &mut [f32],
    ) -> bool {
        let (dtype, size) = (place.logical.parts()[0].dtype, size(place));
        let high = place.rect.height() as usize * size;
        let mut cols = parts[at.cols.start * high..].chunks_exact(high);
        let (mut picked, mut finite) = ([0; PICKED], true);
        for out in out.chunks_mut(PICKED / size) {
            let bytes = &mut picked[..out.len() * size];
            for (one, col) in bytes.chunks_exact_mut(size).zip(cols.by_ref()) {
                one.copy_from_slice(&col[at.row * size..][..size]);
            }
            finite &= decode(kernels, dtype, bytes, out);
        }
        finite
    }
}
