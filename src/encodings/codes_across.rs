//! Codes as GPTQ and AWQ store them, a row for each input: weights that are encoded again in the order of their bytes.
//!
//! ```text
//!        GPTQ               AWQ (gemm)
//! codes  [K·b/32, N]  I32   [K, N/8]  I32   fields along the inputs, or along the outputs; of 3 bits they cross words
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
use crate::encodings::encoding::{Encoding, Place, RowPiece, Runs, ToEncode, WrittenOrder};
use crate::encodings::logical::{Logical, LogicalFields};
use crate::encodings::number::number;
use crate::encodings::scheme::Scheme;
use crate::encodings::window::{PartWindow, most_units, units};
use crate::encodings::words::{WORD, WORD_BYTES, added, field, most_words, word, words_of, zero_point};
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
    /// Which of a word's fields each code, and each zero point, is in; along the inputs they are in order.
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
    pub(crate) fn of(&self, logical: &Logical) -> Option<(WrittenOrder, Logical)> {
        let &[outputs, inputs] = logical.shape().axes() else { return None };
        let fields = LogicalFields {
            encoding: Cow::Borrowed(self.name),
            shape: Shape::new(&[inputs, outputs])?,
            block: (logical.block().1, 1),
            parts: logical.parts().to_vec(),
            constants: logical.constants().to_vec(),
        };
        Some((WrittenOrder::Exchanged, fields.into()))
    }

    /// Inputs × outputs whose codes fill words together.
    fn of_words(&self) -> (u64, u64) {
        let codes = if self.bits.is_power_of_two() { WORD / self.bits } else { WORD };
        if self.along_outputs.is_some() { (1, codes) } else { (codes, 1) }
    }

    /// Which field of a row of words is that of an output.
    fn field_of(&self, output: u64) -> u64 {
        let in_word =
            |fields: &[u32; _]| output / IN_WORD * IN_WORD + u64::from(fields[(output % IN_WORD) as usize]);
        self.along_outputs.map_or(output, in_word)
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
    /// What is [added] to zero points as they are stored.
    added: u32,
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
        let (group, bits) = (logical.block().0, codes_of.bits);
        let groups_in_all = view.rows.div_ceil(group);
        let has_order = logical.parts().len() > ORDER;
        let groups = if has_order { 0..groups_in_all } else { units(&rect.rows, group) };
        let scale_dtype = logical.parts()[SCALES].dtype;
        let window = |rows, cols, cols_in_all, size| PartWindow { rows, cols, cols_in_all, size };
        let (outputs, words_in_all) = (words_of(&rect.cols, bits), view.cols * bits / WORD);
        let codes = match codes_of.along_outputs {
            Some(_) => window(rect.rows.clone(), outputs.clone(), words_in_all, WORD_BYTES),
            None => window(words_of(&rect.rows, bits), rect.cols.clone(), view.cols, WORD_BYTES),
        };
        AcrossTile {
            codes_of,
            group,
            groups_in_all,
            added: added(bits, logical.constants().first().map_or(0, |offset| *offset as u32)),
            codes,
            scales: window(groups.clone(), rect.cols.clone(), view.cols, scale_dtype.bitsize() as u64 / 8),
            scale_dtype,
            zeros: window(groups, outputs, words_in_all, WORD_BYTES),
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
        let read = |at| word(parts.zeros, self.zeros.at(group, at));
        zero_point(self.codes_of.field_of(output), self.codes_of.bits, self.added, read)
    }

    /// Which field a code is in its row or column of words, and where in the tile's bytes a word of that is.
    fn code_at(&self, input: u64, output: u64) -> (u64, impl Fn(u64) -> usize) {
        let is_along_outputs = self.codes_of.along_outputs.is_some();
        let field = if is_along_outputs { self.codes_of.field_of(output) } else { input };
        let at =
            move |at| if is_along_outputs { self.codes.at(input, at) } else { self.codes.at(at, output) };
        (field, at)
    }

    /// Puts a code into its words. What is in these before their first code is nothing that was encoded.
    fn put(&self, bytes: &mut [u8], input: u64, output: u64, code: u32) {
        let (field, at) = self.code_at(input, output);
        let (bit, words) = (field * self.codes_of.bits, bytes.as_chunks_mut::<4>().0);
        let (first, shift) = (bit / WORD, bit % WORD);
        let both = u64::from(code) << shift;
        let word = &mut words[at(first)];
        let others = if shift == 0 { 0 } else { u32::from_le_bytes(*word) };
        *word = (others | both as u32).to_le_bytes();
        if shift + self.codes_of.bits > WORD {
            words[at(first + 1)] = ((both >> WORD) as u32).to_le_bytes();
        }
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
        self.of_words()
    }

    fn runs(&self, part: usize, place: Place<'_>) -> Runs {
        AcrossTile::of(self, place).window(part).runs()
    }

    fn max_bytes(&self, part: usize, place: Place<'_>) -> u64 {
        let tile = AcrossTile::of(self, place);
        let (rows, cols) = (place.rect.height(), place.rect.width());
        let groups = match tile.order {
            Some(_) => tile.groups_in_all,
            None => most_units(rows, tile.group, tile.groups_in_all),
        };
        let words = |fields, in_all| most_words(fields, self.bits, in_all * self.bits / WORD);
        match part {
            CODES if self.along_outputs.is_some() => rows * words(cols, place.view.cols) * WORD_BYTES,
            CODES => words(rows, place.view.rows) * cols * WORD_BYTES,
            SCALES => groups * cols * tile.scales.size,
            ZEROS => groups * words(cols, place.view.cols) * WORD_BYTES,
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
            let (index, at) = tile.code_at(input, output);
            let code = field(index, self.bits, |word_at| word(parts.codes, at(word_at))) as i32;
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
                tile.put(bytes, input, output, code);
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
