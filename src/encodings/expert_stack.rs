//! A stack of the matrices of single experts: one tensor in llama.cpp's files, made of one for each expert.
//!
//! ```text
//! part e  [N, K]   the matrix of expert e, plain numbers
//! value [e, n, k] = part e [n, k]
//! ```

use std::borrow::Cow;

use crate::encodings::encoding::{Encoding, Place, RowPiece, Runs};
use crate::encodings::logical::{Logical, LogicalFields};
use crate::encodings::plain::{decode, piece, runs, size};
use crate::kernels::dispatch::Kernels;
use crate::tensor::rect::Rect;
use crate::tensor::reference::TensorRef;
use crate::tensor::shape::Shape;

/// Matrices of experts, one behind the other.
pub(crate) struct ExpertStack;

const NAME: &str = "expert_stack";

/// The stack of some matrices of plain numbers; none if they are not all alike.
pub(crate) fn stacked(matrices: Vec<TensorRef>) -> Option<Logical> {
    let first = matrices.first()?;
    Logical::plain(first)?;
    let is_like = |other: &TensorRef| other.shape == first.shape && other.dtype == first.dtype;
    let &[rows, cols] = first.shape.axes() else { return None };
    if rows == 0 || !matrices.iter().all(is_like) {
        return None;
    }
    Some(Logical::from(LogicalFields {
        encoding: Cow::Borrowed(NAME),
        shape: Shape::new(&[matrices.len() as u64, rows, cols])?,
        block: (1, 1),
        parts: matrices,
        constants: Vec::new(),
    }))
}

/// Rows of one expert.
fn rows_of_one(logical: &Logical) -> u64 {
    logical.parts()[0].shape.axes()[0]
}

impl Encoding for ExpertStack {
    fn name(&self) -> &'static str {
        NAME
    }

    fn row_group(&self, logical: &Logical) -> u64 {
        rows_of_one(logical)
    }

    fn block_shape(&self, _: &Logical) -> (u64, u64) {
        (1, 1)
    }

    fn runs(&self, part: usize, place: Place<'_>) -> Runs {
        let rows = &place.rect.rows;
        let first = part as u64 * rows_of_one(place.logical);
        if rows.is_empty() || rows.start < first || rows.start >= first + rows_of_one(place.logical) {
            return Runs { first: 0, len: 0, count: 0, stride: 0 };
        }
        let rect = Rect { rows: rows.start - first..rows.end - first, cols: place.rect.cols.clone() };
        runs(size(place) as u64, Place { rect: &rect, ..place })
    }

    /// A tile is of one expert, whichever that is: the others take nothing.
    fn max_bytes(&self, part: usize, place: Place<'_>) -> u64 {
        if part == 0 { place.rect.elements() * size(place) as u64 } else { 0 }
    }

    fn decode_row(
        &self,
        kernels: Kernels,
        parts: &[u8],
        place: Place<'_>,
        at: RowPiece,
        out: &mut [f32],
    ) -> bool {
        let dtype = place.logical.parts()[0].dtype;
        decode(kernels, dtype, &parts[piece(size(place), place, &at)], out)
    }
}
