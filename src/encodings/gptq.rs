//! GPTQ: codes of 2, 3, 4 or 8 bits that are packed along the inputs, with a scale and a zero point for each group of inputs.
//!
//! ```text
//! P.qweight [K·b/32, N]  I32   a column is the stream of an output's codes, along the inputs
//! P.qzeros  [G, N·b/32]  I32   a row is the stream of a group's zero points, along the outputs
//! P.scales  [G, N]       F16, BF16 or F32
//! P.g_idx   [K]          I32   the group of each input; without it, that of input k is k / group size
//! value = f32(code − zero point) · scale                            (quantized-bases.md 9.1)
//! ```
//!
//! A checkpoint of the first format (`checkpoint_format` `gptq`, or none) stores each zero point less 1. Where a zero point was 0,
//! its field borrowed from its neighbor, so that the 1 is added to whole words again (9.2); fields of 3 bits cross words, and
//! GPTQModel counts each by itself, so that a stored 7 means 0. No quantizer makes the 8 that auto-gptq reads there.
//!
//! Encoded again in the order of its bytes ([`codes_across`](crate::encodings::codes_across)).

use std::ops::Range;

use crate::encodings::codes_across::CodesAcross;
use crate::encodings::encoding::{Encoding, Place, RowPiece, Runs, WrittenOrder};
use crate::encodings::gptq_tensors::{GptqTensors, METHODS};
use crate::encodings::logical::{Candidate, Detected, Logical};
use crate::encodings::number::number;
use crate::encodings::scheme::{Auxiliary, Scheme};
use crate::encodings::window::{PartWindow, most_units, units};
use crate::encodings::words::{WORD, WORD_BYTES, added, field, most_words, word, words_of, zero_point};
use crate::error::Result;
use crate::kernels::dispatch::Kernels;
use crate::tensor::dtype::Dtype;

/// GPTQ with codes of so many bits.
pub(crate) struct Gptq {
    /// Its name in plans.
    name: &'static str,
    /// Bits of a code.
    bits: u64,
}

/// 2 bits.
pub(crate) static GPTQ2: Gptq = Gptq { name: "gptq2", bits: 2 };
/// 3 bits: fields cross words.
pub(crate) static GPTQ3: Gptq = Gptq { name: "gptq3", bits: 3 };
/// 4 bits.
pub(crate) static GPTQ4: Gptq = Gptq { name: "gptq4", bits: 4 };
/// 8 bits.
pub(crate) static GPTQ8: Gptq = Gptq { name: "gptq8", bits: 8 };

/// As it is stored, with each number of bits.
pub(crate) static GPTQ2_ACROSS: CodesAcross = across("gptq2_across", 2);
pub(crate) static GPTQ3_ACROSS: CodesAcross = across("gptq3_across", 3);
pub(crate) static GPTQ4_ACROSS: CodesAcross = across("gptq4_across", 4);
pub(crate) static GPTQ8_ACROSS: CodesAcross = across("gptq8_across", 8);

const fn across(name: &'static str, bits: u64) -> CodesAcross {
    let kept_scales =
        "GPTQ makes scales from inputs that it sees, which no file holds: they stay as they are";
    CodesAcross { name, scheme: &SCHEME, bits, along_outputs: None, kept_scales }
}

static SCHEME: Scheme = Scheme {
    title: "GPTQ",
    methods: METHODS,
    dtypes: &[Dtype::I32],
    data: QWEIGHT,
    auxiliary: &[
        Auxiliary { ending: ".qzeros", data: QWEIGHT },
        Auxiliary { ending: ".g_idx", data: QWEIGHT },
        Auxiliary { ending: ".scales", data: QWEIGHT },
    ],
    side_files: &["quantize_config.json"],
    builds: &["-gptq", "-int4"],
    ..Scheme::NONE
};

/// What the data is called in the place of `.weight`.
const QWEIGHT: &[&str] = &[".qweight"];

const CODES: usize = 0;
const SCALE: usize = 1;
const ZEROS: usize = 2;
const ORDER: usize = 3;

impl Encoding for Gptq {
    fn scheme(&self) -> Option<&'static Scheme> {
        Some(&SCHEME)
    }

    fn name(&self) -> &'static str {
        self.name
    }

    fn detect(&self, found: &Candidate<'_>) -> Result<Option<Detected>> {
        GptqTensors::detect(found, self.bits, self.name)
    }

    fn decode_only(&self, _: &Logical) -> Option<&'static str> {
        Some("GPTQ is encoded again in the order of its bytes alone")
    }

    fn across(&self, logical: &Logical) -> Option<(WrittenOrder, Logical)> {
        let all = [&GPTQ2_ACROSS, &GPTQ3_ACROSS, &GPTQ4_ACROSS, &GPTQ8_ACROSS];
        all.into_iter().find(|across| across.bits == self.bits)?.of(logical)
    }

    fn block_shape(&self, _: &Logical) -> (u64, u64) {
        (1, 1)
    }

    fn runs(&self, part: usize, place: Place<'_>) -> Runs {
        GptqTile::of(self.bits, place).window(part).runs()
    }

    fn max_bytes(&self, part: usize, place: Place<'_>) -> u64 {
        let tile = GptqTile::of(self.bits, place);
        let (high, wide) = (place.rect.height(), place.rect.width());
        let groups = if tile.order.is_some() {
            tile.groups_in_all
        } else {
            most_units(wide, tile.group, tile.groups_in_all)
        };
        match part {
            CODES => most_words(wide, self.bits, tile.view_words(place.view.cols)) * high * WORD_BYTES,
            SCALE => groups * high * tile.scales.size,
            ZEROS => groups * most_words(high, self.bits, tile.zeros.cols_in_all) * WORD_BYTES,
            _ => wide * 4,
        }
    }

    fn decode_row(&self, _: Kernels, parts: &[u8], place: Place<'_>, at: RowPiece, out: &mut [f32]) -> bool {
        let tile = GptqTile::of(self.bits, place);
        let row = tile.row(parts, place, at.row);
        let first = place.rect.cols.start + at.cols.start as u64;
        let mut groups = HeldGroups::of(&tile, &row, &(first..first + out.len() as u64));
        if !WORD.is_multiple_of(self.bits) {
            for (out, col) in out.iter_mut().zip(first..) {
                let code = field(col, self.bits, |at| word(row.codes, tile.codes.at(at, row.output)));
                let Some((scale, zero)) = groups.of_input(&tile, &row, col) else { return false };
                *out = (code as i32 - zero) as f32 * scale;
            }
            return groups.are_finite;
        }
        let (in_word, mask) = (WORD / self.bits, (1 << self.bits) - 1);
        let mut inputs = first..first + out.len() as u64;
        let mut out = out.iter_mut();
        while let Some(col) = inputs.next() {
            let mut codes =
                word(row.codes, tile.codes.at(col / in_word, row.output)) >> (col % in_word * self.bits);
            // This input, and those behind it in its word.
            let behind = inputs.by_ref().take((in_word - 1 - col % in_word) as usize);
            for (col, out) in std::iter::once(col).chain(behind).zip(&mut out) {
                let Some((scale, zero)) = groups.of_input(&tile, &row, col) else { return false };
                *out = ((codes & mask) as i32 - zero) as f32 * scale;
                codes >>= self.bits;
            }
        }
        groups.are_finite
    }
}

/// What a tile needs of each part.
struct GptqTile {
    bits: u64,
    /// What is [added] to zero points as they are stored.
    added: u32,
    /// Inputs of a group, where they are in order.
    group: u64,
    groups_in_all: u64,
    codes: PartWindow,
    scales: PartWindow,
    scale_dtype: Dtype,
    zeros: PartWindow,
    /// The group of each input.
    order: Option<PartWindow>,
}

/// HeldGroups whose scales and zero points are held at once.
const HELD: usize = 512;

/// The scale and the zero point of groups, for one output: of as many as are held, else of the last that was asked for.
struct HeldGroups {
    held: [(f32, i32); HELD],
    /// The first that is held, and the one behind the last.
    range: Range<u64>,
    /// The inputs of the group that was asked for last, where they are in order.
    last: (Range<u64>, (f32, i32)),
    are_finite: bool,
}

impl HeldGroups {
    /// Those that some inputs may be of.
    fn of(tile: &GptqTile, row: &GptqRow<'_>, inputs: &Range<u64>) -> HeldGroups {
        let none = (0.0, 0);
        let mut groups = HeldGroups { held: [none; HELD], range: 0..0, last: (0..0, none), are_finite: true };
        let needed = if tile.order.is_some() { 0..tile.groups_in_all } else { units(inputs, tile.group) };
        if tile.order.is_some() && needed.end <= HELD as u64 {
            for (held, group) in groups.held.iter_mut().zip(needed.clone()) {
                *held = (tile.scale(row, group), tile.zero(row, group));
                groups.are_finite &= held.0.is_finite();
            }
            groups.range = needed;
        }
        groups
    }

    /// Those of an input; none where the file names a group that is not there.
    fn of_input(&mut self, tile: &GptqTile, row: &GptqRow<'_>, input: u64) -> Option<(f32, i32)> {
        if self.last.0.contains(&input) {
            return Some(self.last.1);
        }
        let group = tile.group_of(row.order, input)?;
        if self.range.contains(&group) {
            return Some(self.held[group as usize]);
        }
        let found = (tile.scale(row, group), tile.zero(row, group));
        self.are_finite &= found.0.is_finite();
        if tile.order.is_none() {
            self.last = (group * tile.group..(group + 1) * tile.group, found);
        }
        Some(found)
    }
}

/// One output of a tile.
struct GptqRow<'b> {
    codes: &'b [u8],
    scales: &'b [u8],
    zeros: &'b [u8],
    order: &'b [u8],
    /// Which output of the weight it is.
    output: u64,
}

impl GptqTile {
    fn of(bits: u64, place: Place<'_>) -> GptqTile {
        let Place { logical, view, rect, .. } = place;
        let [outputs, inputs] = [view.rows, view.cols];
        let group = logical.block().1;
        let groups_in_all = inputs.div_ceil(group);
        let has_order = logical.parts().len() > ORDER;
        let groups = if has_order { 0..groups_in_all } else { units(&rect.cols, group) };
        let scale_dtype = logical.parts()[SCALE].dtype;
        let size = scale_dtype.bitsize() as u64 / 8;
        let of_words = |rows, cols, cols_in_all| PartWindow { rows, cols, cols_in_all, size: WORD_BYTES };
        GptqTile {
            bits,
            added: added(bits, logical.constants()[0] as u32),
            group,
            groups_in_all,
            codes: of_words(words_of(&rect.cols, bits), rect.rows.clone(), outputs),
            scales: PartWindow { rows: groups.clone(), cols: rect.rows.clone(), cols_in_all: outputs, size },
            scale_dtype,
            zeros: of_words(groups, words_of(&rect.rows, bits), outputs * bits / WORD),
            order: has_order.then(|| of_words(0..1, rect.cols.clone(), inputs)),
        }
    }

    /// Rows of words for so many inputs.
    fn view_words(&self, inputs: u64) -> u64 {
        inputs * self.bits / WORD
    }

    fn window(&self, part: usize) -> &PartWindow {
        match part {
            CODES => &self.codes,
            SCALE => &self.scales,
            ZEROS => &self.zeros,
            _ => self.order.as_ref().expect("it is that part"),
        }
    }

    fn row<'b>(&self, parts: &'b [u8], place: Place<'_>, row: usize) -> GptqRow<'b> {
        let (codes, rest) = parts.split_at(self.codes.bytes());
        let (scales, rest) = rest.split_at(self.scales.bytes());
        let (zeros, order) = rest.split_at(self.zeros.bytes());
        GptqRow { codes, scales, zeros, order, output: place.rect.rows.start + row as u64 }
    }

    /// The group of an input; none where the file names one that is not there.
    fn group_of(&self, order: &[u8], input: u64) -> Option<u64> {
        match &self.order {
            None => Some(input / self.group),
            Some(window) => {
                let group = u64::from(word(order, window.at(0, input)));
                Some(group).filter(|group| *group < self.groups_in_all)
            }
        }
    }

    fn scale(&self, row: &GptqRow<'_>, group: u64) -> f32 {
        number(self.scale_dtype, row.scales, self.scales.at(group, row.output))
    }

    fn zero(&self, row: &GptqRow<'_>, group: u64) -> i32 {
        let stored = |at| word(row.zeros, self.zeros.at(group, at));
        zero_point(row.output, self.bits, self.added, stored)
    }
}
