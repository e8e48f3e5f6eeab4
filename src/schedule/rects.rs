//! The rectangles that a tensor is cut into, in the order of its bytes: each the largest that fits a tile buffer where it stands.

use std::ops::Range;
use std::vec;

use crate::tensor::rect::{Rect, View};

use crate::schedule::budget::Schedule;
use crate::schedule::cut::{Cutting, MergedTensor};
use crate::schedule::spans::Spans;
use crate::schedule::tile::TileLayout;

/// Rectangles of one tensor, each with the band whose factors it shares with its neighbors.
pub(crate) struct Rects<'p> {
    merged: MergedTensor<'p>,
    spans: Spans,
    cutting: Cutting,
    slab_bytes: usize,
    slot_bytes: usize,
    /// Row and column of the next one.
    at: (u64, u64),
    /// The row behind those that are cut now, and the rows that are cut then.
    end: u64,
    rest: vec::IntoIter<Range<u64>>,
    /// Rows or columns of the last one: the next is most likely as large.
    last: u64,
    band: Rect,
}

impl<'p> Rects<'p> {
    /// Those of `merged` under a schedule that was made for it.
    pub(crate) fn of(merged: MergedTensor<'p>, schedule: &Schedule) -> Rects<'p> {
        let (slab_bytes, slot_bytes) = (schedule.cut.slab_bytes, schedule.cut.slot_bytes);
        let spans = merged.spans();
        let cutting =
            merged.cutting(&spans, slab_bytes, slot_bytes).expect("the split made sure that it fits");
        let band = Rect { rows: 0..0, cols: 0..0 };
        let (end, rest) = (merged.view.rows, Vec::new().into_iter());
        Rects { merged, spans, cutting, slab_bytes, slot_bytes, at: (0, 0), end, rest, last: 1, band }
    }

    /// Those of these rows only, which are apart and in order.
    pub(crate) fn within(self, rows: Vec<Range<u64>>) -> Rects<'p> {
        let mut rest = rows.into_iter();
        let first = rest.next().unwrap_or(0..0);
        Rects { at: (first.start, 0), end: first.end, rest, ..self }
    }

    /// How they are cut.
    pub(crate) fn cutting(&self) -> Cutting {
        self.cutting
    }

    /// The tensor that it cuts.
    pub(crate) fn merged(&self) -> MergedTensor<'p> {
        self.merged
    }

    /// Whether there is none left.
    pub(crate) fn is_done(&self) -> bool {
        self.merged.view.cols == 0 || self.at.0 >= self.end
    }

    /// Whether a tile fits its buffer.
    fn fits(&self, rect: &Rect) -> bool {
        TileLayout::bytes(&self.merged, rect) <= self.slab_bytes
    }

    /// The band of the next rectangle.
    fn next_band(&self) -> Rect {
        let (row, col) = self.at;
        let View { rows, cols } = self.merged.view;
        let until = |height| self.spans.shared_until(row, height, rows, cols, self.slot_bytes).min(self.end);
        match self.cutting {
            Cutting::Rows { least } => Rect { rows: row..until(least), cols: 0..cols },
            Cutting::Pieces { band } if band == cols => Rect { rows: row..until(1), cols: 0..cols },
            Cutting::Pieces { band } => Rect { rows: row..row + 1, cols: col..(col + band).min(cols) },
        }
    }

    /// The next rectangle, inside the band.
    fn next_rect(&mut self) -> Rect {
        let (row, col) = self.at;
        match self.cutting {
            Cutting::Rows { least } => {
                let together = self.merged.tile_rows();
                let until = (row / together + 1).saturating_mul(together).min(self.band.rows.end);
                let rect = |height| Rect { rows: row..row + height, cols: self.band.cols.clone() };
                let height = largest(self.last, least, until - row, |height| self.fits(&rect(height)));
                let rect = rect(height);
                self.last = height;
                rect
            }
            Cutting::Pieces { .. } => {
                let rect = |width| Rect { rows: row..row + 1, cols: col..col + width };
                let width = largest(self.last, 1, self.band.cols.end - col, |width| self.fits(&rect(width)));
                let rect = rect(width);
                self.last = width;
                rect
            }
        }
    }
}

impl Iterator for Rects<'_> {
    type Item = (Rect, Rect);

    fn next(&mut self) -> Option<(Rect, Rect)> {
        if self.is_done() {
            return None;
        }
        let cols = self.merged.view.cols;
        let (row, col) = self.at;
        if !(self.band.rows.contains(&row) && self.band.cols.contains(&col)) {
            self.band = self.next_band();
        }
        let rect = self.next_rect();
        debug_assert!(self.fits(&rect), "{rect:?} of {}", self.merged.tensor.name);
        self.at = if rect.cols.end == cols { (rect.rows.end, 0) } else { (row, rect.cols.end) };
        if self.at.0 >= self.end
            && let Some(next) = self.rest.next()
        {
            (self.at, self.end) = ((next.start, 0), next.end);
        }
        Some((rect, self.band.clone()))
    }
}

/// The largest multiple of `unit` up to `most`, or `most` itself, that fits, looked for from `guess` on. One unit always does.
fn largest(guess: u64, unit: u64, most: u64, fits: impl Fn(u64) -> bool) -> u64 {
    let size = |units: u64| (units * unit).min(most);
    let all = most.div_ceil(unit);
    let (mut low, mut high) = (1, (guess / unit).clamp(1, all));
    while fits(size(high)) {
        if high == all {
            return most;
        }
        (low, high) = (high, (2 * high).min(all));
    }
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if fits(size(middle)) { low = middle } else { high = middle }
    }
    size(low)
}

#[cfg(test)]
mod tests {
    use crate::schedule::rects::largest;

    #[test]
    fn finds_the_largest_from_any_guess() {
        for most in 1..40 {
            for (unit, room) in [(1, 1), (1, 7), (4, 4), (4, 11), (4, 100), (1, 100)] {
                let expected =
                    (1..=most).rev().find(|n| *n <= room.max(unit) && (n % unit == 0 || *n == most));
                for guess in [0, 1, 3, 8, 1000] {
                    assert_eq!(Some(largest(guess, unit, most, |n| n <= room)), expected.or(Some(most)));
                }
            }
        }
    }
}
