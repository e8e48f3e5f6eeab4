//! Codes that share a byte with codes of distant rows, as they are written: weights whose bytes hold values of neighboring columns.
//!
//! Of the R rows of a weight each byte holds k values, R / k rows from each other ([`distant_codes`](crate::encodings::distant_codes)). Seen
//! as a matrix of R / k rows whose columns are those of the k stretches of rows in turn, the values of a byte stand beside each other.
//!
//! ```text
//! codes     U8 [R/k, C]
//! scales t  those of stretch t, in the order of its values: k parts
//! zeros t   as the scales
//! value [r, c·k + t] = value [t·R/k + r, c] of the model
//! ```
//!
//! Encoded again, a value gets the code that is nearest with its scale and its zero point or shift, which stay; the one that it had
//! where none is nearer.

use std::ops::Range;

use crate::encodings::encoding::{Encoding, Place, RowPiece, Runs, ToEncode, WrittenOrder};
use crate::encodings::logical::{Logical, LogicalFields};
use crate::encodings::number::number;
use crate::encodings::scheme::Scheme;
use crate::encodings::window::{PartWindow, most_units, units};
use crate::kernels::dispatch::Kernels;
use crate::kernels::outcome::Narrowed;
use crate::tensor::dtype::Dtype;
use crate::tensor::reference::TensorRef;
use crate::tensor::shape::Shape;

/// Such codes.
pub(crate) struct InterleavedCodes {
    /// Its name in plans.
    pub name: &'static str,
    /// The facts of its scheme.
    pub scheme: &'static Scheme,
    /// Whether the highest bits of a byte are the first of its values; else the lowest are.
    pub is_high_first: bool,
    /// A value: of the type of the scales, the code, its scale, and its zero point or shift.
    pub value: fn(Dtype, f32, f32, f32) -> f32,
    /// The code of a value, as a number that may lie between codes: of the value, its scale, and its zero point or shift.
    pub code: fn(f32, f32, f32) -> f32,
    /// Why scales are not made anew.
    pub kept_scales: &'static str,
}

/// Bits of an element of codes.
pub(crate) const BYTE: u64 = 8;

/// The stretches of a tensor that is gone through once by so many of them.
pub(crate) fn stretches(tensor: &TensorRef, count: u64, shape: &Shape) -> Vec<TensorRef> {
    let bytes = shape.elements() * tensor.dtype.bitsize() as u64 / 8;
    let part = |t| TensorRef { offset: tensor.offset + t * bytes, shape: shape.clone(), ..tensor.clone() };
    (0..count).map(part).collect()
}

impl InterleavedCodes {
    /// A weight as it is written; none if the values of a byte are not of one column each, or some of its bits are no values.
    pub(crate) fn written(&self, logical: &Logical) -> Option<(WrittenOrder, Logical)> {
        let (&[rows, cols], [codes, _, scales, _, zeros, _]) = (logical.shape().axes(), logical.parts())
        else {
            return None;
        };
        let bits = *logical.constants().first()? as u64;
        let (in_byte, cycle) = (BYTE.checked_div(bits)?, codes.shape.elements());
        if !cycle.is_multiple_of(cols) || cycle.checked_mul(in_byte)? != rows * cols {
            return None;
        }
        // Groups of values that follow each other are of one stretch; others have the same places in each.
        let numbers = |tensor: &TensorRef| match logical.block() {
            (1, size) => Some(stretches(tensor, in_byte, &Shape::new(&[cycle / size])?)),
            _ => Some(vec![tensor.clone(); in_byte as usize]),
        };
        let parts = [vec![codes.clone()], numbers(scales)?, numbers(zeros)?];
        let fields = LogicalFields {
            encoding: self.name.into(),
            shape: Shape::new(&[cycle / cols, cols * in_byte])?,
            block: logical.block(),
            parts: parts.into_iter().flatten().collect(),
            constants: logical.constants().to_vec(),
        };
        Some((WrittenOrder::Interleaved(in_byte), fields.into()))
    }

    fn shift(&self, bits: u64, stretch: u64) -> u64 {
        if self.is_high_first { BYTE - bits * (stretch + 1) } else { bits * stretch }
    }
}

/// What a tile needs of each part.
struct InterleavedTile {
    bits: u64,
    /// Codes of a byte, which is how many stretches of rows there are.
    in_byte: u64,
    codes: PartWindow,
    /// Values of a stretch that follow each other and share a scale.
    per: u64,
    /// Scales of a stretch.
    len: u64,
    /// Those that the tile needs of each.
    numbers: Range<u64>,
    dtype: Dtype,
}

impl InterleavedTile {
    fn of(place: Place<'_>) -> InterleavedTile {
        let Place { logical, view, rect, .. } = place;
        let (bits, per) = (logical.constants()[0] as u64, logical.block().1);
        let in_byte = BYTE / bits;
        let (cols, in_all) = (units(&rect.cols, in_byte), view.cols / in_byte);
        let scales = &logical.parts()[1];
        let start = rect.rows.start * in_all + cols.start;
        let end = ((rect.rows.end.max(1) - 1) * in_all + cols.end).max(start);
        let (needed, len) = (units(&(start..end), per), scales.shape.elements());
        let (first, count) = (needed.start % len, needed.end - needed.start);
        let numbers = if first + count > len { 0..len } else { first..first + count };
        let codes = PartWindow { rows: rect.rows.clone(), cols, cols_in_all: in_all, size: 1 };
        InterleavedTile { bits, in_byte, codes, per, len, numbers, dtype: scales.dtype }
    }

    fn number_bytes(&self) -> u64 {
        self.dtype.bitsize() as u64 / 8
    }

    /// The scale and the zero point or shift of a value of a stretch, of the bytes behind the codes.
    fn numbers_of(&self, bytes: &[u8], stretch: u64, (row, col): (u64, u64)) -> [f32; 2] {
        let index = (row * self.codes.cols_in_all + col) / self.per % self.len - self.numbers.start;
        let held = self.numbers.end - self.numbers.start;
        let at = |part: u64| (part * held + index) as usize;
        [stretch, self.in_byte + stretch].map(|part| number(self.dtype, bytes, at(part)))
    }
}

impl Encoding for InterleavedCodes {
    fn scheme(&self) -> Option<&'static Scheme> {
        Some(self.scheme)
    }

    fn name(&self) -> &'static str {
        self.name
    }

    fn keeps_scales(&self, _: &Logical) -> Option<&'static str> {
        Some(self.kept_scales)
    }

    fn is_kept(&self, _: &Logical, part: usize) -> bool {
        part != 0
    }

    fn row_group(&self, logical: &Logical) -> u64 {
        // Where the places of scales begin again with rows, no tile needs both ends.
        let (len, cols) = (logical.parts()[1].shape.elements(), logical.parts()[0].shape.elements());
        let cols = cols / logical.shape().axes()[0];
        if len.is_multiple_of(cols) { len / cols } else { u64::MAX }
    }

    fn block_shape(&self, logical: &Logical) -> (u64, u64) {
        (1, BYTE / logical.constants()[0] as u64)
    }

    fn runs(&self, part: usize, place: Place<'_>) -> Runs {
        let tile = InterleavedTile::of(place);
        if part == 0 {
            return tile.codes.runs();
        }
        let len = (tile.numbers.end - tile.numbers.start) * tile.number_bytes();
        Runs { first: tile.numbers.start * tile.number_bytes(), len, count: 1, stride: len }
    }

    fn max_bytes(&self, part: usize, place: Place<'_>) -> u64 {
        let (tile, rect) = (InterleavedTile::of(place), place.rect);
        let cols = most_units(rect.width(), tile.in_byte, tile.codes.cols_in_all);
        if part == 0 {
            return rect.height() * cols;
        }
        let values = (rect.height().max(1) - 1) * tile.codes.cols_in_all + cols;
        let is_whole = tile.per == 1 && self.row_group(place.logical) == u64::MAX;
        let most = if is_whole { tile.len } else { most_units(values, tile.per, tile.len) };
        most * tile.number_bytes()
    }

    fn decode_row(&self, _: Kernels, parts: &[u8], place: Place<'_>, at: RowPiece, out: &mut [f32]) -> bool {
        let tile = InterleavedTile::of(place);
        let (codes, numbers) = parts.split_at(tile.codes.bytes());
        let row = place.rect.rows.start + at.row as u64;
        let first = place.rect.cols.start + at.cols.start as u64;
        for (out, col) in out.iter_mut().zip(first..) {
            let (stretch, col) = (col % tile.in_byte, col / tile.in_byte);
            let [scale, zero] = tile.numbers_of(numbers, stretch, (row, col));
            let code = codes[tile.codes.at(row, col)] >> self.shift(tile.bits, stretch);
            let code = code & (u8::MAX >> (BYTE - tile.bits));
            *out = (self.value)(tile.dtype, f32::from(code), scale, zero);
        }
        out.iter().all(|value| value.is_finite())
    }

    fn encode(&self, _: Kernels, block: &mut ToEncode<'_>, bytes: &mut [u8]) -> Narrowed {
        let (rect, width) = (block.place.rect, block.cols.len());
        let tile = InterleavedTile::of(block.place);
        let (codes, numbers) = block.source.split_at(tile.codes.bytes());
        let most = u8::MAX >> (BYTE - tile.bits);
        let mut finite = true;
        for (row, values) in block.rows.clone().zip(block.values.chunks_mut(width)) {
            let row = rect.rows.start + row as u64;
            let first = (rect.cols.start + block.cols.start as u64) / tile.in_byte;
            for (values, col) in values.chunks_mut(tile.in_byte as usize).zip(first..) {
                let (at, mut byte) = (tile.codes.at(row, col), 0);
                for (value, stretch) in values.iter_mut().zip(0..) {
                    finite &= value.is_finite();
                    let [scale, zero] = tile.numbers_of(numbers, stretch, (row, col));
                    let value_of = |code: u8| (self.value)(tile.dtype, f32::from(code), scale, zero);
                    let shift = self.shift(tile.bits, stretch);
                    let guess = (self.code)(*value, scale, zero).round() as u8;
                    let beside = guess.saturating_sub(1)..=guess.saturating_add(1);
                    let code = nearest(
                        *value,
                        codes[at] >> shift & most,
                        beside.map(|code| code.min(most)),
                        value_of,
                    );
                    *value = value_of(code);
                    byte |= code << shift;
                }
                bytes[at] = byte;
            }
        }
        Narrowed { finite, changed: 0 }
    }
}

/// The code whose value is nearest to one: that which it had, or the first of others that is nearer.
fn nearest(value: f32, had: u8, others: impl Iterator<Item = u8>, value_of: impl Fn(u8) -> f32) -> u8 {
    let off = |code| (value_of(code) - value).abs();
    others.fold(had, |best, code| if off(code) < off(best) { code } else { best })
}
