//! How many bytes the factors of a tensor's ops take, wherever on its rows the ops fall.
//!
//! The experts of a layer may be one tensor, of which each op changes a few rows: no tile and no factor buffer need the factors of
//! all of them at once. A window of rows needs those of the ops that it meets.

use std::ops::Range;

use crate::ops::op::Op;
use crate::tensor::rect::View;

use crate::schedule::region::{aligned, factor_bytes};

/// The rows of one op, and the bytes of its factors.
struct Span {
    rows: Range<u64>,
    /// Rows between neighboring positions.
    step: u64,
    /// Positions along columns.
    cols: u64,
    /// Bytes for each position along rows, factor by factor.
    own: Vec<usize>,
    /// Bytes for each position along columns, factor by factor.
    shared: Vec<usize>,
    /// Bytes of the factors that run along neither.
    whole: usize,
}

impl Span {
    fn of(op: &Op, view: View) -> Option<Span> {
        let grid = op.placement.grid(view)?;
        let last = grid.rows.count.checked_sub(1)?;
        let rows = grid.rows.at..grid.rows.at + last * grid.rows.step + 1;
        let mut span = Span {
            rows,
            step: grid.rows.step,
            cols: grid.cols.count,
            own: Vec::new(),
            shared: Vec::new(),
            whole: 0,
        };
        for factor in &op.factors {
            match factor.index() {
                Some(index) if Some(index.axis) == grid.rows.axis => span.own.push(factor_bytes(factor, 1)),
                Some(_) => span.shared.push(factor_bytes(factor, 1)),
                None => span.whole += aligned(factor_bytes(factor, 1)),
            }
        }
        Some(span)
    }

    /// Bytes of what a tile of so many rows has of its own for this op, at the most.
    fn own_bytes(&self, height: u64) -> usize {
        let all = (self.rows.end - self.rows.start).div_ceil(self.step);
        let positions = height.div_ceil(self.step).min(all) as usize;
        self.own.iter().map(|bytes| aligned(bytes * positions)).sum()
    }

    /// Bytes of what the tiles of so many columns share for this op, at the most.
    fn shared_bytes(&self, band: u64) -> usize {
        let positions = self.cols.min(band) as usize;
        self.whole + self.shared.iter().map(|bytes| aligned(bytes * positions)).sum::<usize>()
    }
}

/// The ops of a tensor, by the rows they begin at.
pub(crate) struct Spans(Vec<Span>);

impl Spans {
    /// Those of `ops` in `view`.
    pub(crate) fn of(ops: &[Op], view: View) -> Spans {
        let mut spans: Vec<Span> = ops.iter().filter_map(|op| Span::of(op, view)).collect();
        spans.sort_by_key(|span| span.rows.start);
        Spans(spans)
    }

    /// The most bytes that one tile of `height` rows has of its own; it starts at a multiple of them.
    pub(crate) fn own_bytes(&self, height: u64) -> usize {
        self.worst(height, |span| span.own_bytes(height))
    }

    /// The most bytes that tiles of `height` rows and `band` columns share.
    pub(crate) fn shared_bytes(&self, height: u64, band: u64) -> usize {
        self.worst(height, |span| span.shared_bytes(band))
    }

    /// Bytes of what all tiles of the tensor share.
    pub(crate) fn all_shared_bytes(&self, band: u64) -> usize {
        self.0.iter().map(|span| span.shared_bytes(band)).sum()
    }

    /// The largest sum over the ops that one window of `height` rows meets.
    fn worst(&self, height: u64, bytes: impl Fn(&Span) -> usize) -> usize {
        let height = height.max(1);
        let mut steps: Vec<(u64, bool, usize)> = Vec::with_capacity(2 * self.0.len());
        for span in &self.0 {
            let bytes = bytes(span);
            steps.push((span.rows.start / height, true, bytes));
            steps.push(((span.rows.end - 1) / height + 1, false, bytes));
        }
        // Where one op ends and another begins, the end comes first.
        steps.sort_unstable();
        let (mut now, mut most) = (0, 0);
        for (_, begins, bytes) in steps {
            if begins {
                now += bytes;
                most = most.max(now);
            } else {
                now -= bytes;
            }
        }
        most
    }

    /// Where the rows end whose tiles can share one factor buffer of `room` bytes, from `row` on: the next multiple of `height` before
    /// an op that is too much, or `rows`.
    pub(crate) fn shared_until(&self, row: u64, height: u64, rows: u64, band: u64, room: usize) -> u64 {
        let first = row + height;
        let later = self.0.partition_point(|span| span.rows.start < first);
        let (open, later) = self.0.split_at(later);
        let open = open.iter().filter(|span| span.rows.end > row);
        let mut held: usize = open.map(|span| span.shared_bytes(band)).sum();
        for span in later {
            held += span.shared_bytes(band);
            if held > room {
                return (span.rows.start / height * height).min(rows);
            }
        }
        rows
    }
}
