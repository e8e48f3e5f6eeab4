//! Codes in rows: which bytes of them a tile takes, and their values without a scale.
//!
//! A row is a stream of fields, the first in the lowest bits, that begins and ends with whole bytes. A tile may begin and
//! end within a byte.

use crate::kernels::dispatch::Kernels;

use crate::encodings::encoding::{Place, RowPiece, Runs};

/// How a code is stored, and what it means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CodeFormat {
    /// Floats of 8 bits, E4M3.
    E4m3,
    /// Whole numbers of 8 bits, two's complement.
    I8,
}

/// The values of E2M1.
pub(crate) static E2M1: [f32; 16] =
    [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0];

impl CodeFormat {
    /// Bits of a code.
    const fn bits(self) -> u64 {
        match self {
            CodeFormat::E4m3 | CodeFormat::I8 => 8,
        }
    }

    /// Codes in a row of so many bytes; none if they do not fill it.
    pub(crate) fn in_row(self, bytes: u64) -> Option<u64> {
        let bits = bytes.checked_mul(8)?;
        bits.is_multiple_of(self.bits()).then(|| bits / self.bits())
    }

    /// The first byte of a stored row that the tile takes, and the one behind its last.
    fn span(self, place: Place<'_>) -> (u64, u64) {
        let cols = &place.rect.cols;
        (cols.start * self.bits() / 8, (cols.end * self.bits()).div_ceil(8))
    }

    /// The bytes of the codes that a tile takes.
    pub(crate) fn runs(self, place: Place<'_>) -> Runs {
        let ((start, end), in_all) = (self.span(place), place.view.cols * self.bits() / 8);
        let (first, count) = (place.rect.rows.start * in_all + start, place.rect.height());
        Runs { first, len: end - start, count, stride: in_all }.joined()
    }

    /// The most bytes of the codes that any tile of that size takes: one that starts elsewhere may begin and end within a
    /// byte.
    pub(crate) fn max_bytes(self, place: Place<'_>) -> u64 {
        let into_byte = 8 - (1 << self.bits().trailing_zeros());
        let (wide, in_all) = (place.rect.width() * self.bits(), place.view.cols * self.bits() / 8);
        place.rect.height() * (wide + into_byte).div_ceil(8).min(in_all)
    }

    /// The values of some columns of a row, from the tile's bytes of codes; true if all are finite.
    pub(crate) fn widen(
        self,
        kernels: Kernels,
        tile: &[u8],
        place: Place<'_>,
        at: &RowPiece,
        out: &mut [f32],
    ) -> bool {
        let (start, end) = self.span(place);
        let len = (end - start) as usize;
        let row = &tile[at.row * len..][..len];
        let bit = (place.rect.cols.start + at.cols.start as u64) * self.bits() - start * 8;
        let codes = &row[(bit / 8) as usize..];
        match self {
            CodeFormat::E4m3 => return kernels.widen_e4m3(&codes[..out.len()], out),
            CodeFormat::I8 => out.iter_mut().zip(codes).for_each(|(out, code)| *out = f32::from(*code as i8)),
        }
        true
    }
}
