//! Where the bits of a block's codes lie.
//!
//! In most types a code is one, two or three fields of bits. A byte has several, of values that are as far from each other as
//! the fields of one kind have bytes in a row:
//!
//! ```text
//! Q4_0   4 bits, rows of 16 bytes: value l is in the low half of byte l, value 16 + l in the high half
//! Q6_K   4 bits, rows of 64 bytes, and above them 2 bits, rows of 32 bytes: values l, 32 + l, 64 + l and 96 + l are in byte l
//! ```

use crate::encodings::ggml::open_block::{CodeSet, MOST_VALUES, OpenBlock};
use crate::encodings::ggml::trits;

/// How codes are stored.
pub(crate) enum CodeLayout {
    /// Whole numbers in fields of bits.
    Whole {
        /// How much more is stored than the code.
        more: u8,
        /// The least code and the largest.
        ends: (i8, i8),
        /// Where the bits are.
        fields: &'static [BitField],
    },
    /// Places in a table.
    Table {
        /// The codes by their places.
        table: &'static CodeTable,
        /// Where the bits are.
        fields: &'static [BitField],
    },
    /// Digits to the base of three.
    Trits,
    /// Places in a grid, with signs. They are never written.
    Grid(fn(&[u8], &mut OpenBlock)),
}

/// Fields of one kind.
pub(crate) struct BitField {
    /// The first byte that has any.
    pub at: usize,
    /// Bits of one.
    pub bits: u8,
    /// Bytes in a row.
    pub row: usize,
    /// The bit of a code that its lowest bit is.
    pub shift: u8,
}

impl BitField {
    /// Fields that are the lowest bits of codes.
    pub(crate) const fn low(at: usize, bits: u8, row: usize) -> BitField {
        BitField { at, bits, row, shift: 0 }
    }

    /// Fields of bits above those.
    pub(crate) const fn high(at: usize, bits: u8, row: usize, shift: u8) -> BitField {
        BitField { at, bits, row, shift }
    }

    fn mask(&self) -> u8 {
        u8::MAX >> (8 - self.bits)
    }

    /// Adds the bits of each code.
    fn read(&self, block: &[u8], codes: &mut [u8]) {
        let (mask, per_byte) = (self.mask(), usize::from(8 / self.bits));
        let rows = block[self.at..].chunks_exact(self.row);
        for (codes, bytes) in codes.chunks_exact_mut(self.row * per_byte).zip(rows) {
            for (k, codes) in codes.chunks_exact_mut(self.row).enumerate() {
                let from = self.bits * k as u8;
                for (code, byte) in codes.iter_mut().zip(bytes) {
                    *code |= ((byte >> from) & mask) << self.shift;
                }
            }
        }
    }

    /// Stores the bits of each code.
    fn write(&self, codes: &[u8], block: &mut [u8]) {
        let (mask, per_byte) = (self.mask(), usize::from(8 / self.bits));
        let rows = block[self.at..].chunks_exact_mut(self.row);
        for (codes, bytes) in codes.chunks_exact(self.row * per_byte).zip(rows) {
            bytes.fill(0);
            for (k, codes) in codes.chunks_exact(self.row).enumerate() {
                let to = self.bits * k as u8;
                for (code, byte) in codes.iter().zip(&mut *bytes) {
                    *byte |= ((code >> self.shift) & mask) << to;
                }
            }
        }
    }
}

impl CodeLayout {
    /// Reads the codes of a block of so many values.
    pub(crate) fn read(&self, bytes: &[u8], count: usize, block: &mut OpenBlock) {
        let fields = match self {
            CodeLayout::Whole { fields, .. } | CodeLayout::Table { fields, .. } => fields,
            CodeLayout::Trits => return trits::read(bytes, &mut block.codes),
            CodeLayout::Grid(read) => return read(bytes, block),
        };
        let mut stored = [0; MOST_VALUES];
        let stored = &mut stored[..count];
        fields.iter().for_each(|field| field.read(bytes, stored));
        let codes = block.codes.iter_mut().zip(&*stored);
        match self {
            CodeLayout::Table { table, .. } => {
                codes.for_each(|(code, at)| *code = table.codes[usize::from(at & 15)])
            }
            CodeLayout::Whole { more, .. } => {
                codes.for_each(|(code, stored)| *code = stored.wrapping_sub(*more) as i8)
            }
            _ => {}
        }
    }

    /// Stores the codes of a block, and leaves all else that it has.
    pub(crate) fn write(&self, codes: &[i8], bytes: &mut [u8]) {
        let mut stored = [0; MOST_VALUES];
        let stored = &mut stored[..codes.len()];
        let pairs = stored.iter_mut().zip(codes);
        let fields = match self {
            CodeLayout::Whole { more, fields, .. } => {
                pairs.for_each(|(stored, code)| *stored = more.wrapping_add(*code as u8));
                fields
            }
            CodeLayout::Table { table, fields } => {
                pairs.for_each(|(at, code)| *at = table.place(*code));
                fields
            }
            CodeLayout::Trits => return trits::write(codes, bytes),
            CodeLayout::Grid(_) => unreachable!("places in grids are decoded only"),
        };
        fields.iter().for_each(|field| field.write(stored, bytes));
    }

    /// The codes that can be stored.
    pub(crate) fn set(&self) -> CodeSet {
        match self {
            CodeLayout::Whole { ends, .. } => CodeSet::whole(*ends),
            CodeLayout::Table { table, .. } => {
                CodeSet { table: Some(&table.codes), ends: (0, 0), limits: table.limits }
            }
            CodeLayout::Trits | CodeLayout::Grid(_) => CodeSet::whole((-1, 1)),
        }
    }
}

/// Codes that are places in a table.
pub(crate) struct CodeTable {
    /// What stands at each place.
    pub codes: [i8; 16],
    /// Half a step below the least and above the largest.
    pub limits: (f32, f32),
}

impl CodeTable {
    /// The first place of a code that the table has.
    fn place(&self, code: i8) -> u8 {
        self.codes.iter().position(|other| *other == code).unwrap_or(0) as u8
    }
}

/// Steps of unequal size.
pub(crate) static IQ4: CodeTable = CodeTable {
    codes: [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113],
    limits: (-138.5, 125.0),
};

/// Twice the values of E2M1, so that they are whole.
pub(crate) static TWICE_E2M1: CodeTable =
    CodeTable { codes: [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12], limits: (-14.0, 14.0) };
