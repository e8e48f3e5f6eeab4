//! What both ways of merging share that round once: rows of the sample are merged apart from the others, as their deltas are made
//! too, and elements are counted for the whole tile.

use std::ops::Range;

use crate::error::Result;
use crate::kernels::exact::float_format::FloatFormat;
use crate::schedule::budget::{FORMULA_COLS, FORMULA_ROWS};

use crate::pipeline::apply::{Piece, TileJob, pieces};
use crate::pipeline::scratch::{TileOp, WorkerScratch};

impl TileJob<'_> {
    /// Merges the tile by formulas, block by block, and adds to its outcome.
    pub(crate) fn merge_by_formulas(
        &self,
        format: FloatFormat,
        data: &mut [u8],
        scratch: &mut WorkerScratch,
    ) -> Result<()> {
        let (height, width) = (self.rect.height() as usize, self.rect.width() as usize);
        scratch.singles.forget();
        scratch.doubles.forget();
        let mut top = 0;
        while top < height {
            let (rows, is_measured) = self.rows_alike(&scratch.ops, top..height, &(0..width));
            let rows = rows.start..rows.end.min(top + FORMULA_ROWS);
            for piece in pieces(&rows, width, FORMULA_COLS) {
                self.merge_exactly(format, (&piece, is_measured), data, scratch)?;
            }
            top = rows.end;
        }
        self.count_elements(scratch);
        Ok(())
    }

    /// The first of some rows that are all in the sample of an op on these columns, or none of them, and which it is.
    pub(crate) fn rows_alike(
        &self,
        ops: &[TileOp],
        rows: Range<usize>,
        cols: &Range<usize>,
    ) -> (Range<usize>, bool) {
        let is_measured = self.is_measured(ops, rows.start, cols);
        let mut others = rows.start + 1..rows.end;
        let end = others.find(|row| self.is_measured(ops, *row, cols) != is_measured).unwrap_or(rows.end);
        (rows.start..end, is_measured)
    }

    /// Whether an op on these elements has the row in its sample.
    fn is_measured(&self, ops: &[TileOp], row: usize, cols: &Range<usize>) -> bool {
        let place = Piece { rows: row..row + 1, cols: cols.clone() }.place(self.rect);
        let is_sampled = |of: &TileOp| {
            let window = of.grid.window(&place);
            window.is_some_and(|window| of.is_sampled(window.rows.range.start))
        };
        ops.iter().any(is_sampled)
    }

    /// Counts the elements that each claim reached.
    pub(crate) fn count_elements(&self, scratch: &mut WorkerScratch) {
        let WorkerScratch { ops, outcome, .. } = scratch;
        for (of, claim) in ops.iter().zip(&mut outcome.claims) {
            claim.elements += of.grid.window(self.rect).map_or(0, |window| window.elements());
        }
        // Behind the ops stands the claim that replaced what the tensor starts from, if one did.
        for replaced in &mut outcome.claims[ops.len()..] {
            replaced.elements += self.rect.elements();
        }
    }
}
