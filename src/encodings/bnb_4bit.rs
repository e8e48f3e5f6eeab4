//! bitsandbytes of 4 bits (NF4 and FP4): codes into a table of sixteen values, and a largest magnitude for every 64 or so.
//!
//! ```text
//! P                    ⌈n/2⌉ bytes of any dtype   two codes a byte, the one of the even value in the high half; n values in all
//! P.absmax             F32 [⌈n/block⌉]            the largest magnitude of each block; or, quantized twice, codes of it, U8
//! P.quant_map          F32 [16]                   the table
//! P.nested_absmax      F32 [⌈blocks/256⌉]         where it is quantized twice: the scale of 256 codes,
//! P.nested_quant_map   F32 [256]                  and their table
//! P.quant_state.bitsandbytes__nf4                 JSON: block size, dtype and shape of the weight, and what is added to each magnitude
//! value = table[code] · magnitude,   magnitude = (nested table[code] · nested scale) + offset          (quantized-bases.md 8)
//! ```
//!
//! Blocks are counted through the values row by row, and cross rows where a row is no multiple of them: a tile is the stretch from its
//! first value to its last.
//!
//! Encoded again where blocks do not cross rows. Of magnitudes that are quantized too, their scales and what is added stay: a new one is
//! the least that is not below the largest value of its block.

use std::ops::Range;

use crate::encodings::bnb_4bit_tensors::{BlockedTensors, NESTED_BLOCK, PAIR};
use crate::encodings::codes::put;
use crate::encodings::encoding::{Encoding, Place, RowPiece, Runs, ToEncode};
use crate::encodings::logical::{Candidate, Detected, Logical};
use crate::encodings::number::number;
use crate::encodings::requantize::{CodedScales, Outgrown, Requantizer};
use crate::encodings::scheme::{Auxiliary, Scheme};
use crate::encodings::window::{most_units, units};
use crate::error::Result;
use crate::kernels::dispatch::Kernels;
use crate::kernels::outcome::Narrowed;
use crate::tensor::dtype::Dtype;

/// One of the two tables. The file has it, so that they differ by name alone.
pub(crate) struct Bnb4Bit {
    /// Its name in plans, and in the name of the tensor that describes a weight.
    name: &'static str,
}

/// The table of NF4.
pub(crate) static NF4: Bnb4Bit = Bnb4Bit { name: "nf4" };
/// The table of FP4.
pub(crate) static FP4: Bnb4Bit = Bnb4Bit { name: "fp4" };

static SCHEME: Scheme = Scheme {
    title: "bitsandbytes",
    methods: &["bitsandbytes"],
    has_any_dtype: true,
    auxiliary: &[
        Auxiliary { ending: ".absmax", data: &[""] },
        Auxiliary { ending: ".quant_map", data: &[""] },
        Auxiliary { ending: ".nested_absmax", data: &[""] },
        Auxiliary { ending: ".nested_quant_map", data: &[""] },
        Auxiliary { ending: ".quant_state.bitsandbytes__nf4", data: &[""] },
        Auxiliary { ending: ".quant_state.bitsandbytes__fp4", data: &[""] },
    ],
    plain_lists: &["llm_int8_skip_modules"],
    builds: &["-bnb-4bit", "-4bit"],
    ..Scheme::NONE
};

const CODES: usize = 0;
const MAGNITUDES: usize = 1;
const TABLE: usize = 2;
const NESTED: usize = 3;
const NESTED_TABLE: usize = 4;
/// Bytes of a number of the tables and of plain magnitudes.
const F32_BYTES: u64 = 4;

impl Encoding for Bnb4Bit {
    fn scheme(&self) -> Option<&'static Scheme> {
        Some(&SCHEME)
    }

    fn name(&self) -> &'static str {
        self.name
    }

    fn detect(&self, found: &Candidate<'_>) -> Result<Option<Detected>> {
        BlockedTensors::detect(found, self.name)
    }

    fn decode_only(&self, logical: &Logical) -> Option<&'static str> {
        let has_rows =
            matches!(logical.shape().axes(), [.., _, cols] if cols.is_multiple_of(logical.block().1));
        (!has_rows).then_some("bitsandbytes is not encoded again where blocks reach from row to row")
    }

    fn keeps_scales(&self, logical: &Logical) -> Option<&'static str> {
        const WHY: &str = "with double quantization the scales of magnitudes depend on all of a weight: they stay as they are";
        (logical.parts().len() > NESTED).then_some(WHY)
    }

    fn is_kept(&self, _: &Logical, part: usize) -> bool {
        part >= TABLE
    }

    fn block_shape(&self, logical: &Logical) -> (u64, u64) {
        logical.block()
    }

    fn runs(&self, part: usize, place: Place<'_>) -> Runs {
        let (units, size) = Stretch::of(place).part(part);
        let len = (units.end - units.start) * size;
        Runs { first: units.start * size, len, count: 1, stride: len }
    }

    fn max_bytes(&self, part: usize, place: Place<'_>) -> u64 {
        let stretch = Stretch::of(place);
        let values = stretch.values.end - stretch.values.start;
        let parts = place.logical.parts();
        let blocks =
            most_units(values, stretch.block, place.logical.shape().elements().div_ceil(stretch.block));
        match part {
            CODES => most_units(values, PAIR, parts[CODES].bytes()),
            MAGNITUDES => blocks * stretch.magnitude_bytes,
            NESTED => {
                most_units(blocks, NESTED_BLOCK, u64::MAX).min(parts[NESTED].shape.elements()) * F32_BYTES
            }
            _ => parts[part].bytes(),
        }
    }

    fn decode_row(&self, _: Kernels, parts: &[u8], place: Place<'_>, at: RowPiece, out: &mut [f32]) -> bool {
        let stretch = Stretch::of(place);
        let tile = StretchBytes::of(&stretch, parts);
        let row = place.rect.rows.start + at.row as u64;
        let first = row * place.view.cols + place.rect.cols.start + at.cols.start as u64;
        let table: Table = std::array::from_fn(|code| number(Dtype::F32, tile.table, code));
        let (mut finite, mut done) = (true, 0);
        while done < out.len() {
            let start = first + done as u64;
            let block = start / stretch.block;
            let end = ((block + 1).saturating_mul(stretch.block) - first).min(out.len() as u64) as usize;
            let magnitude = tile.magnitude(&stretch, block);
            let values = table.map(|value| value * magnitude);
            let at = (start / PAIR - stretch.values.start / PAIR) as usize;
            look_up(&values, &tile.codes[at..], start % PAIR == 1, &mut out[done..end]);
            finite &= values.iter().all(|value| value.is_finite());
            done = end;
        }
        finite
    }

    fn encode(&self, _: Kernels, block: &mut ToEncode<'_>, bytes: &mut [u8]) -> Narrowed {
        let stretch = Stretch::of(block.place);
        let tile = StretchBytes::of(&stretch, block.source);
        let (table, before) = (tile.table, tile.codes);
        let mut steps: Vec<(f32, u16)> =
            (0..16).map(|code| (number(Dtype::F32, table, code.into()), code)).collect();
        steps.sort_by(|one, other| one.0.total_cmp(&other.0));
        let limits: Vec<f32> = steps.windows(2).map(|pair| (pair[0].0 + pair[1].0) / 2.0).collect();
        let width = block.place.rect.width() as usize;
        let narrow = |bytes: &mut [u8], at: &RowPiece, values: &mut [f32]| {
            for (i, value) in (at.row * width + at.cols.start..).zip(values) {
                // FP4 has two codes of 0, for either side of it: what decodes to the same stays.
                let old = before[i / 2] >> ((i ^ 1) % 2 * 4) & 15;
                let (step, code) = steps[limits.iter().filter(|limit| **limit < *value).count()];
                let is_same = number(Dtype::F32, table, old.into()) == step;
                put(bytes, (i ^ 1) * 4, 4, if is_same { old.into() } else { code });
                *value = step;
            }
            true
        };
        // Half a step beyond the ends.
        let [least, most] = [0, 14].map(|i| (steps[i].0, steps[i + 1].0));
        let range = (least.0 - (least.1 - least.0) / 2.0, most.1 + (most.1 - most.0) / 2.0);
        let codes = stretch.part(CODES).0;
        let shared = Requantizer::new(codes.end - codes.start, range, &narrow);
        let in_row = block.place.view.cols / stretch.block;
        let code =
            |row, col| tile.magnitudes[(row * in_row + col - stretch.part(MAGNITUDES).0.start) as usize];
        let value = |row, col, code| tile.decoded(&stretch, row * in_row + col, code);
        let coded = stretch.is_nested.then_some(CodedScales { code: &code, value: &value });
        Requantizer { inverse: Some(1.0), fresh: Some(fresh), coded, ..shared }.encode(block, bytes)
    }
}

/// The largest magnitude itself.
fn fresh(of: &Outgrown) -> f32 {
    of.largest
}

/// The values of all codes.
type Table = [f32; 16];

/// The values of codes, two a byte, the first in the high half; of the first byte only the low half where that is said.
fn look_up(values: &Table, codes: &[u8], is_half: bool, out: &mut [f32]) {
    let [of_high, of_low] = [|code: u8| usize::from(code >> 4), |code: u8| usize::from(code & 15)];
    let halves = usize::from(is_half).min(out.len());
    let ((half, codes), (first, out)) = (codes.split_at(halves), out.split_at_mut(halves));
    if let ([code], [first]) = (half, first) {
        *first = values[of_low(*code)];
    }
    let (pairs, last) = out.as_chunks_mut::<2>();
    for ([first, second], code) in pairs.iter_mut().zip(codes) {
        (*first, *second) = (values[of_high(*code)], values[of_low(*code)]);
    }
    if let [last] = last {
        *last = values[of_high(codes[pairs.len()])];
    }
}

/// The values of a tile, counted row by row through the weight, and what its parts hold of them.
struct Stretch<'p> {
    logical: &'p Logical,
    values: Range<u64>,
    /// Values of a block.
    block: u64,
    magnitude_bytes: u64,
    is_nested: bool,
}

impl Stretch<'_> {
    fn of(place: Place<'_>) -> Stretch<'_> {
        let Place { logical, view, rect, .. } = place;
        let start = rect.rows.start * view.cols + rect.cols.start;
        let end = rect.rows.end.max(1).saturating_sub(1) * view.cols + rect.cols.end;
        let is_nested = logical.parts().len() > NESTED;
        let magnitude_bytes = if is_nested { 1 } else { F32_BYTES };
        Stretch {
            logical,
            values: start..end.max(start),
            block: logical.block().1,
            magnitude_bytes,
            is_nested,
        }
    }

    /// Which units of a part the tile needs, and the bytes of one.
    fn part(&self, part: usize) -> (Range<u64>, u64) {
        let blocks = units(&self.values, self.block);
        match part {
            CODES => (units(&self.values, PAIR), 1),
            MAGNITUDES => (blocks, self.magnitude_bytes),
            NESTED => (units(&blocks, NESTED_BLOCK), F32_BYTES),
            _ => (0..self.logical.parts()[part].shape.elements(), F32_BYTES),
        }
    }
}

/// The bytes of a tile, by part.
struct StretchBytes<'b> {
    codes: &'b [u8],
    magnitudes: &'b [u8],
    table: &'b [u8],
    nested: &'b [u8],
    nested_table: &'b [u8],
}

impl<'b> StretchBytes<'b> {
    fn of(stretch: &Stretch<'_>, parts: &'b [u8]) -> StretchBytes<'b> {
        let mut rest = parts;
        let mut next = |part: usize| {
            let (units, size) = stretch.part(part);
            let (own, behind) = rest.split_at(((units.end - units.start) * size) as usize);
            rest = behind;
            own
        };
        let (codes, magnitudes, table) = (next(CODES), next(MAGNITUDES), next(TABLE));
        let (nested, nested_table) =
            if stretch.is_nested { (next(NESTED), next(NESTED_TABLE)) } else { (&[][..], &[][..]) };
        StretchBytes { codes, magnitudes, table, nested, nested_table }
    }

    /// The largest magnitude of a block.
    fn magnitude(&self, stretch: &Stretch<'_>, block: u64) -> f32 {
        let blocks = stretch.part(MAGNITUDES).0;
        let at = (block - blocks.start) as usize;
        if !stretch.is_nested {
            return number(Dtype::F32, self.magnitudes, at);
        }
        self.decoded(stretch, block, self.magnitudes[at])
    }

    /// The magnitude that a code of a block means, where magnitudes are quantized too.
    fn decoded(&self, stretch: &Stretch<'_>, block: u64, code: u8) -> f32 {
        let first = stretch.part(MAGNITUDES).0.start / NESTED_BLOCK;
        let scale = number(Dtype::F32, self.nested, (block / NESTED_BLOCK - first) as usize);
        number(Dtype::F32, self.nested_table, code.into()) * scale + stretch.logical.constants()[0]
    }
}
