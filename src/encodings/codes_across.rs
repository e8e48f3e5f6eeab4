//! Codes as GPTQ and AWQ store them, a row for each input: weights that are encoded again in the order of their bytes.
//!
//! ```text
//!        GPTQ               AWQ (gemm)
//! codes  [K·b/32, N]  I32   [K, N/8]  I32   fields along the inputs, or along the outputs
//! scales [G, N]             [G, N]
//! zeros  [G, N·b/32]  I32   [G, N/8]  I32   fields along the outputs
//! order  [K]          I32                   the group of each input, of GPTQ
//! value [k, n] = f32(code − zero point) · scale
//! ```
//!
//! The weight is the transpose of the model's. Encoded again, a value gets the code that is nearest with its scale and its zero
//! point, which stay: those of the library depend on inputs that it saw. What lies beyond the last code gets that
//! (quantized-bases.md 9.3 and 10.2).

use std::borrow::Cow;

use crate::encodings::awq_tensors::IN_WORD;
use crate::encodings::encoding::{Encoding, Place, RowPiece, Runs, ToEncode};
use crate::encodings::logical::{Logical, LogicalFields};
use crate::encodings::number::number;
use crate::encodings::scheme::Scheme;
use crate::encodings::window::{PartWindow, most_units, units};
use crate::encodings::words::{WORD, WORD_BYTES, word};
use crate::kernels::dispatch::Kernels;
use crate::kernels::outcome::Narrowed;
use crate::tensor::dtype::Dtype;
use crate::tensor::shape::Shape;

/// Codes of so many bits, whose words are filled along the inputs or along the outputs.
pub(crate) struct CodesAcross {
    /// Its name in plans.
    pub name: &'static str,
    /// The scheme that they are of.
    pub scheme: &'static Scheme,
    /// Bits of a code.
    pub bits: u64,
    /// Which of a word's fields each code is in; along the inputs they are in order.
    pub along_outputs: Option<&'static [u32; IN_WORD as usize]>,
    /// Why their scales are not made anew.
    pub kept_scales: &'static str,
}

const CODES: usize = 0;
const SCALES: usize = 1;
const ZEROS: usize = 2;
const ORDER: usize = 3;

impl CodesAcross {
    /// The transpose of a weight of two axes whose parts are these.
    pub(crate) fn of(&self, logical: &Logical) -> Option<Logical> {
        let &[outputs, inputs] = logical.shape().axes() else { return None };
        Some(Logical::from(LogicalFields {
            encoding: Cow::Borrowed(self.name),
            shape: Shape::new(&[inputs, outputs])?,
            block: (logical.block().1, 1),
            parts: logical.parts().to_vec(),
            constants: logical.constants().to_vec(),
        }))
    }

    /// Codes of a word.
    fn in_word(&self) -> u64 {
        WORD / self.bits
    }

    /// Inputs × outputs whose codes share a word.
    fn of_word(&self) -> (u64, u64) {
        if self.along_outputs.is_some() { (1, self.in_word()) } else { (self.in_word(), 1) }
    }

    /// How far a field is from the low end of its word, by its place among those of the word.
    fn shift(&self, place: u64) -> u64 {
        let field = self.along_outputs.map_or(place, |fields| u64::from(fields[place as usize]));
        field * self.bits
    }

    fn most(&self) -> u32 {
        (1 << self.bits) - 1
    }
}

/// What a tile needs of each part.
struct AcrossTile<'c> {
    codes_of: &'c CodesAcross,
    /// Inputs of a group, where they are in order.
    group: u64,
    groups_in_all: u64,
    /// What is added to each field of zero points, in all fields of a word.
    zero_offset: u32,
    codes: PartWindow,
    scales: PartWindow,
    scale_dtype: Dtype,
    zeros: PartWindow,
    order: Option<PartWindow>,
}

/// The parts of a tile.
struct TileParts<'b> {
    codes: &'b [u8],
    scales: &'b [u8],
    zeros: &'b [u8],
    order: &'b [u8],
}

impl<'c> AcrossTile<'c> {
    fn of(codes_of: &'c CodesAcross, place: Place<'_>) -> AcrossTile<'c> {
        let Place { logical, view, rect, .. } = place;
        let (group, (high, wide)) = (logical.block().0, codes_of.of_word());
        let groups_in_all = view.rows.div_ceil(group);
        let has_order = logical.parts().len() > ORDER;
        let groups = if has_order { 0..groups_in_all } else { units(&rect.rows, group) };
        let scale_dtype = logical.parts()[SCALES].dtype;
        let window = |rows, cols, cols_in_all, size| PartWindow { rows, cols, cols_in_all, size };
        let ones = u32::MAX / codes_of.most();
        AcrossTile {
            codes_of,
            group,
            groups_in_all,
            zero_offset: logical.constants().first().map_or(0, |offset| *offset as u32 * ones),
            codes: window(units(&rect.rows, high), units(&rect.cols, wide), view.cols / wide, WORD_BYTES),
            scales: window(groups.clone(), rect.cols.clone(), view.cols, scale_dtype.bitsize() as u64 / 8),
            scale_dtype,
            zeros: window(
                groups,
                units(&rect.cols, codes_of.in_word()),
                view.cols / codes_of.in_word(),
                WORD_BYTES,
            ),
            order: has_order.then(|| window(0..1, rect.rows.clone(), view.rows, WORD_BYTES)),
        }
    }

    fn window(&self, part: usize) -> &PartWindow {
        match part {
            CODES => &self.codes,
            SCALES => &self.scales,
            ZEROS => &self.zeros,
            _ => self.order.as_ref().expect("it is that part"),
        }
    }

    fn parts<'b>(&self, bytes: &'b [u8]) -> TileParts<'b> {
        let (codes, rest) = bytes.split_at(self.codes.bytes());
        let (scales, rest) = rest.split_at(self.scales.bytes());
        let (zeros, order) = rest.split_at(self.zeros.bytes());
        TileParts { codes, scales, zeros, order }
    }

    /// The group of an input; none where the file names one that is not there.
    fn group_of(&self, parts: &TileParts<'_>, input: u64) -> Option<u64> {
        let Some(window) = &self.order else { return Some(input / self.group) };
        let group = u64::from(word(parts.order, window.at(0, input)));
        Some(group).filter(|group| *group < self.groups_in_all)
    }

    fn scale(&self, parts: &TileParts<'_>, group: u64, output: u64) -> f32 {
        number(self.scale_dtype, parts.scales, self.scales.at(group, output))
    }

    fn zero(&self, parts: &TileParts<'_>, group: u64, output: u64) -> i32 {
        let per = self.codes_of.in_word();
        let stored = word(parts.zeros, self.zeros.at(group, output / per)).wrapping_add(self.zero_offset);
        (stored >> self.codes_of.shift(output % per) & self.codes_of.most()) as i32
    }

    /// The word of a code in the tile's bytes, and how far it is from the low end.
    fn code_at(&self, input: u64, output: u64) -> (usize, u64) {
        let ((high, wide), is_along_outputs) =
            (self.codes_of.of_word(), self.codes_of.along_outputs.is_some());
        let place = if is_along_outputs { output % wide } else { input % high };
        (self.codes.at(input / high, output / wide), self.codes_of.shift(place))
    }
}

impl Encoding for CodesAcross {
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
        part != CODES
    }

    fn block_shape(&self, _: &Logical) -> (u64, u64) {
        self.of_word()
    }

    fn runs(&self, part: usize, place: Place<'_>) -> Runs {
        AcrossTile::of(self, place).window(part).runs()
    }

    fn max_bytes(&self, part: usize, place: Place<'_>) -> u64 {
        let (tile, (high, wide)) = (AcrossTile::of(self, place), self.of_word());
        let (rows, cols) = (place.rect.height(), place.rect.width());
        let groups = match tile.order {
            Some(_) => tile.groups_in_all,
            None => most_units(rows, tile.group, tile.groups_in_all),
        };
        match part {
            CODES => {
                let down = most_units(rows, high, place.view.rows / high);
                down * most_units(cols, wide, tile.codes.cols_in_all) * WORD_BYTES
            }
            SCALES => groups * cols * tile.scales.size,
            ZEROS => groups * most_units(cols, self.in_word(), tile.zeros.cols_in_all) * WORD_BYTES,
            _ => rows * WORD_BYTES,
        }
    }

    fn decode_row(&self, _: Kernels, parts: &[u8], place: Place<'_>, at: RowPiece, out: &mut [f32]) -> bool {
        let tile = AcrossTile::of(self, place);
        let parts = tile.parts(parts);
        let (input, first) =
            (place.rect.rows.start + at.row as u64, place.rect.cols.start + at.cols.start as u64);
        let Some(group) = tile.group_of(&parts, input) else { return false };
        let mut finite = true;
        for (out, output) in out.iter_mut().zip(first..) {
            let (at, shift) = tile.code_at(input, output);
            let code = (word(parts.codes, at) >> shift & self.most()) as i32;
            let scale = tile.scale(&parts, group, output);
            finite &= scale.is_finite();
            *out = (code - tile.zero(&parts, group, output)) as f32 * scale;
        }
        finite
    }

    fn encode(&self, _: Kernels, block: &mut ToEncode<'_>, bytes: &mut [u8]) -> Narrowed {
        let (place, width) = (block.place, block.cols.len());
        let tile = AcrossTile::of(self, place);
        let parts = tile.parts(block.source);
        let mut finite = true;
        for (row, values) in block.rows.clone().zip(block.values.chunks_mut(width)) {
            let input = place.rect.rows.start + row as u64;
            let Some(group) = tile.group_of(&parts, input) else {
                return Narrowed { finite: false, changed: 0 };
            };
            let first = place.rect.cols.start + block.cols.start as u64;
            for (value, output) in values.iter_mut().zip(first..) {
                finite &= value.is_finite();
                let (scale, zero) = (tile.scale(&parts, group, output), tile.zero(&parts, group, output));
                let code = nearest_code(*value, scale, zero, self.most());
                *value = (code as i32 - zero) as f32 * scale;
                let (at, shift) = tile.code_at(input, output);
                let word = &mut bytes.as_chunks_mut::<4>().0[at];
                // The first of a word's codes finds what was there before.
                let others = if shift == 0 { 0 } else { u32::from_le_bytes(*word) };
                *word = (others | code << shift).to_le_bytes();
            }
        }
        Narrowed { finite, changed: 0 }
    }
}

/// The code from 0 to `most` whose value is nearest to one, to even of two.
pub(crate) fn nearest_code(value: f32, scale: f32, zero: i32, most: u32) -> u32 {
    let steps = if scale == 0.0 { 0.0 } else { (value / scale).round_ties_even() };
    (steps + zero as f32).clamp(0.0, most as f32) as u32
}
