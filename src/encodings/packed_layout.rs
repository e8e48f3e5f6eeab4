//! Where everything of a tile of packed integers lies, in its parts and in its bytes, and one row of it.

use std::ops::Range;

use crate::tensor::dtype::Dtype;

use crate::encodings::encoding::{Place, Runs};
use crate::encodings::number::number;

const CODES: usize = 0;
const SCALES: usize = 1;
/// Bits of a word.
pub(crate) const WORD: u64 = 32;

/// What a part is.
#[derive(Clone, Copy)]
pub(crate) enum PackedKind {
    Codes,
    Scales,
    Zeros,
    Order,
}

/// Where everything of a tile lies, in its parts and in its bytes.
pub(crate) struct PackedLayout {
    pub(crate) bits: u64,
    pub(crate) block: (u64, u64),
    pub(crate) rows: Range<u64>,
    pub(crate) cols: Range<u64>,
    /// Bytes of a row of codes that the tile takes.
    pub(crate) codes: Range<u64>,
    pub(crate) codes_in_all: u64,
    /// Groups that the tile takes.
    pub(crate) groups: Range<u64>,
    pub(crate) groups_in_all: u64,
    pub(crate) scale_dtype: Dtype,
    pub(crate) scale_bytes: u64,
    /// The part of zero points, and the words of a column that the tile takes.
    pub(crate) zeros: Option<(usize, Range<u64>)>,
    /// The part that says the group of each column.
    pub(crate) order: Option<usize>,
}

impl PackedLayout {
    pub(crate) fn of(bits: u32, place: Place<'_>) -> PackedLayout {
        let Place { logical, view, rect, .. } = place;
        let bits = u64::from(bits);
        let (rows, cols, input) = (rect.rows.clone(), rect.cols.clone(), view.cols);
        let codes_in_all = (input * bits).div_ceil(WORD) * 4;
        let end = if cols.end == input { codes_in_all } else { (cols.end * bits).div_ceil(8) };
        let is_of = |axes: usize| {
            let parts = logical.parts().iter().enumerate().skip(SCALES + 1);
            parts.into_iter().find(|(_, part)| part.shape.axes().len() == axes).map(|(i, _)| i)
        };
        let (zeros, order) = (is_of(2), is_of(1));
        let groups_in_all = input.div_ceil(logical.block().1.max(1));
        let groups = match order {
            Some(_) => 0..groups_in_all,
            None => cols.start / logical.block().1..cols.end.div_ceil(logical.block().1),
        };
        let scale_dtype = logical.parts()[SCALES].dtype;
        let words = rows.start * bits / WORD..(rows.end * bits).div_ceil(WORD);
        PackedLayout {
            bits,
            block: logical.block(),
            codes: cols.start * bits / 8..end,
            codes_in_all,
            groups,
            groups_in_all,
            scale_dtype,
            scale_bytes: scale_dtype.bitsize() as u64 / 8,
            zeros: zeros.map(|part| (part, words)),
            order,
            rows,
            cols,
        }
    }

    pub(crate) fn kind(&self, part: usize) -> PackedKind {
        match part {
            CODES => PackedKind::Codes,
            SCALES => PackedKind::Scales,
            _ if Some(part) == self.order => PackedKind::Order,
            _ => PackedKind::Zeros,
        }
    }

    /// The most groups that so many columns fall into.
    pub(crate) fn most_groups(&self, cols: u64) -> u64 {
        match self.order {
            Some(_) => self.groups_in_all,
            None => (cols / self.block.1 + 2).min(self.groups_in_all),
        }
    }

    pub(crate) fn runs(&self, part: usize) -> Runs {
        let height = self.rows.end - self.rows.start;
        let of_groups = |rows: Range<u64>, size: u64| Runs {
            first: (rows.start * self.groups_in_all + self.groups.start) * size,
            len: (self.groups.end - self.groups.start) * size,
            count: rows.end - rows.start,
            stride: self.groups_in_all * size,
        };
        let runs = match self.kind(part) {
            PackedKind::Codes => Runs {
                first: self.rows.start * self.codes_in_all + self.codes.start,
                len: self.codes.end - self.codes.start,
                count: height,
                stride: self.codes_in_all,
            },
            PackedKind::Scales => of_groups(self.rows.clone(), self.scale_bytes),
            PackedKind::Zeros => of_groups(self.zeros.as_ref().expect("it is one").1.clone(), 4),
            PackedKind::Order => {
                let len = (self.cols.end - self.cols.start) * 4;
                Runs { first: self.cols.start * 4, len, count: 1, stride: len }
            }
        };
        runs.joined()
    }

    /// The bytes of a row's codes in the tile's.
    pub(crate) fn codes_of(&self, row: usize) -> Range<usize> {
        let len = (self.codes.end - self.codes.start) as usize;
        row * len..(row + 1) * len
    }

    /// A row of the tile in its bytes.
    pub(crate) fn row<'b>(&self, parts: &'b [u8], row: usize) -> PackedRow<'b> {
        let bytes = |part: usize| self.runs(part).bytes() as usize;
        let (codes, rest) = parts.split_at(bytes(CODES));
        let (scales, mut rest) = rest.split_at(bytes(SCALES));
        let mut of_part = |part: Option<usize>| {
            let (own, behind) = rest.split_at(part.map_or(0, bytes));
            rest = behind;
            own
        };
        let zeros = of_part(self.zeros.as_ref().map(|(part, _)| *part));
        let order = of_part(self.order);
        let groups = (self.groups.end - self.groups.start) as usize;
        let of_row = groups * self.scale_bytes as usize;
        PackedRow {
            codes: &codes[self.codes_of(row)],
            scales: &scales[row * of_row..(row + 1) * of_row],
            zeros,
            order,
            at: self.rows.start + row as u64,
        }
    }
}

/// One row of a tile.
pub(crate) struct PackedRow<'b> {
    pub(crate) codes: &'b [u8],
    pub(crate) scales: &'b [u8],
    /// The zero points of the whole tile.
    pub(crate) zeros: &'b [u8],
    pub(crate) order: &'b [u8],
    /// Which row of the weight it is.
    pub(crate) at: u64,
}

impl PackedRow<'_> {
    /// The scale of a group, and the field that stands for 0.
    pub(crate) fn of_group(&self, layout: &PackedLayout, group: u64) -> (f32, i32) {
        let i = (group - layout.groups.start) as usize;
        let scale = number(layout.scale_dtype, self.scales, i);
        let zero = match &layout.zeros {
            None => 1 << (layout.bits - 1),
            Some((_, words)) => {
                // The stream runs down a column of words.
                let groups = (layout.groups.end - layout.groups.start) as usize;
                let word = |word: u64| {
                    if word >= words.end {
                        return 0;
                    }
                    let at = (word - words.start) as usize * groups + i;
                    u32::from_le_bytes(self.zeros.as_chunks().0[at])
                };
                let bit = self.at * layout.bits;
                let both = u64::from(word(bit / WORD)) | u64::from(word(bit / WORD + 1)) << WORD;
                (both >> (bit % WORD)) as i32 & layout.mask()
            }
        };
        (scale, zero)
    }

    /// Decodes columns from `first` on that share a scale.
    pub(crate) fn decode(
        &self,
        layout: &PackedLayout,
        first: u64,
        (scale, zero): (f32, i32),
        out: &mut [f32],
    ) {
        let value = |field: i32| (field - zero) as f32 * scale;
        let bit = first * layout.bits - layout.codes.start * 8;
        let codes = &self.codes[(bit / 8) as usize..];
        match (layout.bits, bit % 8) {
            (8, _) => out.iter_mut().zip(codes).for_each(|(out, code)| *out = value((*code).into())),
            (4, 0) => {
                let (pairs, last) = out.as_chunks_mut::<2>();
                for ([low, high], code) in pairs.iter_mut().zip(codes) {
                    (*low, *high) = (value((code & 15).into()), value((code >> 4).into()));
                }
                if let [last] = last {
                    *last = value((codes[pairs.len()] & 15).into());
                }
            }
            _ => {
                for (i, out) in out.iter_mut().enumerate() {
                    *out = value(self.field(layout, bit + i as u64 * layout.bits));
                }
            }
        }
    }

    /// Decodes columns from `first` on, each of which says its group; false if one says none there is.
    pub(crate) fn decode_reordered(&self, layout: &PackedLayout, first: u64, out: &mut [f32]) -> bool {
        let order = self.order.as_chunks::<4>().0;
        let mut finite = true;
        for (i, out) in out.iter_mut().enumerate() {
            let col = first + i as u64;
            let group = i32::from_le_bytes(order[(col - layout.cols.start) as usize]);
            let Some(group) = u64::try_from(group).ok().filter(|group| *group < layout.groups_in_all) else {
                return false;
            };
            let (scale, zero) = self.of_group(layout, group);
            let field = self.field(layout, col * layout.bits - layout.codes.start * 8);
            *out = (field - zero) as f32 * scale;
            finite &= scale.is_finite();
        }
        finite
    }

    /// The field at a bit of the row's codes.
    pub(crate) fn field(&self, layout: &PackedLayout, bit: u64) -> i32 {
        let at = (bit / 8) as usize;
        let both = [self.codes[at], self.codes.get(at + 1).copied().unwrap_or(0)];
        i32::from(u16::from_le_bytes(both) >> (bit % 8)) & layout.mask()
    }
}

impl PackedLayout {
    pub(crate) fn mask(&self) -> i32 {
        (1 << self.bits) - 1
    }
}
