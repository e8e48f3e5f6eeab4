//! Merging a tile whose ops all add products of factors, into codes of two bytes: one pass of the fused kernel over every cell of
//! the tile, a rectangle in which the same ops fall on all elements. Where the tile does not start as these codes it is decoded
//! before, block by block. Only rows of the sample go the long way besides, so that what is left of each delta can be measured.

use smallvec::SmallVec;

use crate::error::Result;
use crate::error::run::RunError;
use crate::kernels::exact::float_format::FloatFormat;
use crate::kernels::fused::pack::Term;
use crate::kernels::fused::tile::Codes;
use crate::ops::placement::Window;
use crate::schedule::requirement::BLOCK_ROWS;

use crate::pipeline::apply::{Piece, TileJob};
use crate::pipeline::retained::SAMPLED_ROWS;
use crate::pipeline::scratch::{Buffers, TileOp, WorkerScratch};

/// Terms of a cell. More than so many would be allocated.
type Terms<'t> = SmallVec<[Term<'t>; 8]>;

impl TileJob<'_> {
    /// Merges the tile, and adds to its outcome.
    pub(crate) fn merge_fused(
        &self,
        format: FloatFormat,
        data: &mut [u8],
        scratch: &mut WorkerScratch,
    ) -> Result<()> {
        let mut cuts = std::mem::take(&mut scratch.cuts);
        self.cut(&scratch.ops, &mut cuts);
        let [rows, cols] = &cuts;
        let mut merged = Ok(());
        for rows in rows.windows(2) {
            for cols in cols.windows(2) {
                let cell = Piece { rows: rows[0]..rows[1], cols: cols[0]..cols[1] };
                merged = merged.and_then(|()| self.merge_cell(format, &cell, data, scratch));
            }
        }
        scratch.cuts = cuts;
        self.count_elements(scratch);
        merged
    }

    /// The rows and the columns at which an op begins or ends, the tile's sides among them.
    fn cut(&self, ops: &[TileOp], cuts: &mut [Vec<usize>; 2]) {
        let sides = [self.rect.height() as usize, self.rect.width() as usize];
        for (cuts, side) in cuts.iter_mut().zip(sides) {
            cuts.clear();
            cuts.extend([0, side]);
        }
        for of in ops {
            let window = of.grid.window(self.rect).expect("the tile's ops meet it");
            for (cuts, line) in cuts.iter_mut().zip([&window.rows, &window.cols]) {
                cuts.extend([line.at as usize, line.at as usize + line.len()]);
            }
        }
        for cuts in cuts {
            cuts.sort_unstable();
            cuts.dedup();
        }
    }

    /// Merges one cell: rows of the sample apart from the others, as many as there are of one kind at once.
    fn merge_cell(
        &self,
        format: FloatFormat,
        cell: &Piece,
        data: &mut [u8],
        scratch: &mut WorkerScratch,
    ) -> Result<()> {
        let place = cell.place(self.rect);
        if scratch.ops.iter().all(|of| of.grid.window(&place).is_none()) {
            return self.put_bases(format, cell, data, scratch);
        }
        let mut top = cell.rows.start;
        while top < cell.rows.end {
            let (rows, is_measured) = self.rows_alike(&scratch.ops, top..cell.rows.end, &cell.cols);
            let rows = Piece { rows, cols: cell.cols.clone() };
            top = rows.rows.end;
            if is_measured {
                self.measure_rows(format, &rows, data, scratch)?;
            } else {
                self.merge_pieces(format, &rows, data, scratch)?;
            }
        }
        Ok(())
    }

    /// Whether the tile's bytes are those of the output, but for what is added.
    fn starts_as_codes(&self) -> bool {
        self.layout.out.start == 0 && !self.is_cast()
    }

    /// Puts what the base would be in place of the output, where that does not start so. A value that is too large for it is an
    /// error, as it is where something is added.
    fn put_bases(
        &self,
        format: FloatFormat,
        cell: &Piece,
        data: &mut [u8],
        scratch: &mut WorkerScratch,
    ) -> Result<()> {
        if self.starts_as_codes() {
            return Ok(());
        }
        blocks(cell, BLOCK_ROWS, scratch.buffers.block).try_for_each(|block| {
            self.decode_base(format, &block, data, &mut scratch.buffers)?;
            let Buffers { original, rounded, values, .. } = &scratch.buffers;
            let put = if self.is_cast() { rounded } else { values };
            let mut pairs = original[..block.elements()].iter().zip(put);
            if pairs.any(|(before, after)| before.is_finite() && !after.is_finite()) {
                return Err(RunError::NonFiniteResult { tensor: self.merged.tensor.name.to_string() }.into());
            }
            Ok(())
        })
    }

    /// Merges rows on which the same ops fall everywhere: as they are, or block by block as they are decoded.
    fn merge_pieces(
        &self,
        format: FloatFormat,
        rows: &Piece,
        data: &mut [u8],
        scratch: &mut WorkerScratch,
    ) -> Result<()> {
        if self.starts_as_codes() {
            return self.merge_piece(format, rows, data, scratch);
        }
        blocks(rows, BLOCK_ROWS, scratch.buffers.block).try_for_each(|block| {
            self.decode_base(format, &block, data, &mut scratch.buffers)?;
            self.merge_piece(format, &block, data, scratch)
        })
    }

    /// Merges a piece on which the same ops fall everywhere.
    fn merge_piece(
        &self,
        format: FloatFormat,
        piece: &Piece,
        data: &mut [u8],
        scratch: &mut WorkerScratch,
    ) -> Result<()> {
        let place = piece.place(self.rect);
        let mut terms = Terms::new();
        for of in &scratch.ops {
            if let Some(window) = of.grid.window(&place) {
                terms.extend(self.term(of, &window));
            }
        }
        let (stride, bytes) = (self.rect.width() as usize * 2, &mut data[self.layout.out.clone()]);
        let start = piece.rows.start * stride + piece.cols.start * 2;
        let (rows, cols) = (piece.rows.len(), piece.cols.len());
        let original = &scratch.buffers.original[..];
        let values = (!self.starts_as_codes()).then(|| &original[..piece.elements()]);
        let mut codes = Codes { bytes: &mut bytes[start..], stride, rows, cols, values };
        let narrowed = self.kernels.merge_products(format, &mut codes, &terms, &mut scratch.fused);
        scratch.outcome.changed += narrowed.changed;
        if !narrowed.finite {
            return Err(RunError::NonFiniteResult { tensor: self.merged.tensor.name.to_string() }.into());
        }
        Ok(())
    }

    /// The product that an op adds to its window.
    fn term(&self, of: &TileOp, window: &Window) -> Option<Term<'_>> {
        let op = self.op(of);
        let [a, b] = op.delta().product()?;
        let views = self.views(of);
        let (left, right) = views[a].beside(&views[b], window);
        Some(Term { left, right, scale: op.scale })
    }

    /// Merges rows of the sample, and measures what is left of their deltas, piece by piece.
    fn measure_rows(
        &self,
        format: FloatFormat,
        rows: &Piece,
        data: &mut [u8],
        scratch: &mut WorkerScratch,
    ) -> Result<()> {
        blocks(rows, SAMPLED_ROWS, scratch.buffers.block).try_for_each(|piece| {
            self.decode_base(format, &piece, data, &mut scratch.buffers)?;
            let sum = self.apply(&piece, scratch);
            self.merge_piece(format, &piece, data, scratch)?;
            self.decode_codes(format, &piece, data, &mut scratch.buffers);
            self.measure(&piece, sum, self.is_cast(), scratch);
            Ok(())
        })
    }
}

/// Blocks of a piece that have so many rows at the most, and elements.
fn blocks(piece: &Piece, rows: usize, elements: usize) -> impl Iterator<Item = Piece> + use<> {
    let (all_rows, all_cols) = (piece.rows.clone(), piece.cols.clone());
    let high = rows.min(all_rows.len()).max(1);
    let wide = (elements / high).clamp(1, all_cols.len().max(1));
    all_rows.clone().step_by(high).flat_map(move |top| {
        let (rows, end) = (top..(top + high).min(all_rows.end), all_cols.end);
        all_cols
            .clone()
            .step_by(wide)
            .map(move |left| Piece { rows: rows.clone(), cols: left..(left + wide).min(end) })
    })
}
