//! Plain numbers whose stretches of rows stand beside each other, column by column in turn: what is written so, and starts from a
//! matrix in the order of the model.
//!
//! ```text
//! part t  [R/k, C]   rows t·R/k and on of the tensor
//! value [r, c·k + t] = part t [r, c]
//! ```

use std::borrow::Cow;

use crate::encodings::encoding::{Encoding, Place, RowPiece, Runs};
use crate::encodings::interleaved_codes::stretches;
use crate::encodings::logical::{Logical, LogicalFields};
use crate::encodings::number::number;
use crate::encodings::plain::size;
use crate::encodings::window::{PartWindow, most_units, units};
use crate::kernels::dispatch::Kernels;
use crate::tensor::reference::TensorRef;
use crate::tensor::shape::Shape;

/// Numbers of stretches in turn.
pub(crate) struct Interleaved;

const NAME: &str = "interleaved";

/// So many stretches of the rows of a tensor of plain numbers in turn; none for what is not made of as many.
pub(crate) fn interleaved(tensor: &TensorRef, count: u64) -> Option<Logical> {
    Logical::plain(tensor)?;
    let &[rows, cols] = tensor.shape.axes() else { return None };
    let one = Shape::new(&[rows.checked_div(count)?, cols])?;
    if one.elements() == 0 || !rows.is_multiple_of(count) {
        return None;
    }
    Some(Logical::from(LogicalFields {
        encoding: Cow::Borrowed(NAME),
        shape: Shape::new(&[rows / count, cols.checked_mul(count)?])?,
        block: (1, 1),
        parts: stretches(tensor, count, &one),
        constants: Vec::new(),
    }))
}

/// What a tile needs of each part.
fn window(place: Place<'_>) -> PartWindow {
    let count = place.logical.parts().len() as u64;
    let (rows, cols) = (place.rect.rows.clone(), units(&place.rect.cols, count));
    PartWindow { rows, cols, cols_in_all: place.view.cols / count, size: size(place) as u64 }
}

impl Encoding for Interleaved {
    fn name(&self) -> &'static str {
        NAME
    }

    fn block_shape(&self, _: &Logical) -> (u64, u64) {
        (1, 1)
    }

    fn runs(&self, _: usize, place: Place<'_>) -> Runs {
        window(place).runs()
    }

    fn max_bytes(&self, _: usize, place: Place<'_>) -> u64 {
        let (window, count) = (window(place), place.logical.parts().len() as u64);
        place.rect.height() * most_units(place.rect.width(), count, window.cols_in_all) * window.size
    }

    fn decode_row(&self, _: Kernels, parts: &[u8], place: Place<'_>, at: RowPiece, out: &mut [f32]) -> bool {
        let (window, count) = (window(place), place.logical.parts().len() as u64);
        let (row, dtype) = (place.rect.rows.start + at.row as u64, place.logical.parts()[0].dtype);
        let elements = window.bytes() / window.size as usize;
        for (out, col) in out.iter_mut().zip(place.rect.cols.start + at.cols.start as u64..) {
            let part = (col % count) as usize;
            *out = number(dtype, parts, part * elements + window.at(row, col / count));
        }
        out.iter().all(|value| value.is_finite())
    }
}
