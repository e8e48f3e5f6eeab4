//! Packed integers, encoded again.
//!
//! Codes go with the scale and the zero point that they have; where a value would not fit, both are made by the rule of
//! compressed-tensors. A word of zero points holds those of several rows, so that these are encoded together. Where columns are out of
//! order, a row is brought into that of its groups first.

use std::ops::Range;

use crate::encodings::codes::{nearest_whole, put};
use crate::encodings::encoding::{RowPiece, ToEncode};
use crate::encodings::packed_layout::{PackedLayout, WORD};
use crate::encodings::requantize::{OffsetKind, Offsets, Outgrown, Requantizer};
use crate::encodings::scale_grid::ScaleGrid;
use crate::kernels::outcome::Narrowed;

const CODES: usize = 0;
const SCALES: usize = 1;

/// Encodes a block of values into one part's bytes of the tile.
pub(crate) fn encode(bits: u32, block: &mut ToEncode<'_>, bytes: &mut [u8]) -> Narrowed {
    let layout = PackedLayout::of(bits, block.place);
    match ColumnOrder::of(&layout, block) {
        None => Narrowed { finite: false, changed: 0 },
        Some(order) => PackedBlock { layout, order, half: (1 << (bits - 1)) as f32 }.encode(block, bytes),
    }
}

/// Where the columns of a row are in the order of their groups; nothing where they are in order.
struct ColumnOrder {
    /// The column at each place.
    columns: Vec<u32>,
    /// The places of each group, which may have none.
    groups: Vec<(Range<usize>, u64)>,
}

impl ColumnOrder {
    /// That of a tile of whole rows; none if a column is of no group that there is.
    fn of(layout: &PackedLayout, block: &ToEncode<'_>) -> Option<ColumnOrder> {
        let said = layout.row(block.source, 0).order.as_chunks::<4>().0;
        let group = |col: &u32| i64::from(i32::from_le_bytes(said[*col as usize]));
        let mut columns: Vec<u32> = (0..said.len() as u32).collect();
        columns.sort_unstable_by_key(|col| (group(col), *col));
        let in_all = layout.groups_in_all as i64;
        if columns.iter().any(|col| !(0..in_all).contains(&group(col))) {
            return None;
        }
        let first = |of: i64| columns.partition_point(|col| group(col) < of);
        let groups = if columns.is_empty() { 0..0 } else { 0..in_all };
        let groups = groups.map(|of| (first(of)..first(of + 1), of as u64)).collect();
        Some(ColumnOrder { columns, groups })
    }

    /// The column at a place.
    fn column(&self, place: usize) -> usize {
        self.columns.get(place).map_or(place, |col| *col as usize)
    }
}

/// What a block is encoded by.
struct PackedBlock {
    layout: PackedLayout,
    order: ColumnOrder,
    /// What a field is above its code.
    half: f32,
}

impl PackedBlock {
    fn encode(&self, block: &mut ToEncode<'_>, bytes: &mut [u8]) -> Narrowed {
        let (layout, half, source) = (&self.layout, self.half, block.source);
        let width = block.place.rect.width() as usize;
        let narrow = |bytes: &mut [u8], at: &RowPiece, values: &mut [f32]| {
            self.narrow(bytes, at, (values, width));
            true
        };
        let read = |row: u64, group| {
            let row = layout.row(source, (row - layout.rows.start) as usize);
            row.of_group(layout, group).1 as f32 - half
        };
        let zeros = layout.row(source, 0).zeros;
        let write = |bytes: &mut [u8], row, group, zero| {
            layout.put_zero(bytes, zeros, (row, group), (zero + half) as u32);
        };
        let fresh = |of: &Outgrown, scale| [self.fresh_zero(of, scale); 2].into();
        let offsets = layout.zeros.as_ref().map(|(part, _)| Offsets {
            part: *part,
            read: &read,
            write: &write,
            fresh: &fresh,
            kind: OffsetKind::Zero { is_rounded_first: false },
        });
        let rule = if offsets.is_some() { fresh_between } else { fresh_largest };
        let shared = Requantizer::new(layout.runs(CODES).bytes(), (-half - 0.5, half - 0.5), &narrow);
        let requantizer = Requantizer { number: half - 0.5, fresh: Some(rule), offsets, ..shared };
        if layout.order.is_none() {
            return requantizer.encode(block, bytes);
        }
        self.encode_rows(&requantizer, block, bytes)
    }

    /// Encodes row after row in the order of the groups.
    fn encode_rows(&self, by: &Requantizer<'_>, block: &mut ToEncode<'_>, bytes: &mut [u8]) -> Narrowed {
        let grid = ScaleGrid::of(SCALES, block.place);
        let mut narrowed = Narrowed { finite: true, changed: 0 };
        let mut sorted = vec![0.0; block.cols.len()];
        for (row, values) in block.rows.clone().zip(block.values.chunks_mut(sorted.len())) {
            sorted.iter_mut().enumerate().for_each(|(i, value)| *value = values[self.order.column(i)]);
            let groups = self.order.groups.iter();
            let mut cells = groups.map(|(places, group)| (row..row + 1, places.clone(), *group));
            let (cols, values_of_row) = (block.cols.clone(), &mut sorted[..]);
            let mut of_row = ToEncode { values: values_of_row, rows: row..row + 1, cols, ..*block };
            narrowed.finite &= by.encode_cells(&grid, &mut cells, &mut of_row, bytes).finite;
            sorted.iter().enumerate().for_each(|(i, value)| values[self.order.column(i)] = *value);
        }
        narrowed
    }

    /// Rounds quotients to codes, of which a field is `half` less.
    fn narrow(&self, bytes: &mut [u8], at: &RowPiece, (values, width): (&mut [f32], usize)) {
        let (half, bits) = (self.half, self.layout.bits as usize);
        let codes = self.layout.codes_of(at.row);
        for (value, place) in values.iter_mut().zip(at.cols.clone()) {
            let code = nearest_whole(value.clamp(-half, half - 1.0));
            let bit = codes.start * 8 + self.order.column(place) * bits;
            put(bytes, bit, bits as u32, (code + half) as u16);
            *value = code;
        }
        if at.cols.end == width {
            (codes.start * 8 + width * bits..codes.end * 8).for_each(|bit| put(bytes, bit, 1, 0));
        }
    }

    /// The code of 0, by the scale as it is stored: with it the least value is the first code.
    fn fresh_zero(&self, of: &Outgrown, scale: f32) -> f32 {
        let zero = -self.half - of.ends.0 / scale;
        nearest_whole(zero.clamp(-self.half, self.half - 1.0))
    }
}

/// The rule of compressed-tensors where there are no zero points: values reach to both ends of the codes.
fn fresh_largest(of: &Outgrown) -> f32 {
    of.largest / of.number
}

/// Its rule where there are: from the least value to the largest, with 0 between them.
fn fresh_between(of: &Outgrown) -> f32 {
    (of.ends.1.max(0.0) - of.ends.0.min(0.0)) / (2.0 * of.number)
}

impl PackedLayout {
    /// Stores the zero point of a row and a group. With the first row of a word comes all of it, as the rows of the last may not fill it.
    fn put_zero(&self, bytes: &mut [u8], old: &[u8], (row, group): (u64, u64), field: u32) {
        let Some((_, words)) = &self.zeros else { return };
        let (bit, in_row) = (row * self.bits, self.groups.end - self.groups.start);
        let at = ((bit / WORD - words.start) * in_row + group - self.groups.start) as usize * 4;
        let shift = bit % WORD;
        let before = if shift == 0 { &old[at..at + 4] } else { &bytes[at..at + 4] };
        let word = before.first_chunk().map_or(0, |word| u32::from_le_bytes(*word));
        let word = word & !((self.mask() as u32) << shift) | field << shift;
        bytes[at..at + 4].copy_from_slice(&word.to_le_bytes());
    }
}
