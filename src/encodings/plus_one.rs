//! Plain numbers with 1 added: norms of Gemma as llama.cpp has them, made of those that transformers has.
//!
//! `value = number + 1`, rounded to f32 as the conversion rounds it (`convert_hf_to_gguf.py`, `norm_shift`).

use std::borrow::Cow;

use crate::encodings::encoding::{Encoding, Place, RowPiece, Runs};
use crate::encodings::logical::{Logical, LogicalFields};
use crate::encodings::plain::{decode, piece, runs, size};
use crate::kernels::dispatch::Kernels;
use crate::tensor::reference::TensorRef;

/// Numbers with 1 added.
pub(crate) struct PlusOne;

const NAME: &str = "plus_one";

/// A tensor of plain numbers with 1 added; none for others.
pub(crate) fn shifted(tensor: &TensorRef) -> Option<Logical> {
    Logical::plain(tensor)?;
    Some(Logical::from(LogicalFields {
        encoding: Cow::Borrowed(NAME),
        shape: tensor.shape.clone(),
        block: (1, 1),
        parts: vec![tensor.clone()],
        constants: Vec::new(),
    }))
}

impl Encoding for PlusOne {
    fn name(&self) -> &'static str {
        NAME
    }

    fn block_shape(&self, _: &Logical) -> (u64, u64) {
        (1, 1)
    }

    fn runs(&self, _: usize, place: Place<'_>) -> Runs {
        runs(size(place) as u64, place)
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
        let is_finite = decode(kernels, dtype, &parts[piece(size(place), place, &at)], out);
        out.iter_mut().for_each(|value| *value += 1.0);
        is_finite
    }
}
