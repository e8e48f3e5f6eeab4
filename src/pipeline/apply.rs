//! Merging one tile: decodes it to f32, applies every op in order, and rounds once, block by block, in place in the tile
//! buffer. For a reduction it stops before the rounding and leaves f32 values to be accumulated.
//!
//! Ops that have one right result take other ways to the same bytes on every machine: `fuse.rs` for products of factors on codes
//! of two bytes, `exact.rs` for all others that are sums and products. What is here is for the rest.
//!
//! [`merge_tile`] has all its inputs in its arguments and knows no run, no thread and no file.

use std::ops::Range;

use crate::encodings::encoding::{Place, RowPiece, ToEncode};
use crate::error::run::RunError;
use crate::error::{Error, Result};
use crate::kernels::dispatch::Kernels;
use crate::ops::access::Access;
use crate::ops::block::Reduced;
use crate::ops::block::{Block, FactorView};
use crate::ops::op::{ClaimId, Op};
use crate::ops::placement::Window;
use crate::plan::out_tensor::Content;
use crate::schedule::arithmetic::Arithmetic;
use crate::schedule::budget::REDUCED_ROWS;
use crate::schedule::cut::{MergedTensor, Output};
use crate::schedule::reduces::Reduces;
use crate::schedule::region::{out_encoding, start_encoding};
use crate::schedule::requirement::BLOCK_COLS;
use crate::schedule::tile::TileLayout;
use crate::tensor::rect::Rect;

use crate::pipeline::factors::{FactorRegion, FactorViews};
use crate::pipeline::message::ReductionResult;
use crate::pipeline::reduce::{Observed, accumulate};
use crate::pipeline::retained::{Measured, Retention, measure};
use crate::pipeline::scratch::{AppliedDelta, Buffers, ClaimOutcome, Outcome, TileOp, WorkerScratch};

/// The inputs of one tile's merge, but for the bytes it starts from.
pub(crate) struct TileJob<'t> {
    /// The tensor, and the ops that are applied.
    pub(crate) merged: MergedTensor<'t>,
    /// Which part of the tensor.
    pub(crate) rect: &'t Rect,
    /// What lies where in the tile's bytes.
    pub(crate) layout: &'t TileLayout,
    /// The prepared factors that it shares with its neighbors.
    pub(crate) shared: FactorRegion<'t>,
    /// The prepared factors of its own.
    pub(crate) own: FactorRegion<'t>,
    /// The results of reductions over the tensor.
    pub(crate) reduced: &'t [ReductionResult],
    /// Which arithmetic runs.
    pub(crate) kernels: Kernels,
}

/// Merges a tile: `data` holds the bytes it starts from where its layout says, and afterwards its output. What `scratch`
/// held before does not matter.
///
/// # Errors
/// [`RunError::NonFiniteCodes`] and [`RunError::NonFiniteResult`], which name the tensor.
pub(crate) fn merge_tile<'s>(
    job: &TileJob<'_>,
    data: &mut [u8],
    scratch: &'s mut WorkerScratch,
) -> Result<&'s Outcome> {
    job.begin(scratch);
    match job.merged.arithmetic() {
        Arithmetic::Fused(format) => job.merge_fused(format, data, scratch)?,
        Arithmetic::Formulas(format) => job.merge_by_formulas(format, data, scratch)?,
        Arithmetic::Pinned => job.merge_pinned(data, scratch)?,
    }
    Ok(&scratch.outcome)
}

/// The blocks of some rows, from left to right.
pub(crate) fn pieces(rows: &Range<usize>, width: usize, cols: usize) -> impl Iterator<Item = Piece> {
    let rows = rows.clone();
    let lefts = (0..width).step_by(cols);
    lefts.map(move |left| Piece { rows: rows.clone(), cols: left..(left + cols).min(width) })
}

impl TileJob<'_> {
    /// Merges a tile delta by delta, or makes of it what a reduction accumulates.
    fn merge_pinned(&self, data: &mut [u8], scratch: &mut WorkerScratch) -> Result<()> {
        let (height, width) = (self.rect.height() as usize, self.rect.width() as usize);
        let reduces_here = scratch.ops.iter().any(|op| op.reduces_here);
        let (rows, cols) = self.block_size(width, scratch.buffers.block, reduces_here);
        for top in (0..height).step_by(rows) {
            let rows = top..(top + rows).min(height);
            if reduces_here {
                self.reduce_rows(&rows, cols, data, scratch);
            }
            for piece in pieces(&rows, width, cols) {
                match self.merged.output {
                    Output::Encoded => self.merge_block(&piece, data, scratch)?,
                    Output::Observed => self.observe_block(&piece, data, scratch),
                    // Whoever adds it up looks at the bytes themselves.
                    Output::Surveyed => {}
                }
            }
        }
        Ok(())
    }

    /// Lists the ops that meet the tile, and begins its outcome.
    fn begin(&self, scratch: &mut WorkerScratch) {
        let WorkerScratch { ops, outcome, .. } = scratch;
        ops.clear();
        outcome.changed = 0;
        outcome.claims.clear();
        let has_rows = self.rect.width() == self.merged.view.cols;
        let reduces = has_rows && self.merged.output == Output::Encoded;
        for (index, op) in self.merged.ops.iter().enumerate() {
            let grid = op.placement.grid(self.merged.view);
            let grid = grid.expect("the plan chose the view so that it has one");
            if grid.window(self.rect).is_none() {
                continue;
            }
            let is_known = self.result(Reduces::Op(index)).is_some();
            ops.push(TileOp {
                index,
                grid,
                shared: self.shared.blocks_of(index),
                own: self.own.blocks_of(index),
                reduces_here: reduces && !is_known && self.merged.reduces_in_rows(op),
            });
            outcome.claims.push(ClaimOutcome::new(op.claim));
        }
        if let Some(claim) = self.replaced() {
            outcome.claims.push(ClaimOutcome::new(claim));
        }
    }

    /// The result of a reduction over the tensor, if it had one.
    fn result(&self, of: Reduces) -> Option<&ReductionResult> {
        self.reduced.iter().find(|reduced| reduced.of == of)
    }

    pub(crate) fn op(&self, of: &TileOp) -> &Op {
        &self.merged.ops[of.index]
    }

    /// The claim that replaced what the tensor starts from.
    fn replaced(&self) -> Option<ClaimId> {
        match &self.merged.tensor.content {
            Content::Compute { claim, .. } | Content::Copy { claim, .. } => *claim,
        }
    }

    /// Rows × columns of a block: whole rows where an op needs them, else columns that stay in the second-level cache, and
    /// more rows of a narrow tile; whole pieces of what is encoded together.
    fn block_size(&self, width: usize, block: usize, reduces_here: bool) -> (usize, usize) {
        let (high, wide) = self.merged.quantum();
        let (high, wide) = (high as usize, wide as usize);
        let needs_rows = self.merged.ops.iter().any(|op| matches!(op.access(), Access::Rows | Access::Whole));
        let cols = if needs_rows && self.merged.output == Output::Encoded {
            width.max(1)
        } else {
            let most = BLOCK_COLS.min(block / high).max(wide);
            width.clamp(1, most / wide * wide)
        };
        let rows = (block / cols).max(1);
        let rows = if reduces_here { rows.min(REDUCED_ROWS) } else { rows };
        (if rows > high { rows / high * high } else { rows.max(high) }, cols)
    }

    fn place(&self) -> Place<'_> {
        let surveyed = self.result(Reduces::Start).map_or(&[][..], |known| &known.state);
        Place { logical: self.merged.start, view: self.merged.view, rect: self.rect, surveyed }
    }

    /// The views of an op's factors, in its order.
    pub(crate) fn views(&self, of: &TileOp) -> FactorViews<'_> {
        let mut shared = self.shared.blocks[of.shared.clone()].iter().peekable();
        let mut own = self.own.blocks[of.own.clone()].iter().peekable();
        let factors = self.op(of).factors.iter().enumerate();
        let views = factors.filter_map(|(i, factor)| match own.next_if(|block| block.factor == i) {
            Some(block) => Some(self.own.view(factor, block)),
            None => shared.next_if(|block| block.factor == i).map(|block| self.shared.view(factor, block)),
        });
        views.collect()
    }

    /// A block as an op sees it that knows neither the original nor the result of a reduction.
    fn block<'b>(
        &'b self,
        of: &TileOp,
        (window, width): (&'b Window, usize),
        factors: &'b [FactorView<'b>],
        values: &'b mut [f32],
        scratch: &'b mut [f32],
    ) -> Block<'b> {
        let op = self.op(of);
        Block {
            values,
            original: &[],
            width,
            window,
            factors,
            scale: op.scale,
            reduced: Reduced::default(),
            scratch,
            kernels: self.kernels,
        }
    }

    /// Decodes a block; true if all of it is finite.
    pub(crate) fn decode(&self, piece: &Piece, data: &[u8], values: &mut [f32]) -> bool {
        let start = start_encoding(self.merged.start);
        let source = &data[self.layout.source.clone()];
        let mut finite = true;
        for (row, values) in piece.rows.clone().zip(values.chunks_exact_mut(piece.cols.len())) {
            finite &= start.decode_row(self.kernels, source, self.place(), piece.row(row), values);
        }
        finite
    }

    /// Decodes what a block starts from; true if all of it is finite, as all of a quantized weight is: where its parts are, and a
    /// value is not, it overflowed as it was decoded.
    pub(crate) fn decode_start(&self, piece: &Piece, data: &[u8], values: &mut [f32]) -> Result<bool> {
        let finite = self.decode(piece, data, values);
        if start_encoding(self.merged.start).plain().is_some() {
            return Ok(finite);
        }
        let tensor = || self.merged.tensor.name.to_string();
        if !finite {
            return Err(RunError::NonFiniteCodes { tensor: tensor() }.into());
        }
        if !are_finite(values) {
            return Err(RunError::NonFiniteResult { tensor: tensor() }.into());
        }
        Ok(true)
    }

    /// Makes the reductions over some rows, for every op that has its own inside the tile.
    fn reduce_rows(&self, rows: &Range<usize>, cols: usize, data: &[u8], scratch: &mut WorkerScratch) {
        let WorkerScratch { buffers, ops, .. } = scratch;
        let Buffers { values, deltas, states, .. } = buffers;
        if states.len() < ops.len() {
            states.resize_with(ops.len(), Vec::new);
        }
        let width = self.rect.width() as usize;
        for (of, state) in ops.iter().zip(states).filter(|(of, _)| of.reduces_here) {
            let op = self.op(of);
            let Some(reduction) = op.delta().reduction() else { continue };
            state.clear();
            state.resize(rows.len() * reduction.values(), 0.0);
            for piece in pieces(rows, width, cols) {
                let Some(window) = of.grid.window(&piece.place(self.rect)) else { continue };
                let values = &mut values[..piece.elements()];
                self.decode(&piece, data, values);
                self.observe(of, (&window, piece.cols.len()), values, deltas);
                let first = window.rows.range.start;
                let observed = Observed { values, width: piece.cols.len(), window: &window, first };
                accumulate(reduction, &observed, self.kernels, state);
            }
        }
    }

    /// Turns what a block starts from into what its op accumulates.
    fn observe(&self, of: &TileOp, window: (&Window, usize), values: &mut [f32], deltas: &mut [f32]) {
        let factors = self.views(of);
        if let Some(reduction) = self.op(of).delta().reduction() {
            reduction.observe(&mut self.block(of, window, &factors, values, deltas));
        }
    }

    /// Decodes a block and leaves what its op accumulates, in f32, where the tile's output goes.
    fn observe_block(&self, piece: &Piece, data: &mut [u8], scratch: &mut WorkerScratch) {
        let WorkerScratch { buffers: Buffers { values, deltas, .. }, ops, .. } = scratch;
        let values = &mut values[..piece.elements()];
        let width = piece.cols.len();
        self.decode(piece, data, values);
        // A reduction is for one op.
        if let Some(of) = ops.first()
            && let Some(window) = of.grid.window(&piece.place(self.rect))
        {
            self.observe(of, (&window, width), values, deltas);
        }
        let out: &mut [f32] = bytemuck::cast_slice_mut(&mut data[self.layout.out.clone()]);
        let tile_width = self.rect.width() as usize;
        for (row, values) in piece.rows.clone().zip(values.chunks_exact(width)) {
            out[row * tile_width + piece.cols.start..][..width].copy_from_slice(values);
        }
    }

    /// Decodes, applies every op, encodes, and adds to the outcome.
    fn merge_block(&self, piece: &Piece, data: &mut [u8], scratch: &mut WorkerScratch) -> Result<()> {
        let elements = piece.elements();
        let finite = self.decode_start(piece, data, &mut scratch.buffers.original[..elements])?;
        let sum = self.apply(piece, scratch);
        let encoded = self.encode(piece, finite, data, &mut scratch.buffers)?;
        // All parts of an encoded weight have the same values: they are counted for the first.
        if self.merged.tensor.part == 0 {
            self.count(piece, sum, encoded, scratch);
        }
        Ok(())
    }

    /// Applies every op in order to the values; where the sum of all that they added stands, if there are several.
    pub(crate) fn apply(&self, piece: &Piece, scratch: &mut WorkerScratch) -> Option<usize> {
        let WorkerScratch { buffers, ops, applied, .. } = scratch;
        let Buffers { values, original, deltas, states, .. } = buffers;
        let (place, elements) = (piece.place(self.rect), piece.elements());
        values[..elements].copy_from_slice(&original[..elements]);
        applied.clear();
        let mut at = 0;
        for (i, of) in ops.iter().enumerate() {
            let Some(window) = of.grid.window(&place) else { continue };
            let (op, factors) = (self.op(of), self.views(of));
            let values = &mut values[..elements];
            let block = self.block(of, (&window, piece.cols.len()), &factors, values, &mut deltas[at..]);
            let delta = op.delta();
            delta.apply(&mut Block {
                original: if delta.needs_base_values() { &original[..elements] } else { &[] },
                reduced: self.result_for(of, &window, states.get(i)),
                ..block
            });
            let of_window = window.elements() as usize;
            applied.push(AppliedDelta { op: i, window, at });
            at += of_window;
        }
        if applied.len() < 2 {
            return None;
        }
        deltas[at..at + elements].copy_from_slice(&values[..elements]);
        Some(at)
    }

    /// The result of an op's reduction for the positions of a block.
    fn result_for<'f>(&'f self, of: &TileOp, window: &Window, here: Option<&'f Vec<f64>>) -> Reduced<'f> {
        let Some(reduction) = self.op(of).delta().reduction() else { return Reduced::default() };
        let per = reduction.values();
        let known = self.result(Reduces::Op(of.index));
        match (known, here) {
            (Some(ReductionResult { state, .. }), _) => Reduced { state, first: 0, per },
            (None, Some(state)) => Reduced { state, first: window.rows.range.start, per },
            (None, None) => Reduced::default(),
        }
    }

    /// Rounds a block to the output's bytes, and leaves what they decode to in the values. A result that is not finite is
    /// an error, unless the base was not finite there.
    fn encode(&self, piece: &Piece, finite: bool, data: &mut [u8], buffers: &mut Buffers) -> Result<Encoded> {
        let elements = piece.elements();
        let (start, out) = (start_encoding(self.merged.start), out_encoding(self.merged.tensor));
        let (source, bytes) = match self.layout.out.start {
            0 => (&[][..], &mut data[self.layout.out.clone()]),
            at => {
                let (source, rest) = data.split_at_mut(at);
                (&source[self.layout.form.clone()], &mut rest[..self.layout.out.len()])
            }
        };
        let block = |values: &mut [f32], bytes: &mut [u8]| {
            let (rows, cols, part) =
                (piece.rows.clone(), piece.cols.clone(), usize::from(self.merged.tensor.part));
            let place = Place { logical: self.merged.written_as(), ..self.place() };
            let mut block = ToEncode { values, rows, cols, place, part, source, fresh: self.merged.fresh() };
            out.encode(self.kernels, &mut block, bytes)
        };
        // A cast is no change: the original is rounded first, to be compared with.
        let is_cast = start.name() != out.name();
        let is_changed = !self.merged.ops.is_empty();
        if is_cast && is_changed {
            buffers.rounded[..elements].copy_from_slice(&buffers.original[..elements]);
            block(&mut buffers.rounded[..elements], bytes);
        }
        let narrowed = block(&mut buffers.values[..elements], bytes);
        if is_cast && !is_changed {
            buffers.rounded[..elements].copy_from_slice(&buffers.values[..elements]);
        }
        let mut pairs = buffers.original[..elements].iter().zip(&buffers.values[..elements]);
        let is_new = |(before, after): (&f32, &f32)| before.is_finite() && !after.is_finite();
        if !narrowed.finite {
            let tensor = || self.merged.tensor.name.to_string();
            if pairs.any(is_new) {
                return Err(RunError::NonFiniteResult { tensor: tensor() }.into());
            }
            if finite {
                let error = Error::new(RunError::BeyondScale { tensor: tensor() });
                return Err(error.hint(WITHOUT_SCALES));
            }
        }
        let is_in_place = self.layout.out.start == 0 && !is_cast;
        Ok(Encoded { is_cast, changed: is_in_place.then_some(narrowed.changed) })
    }

    /// Adds a block that is encoded to the outcome. `sum` says where the sum of all deltas stands, if there are several.
    fn count(&self, piece: &Piece, sum: Option<usize>, encoded: Encoded, scratch: &mut WorkerScratch) {
        self.measure(piece, sum, encoded.is_cast, scratch);
        self.count_block(piece, encoded, scratch);
    }

    /// Counts what the ops reached, and what changed.
    fn count_block(&self, piece: &Piece, encoded: Encoded, scratch: &mut WorkerScratch) {
        let WorkerScratch { buffers, ops, outcome, .. } = scratch;
        let (place, elements) = (piece.place(self.rect), piece.elements());
        for (of, claim) in ops.iter().zip(&mut outcome.claims) {
            claim.elements += of.grid.window(&place).map_or(0, |window| window.elements());
        }
        // Behind the ops stands the claim that replaced what the tensor starts from, if one did.
        for replaced in &mut outcome.claims[ops.len()..] {
            replaced.elements += elements as u64;
        }
        let values = &buffers.values[..elements];
        let still =
            if encoded.is_cast { &buffers.rounded[..elements] } else { &buffers.original[..elements] };
        let differ = || values.iter().zip(still).filter(|(a, b)| a.to_bits() != b.to_bits()).count() as u64;
        outcome.changed += encoded.changed.unwrap_or_else(differ);
    }

    /// Measures what is left of the deltas that were applied, on rows of the sample.
    pub(crate) fn measure(
        &self,
        piece: &Piece,
        sum: Option<usize>,
        is_cast: bool,
        scratch: &mut WorkerScratch,
    ) {
        let WorkerScratch { buffers, ops, applied, outcome, .. } = scratch;
        let elements = piece.elements();
        let (values, original) = (&buffers.values[..elements], &buffers.original[..elements]);
        let still = if is_cast { &buffers.rounded[..elements] } else { original };
        let before = sum.map_or(original, |at| &buffers.deltas[at..at + elements]);
        let measured = Measured { values, before, is_sum: sum.is_some(), still };
        for AppliedDelta { op, window, at } in applied.iter() {
            let delta = &buffers.deltas[*at..][..window.elements() as usize];
            let retained = self.retained(measured, piece.cols.len(), (&ops[*op], window), delta);
            outcome.claims[*op].retained.add(&retained);
        }
    }

    /// What is left of a delta after rounding. `width` is that of the block.
    fn retained(
        &self,
        of: Measured<'_>,
        width: usize,
        (op, window): (&TileOp, &Window),
        delta: &[f32],
    ) -> Retention {
        let mut retained = Retention::default();
        let cols = window.cols.len();
        for (p, delta) in (0..).zip(delta.chunks_exact(cols)) {
            if op.is_sampled(window.rows.range.start + p) {
                let at = (window.rows.at + p * window.rows.step) as usize * width + window.cols.at as usize;
                measure(self.kernels, of.from(at), delta, window.cols.step as usize, &mut retained);
            }
        }
        retained
    }
}

/// What helps where a value does not fit quantized data.
const WITHOUT_SCALES: &str = "without `--keep-quantized` the result is written in 16 bit";

/// How a block was encoded.
#[derive(Clone, Copy)]
struct Encoded {
    /// Whether the output is another type than the base: what the original would have been rounded to is left beside then.
    is_cast: bool,
    /// Elements that changed, where the bytes were those of the base before.
    changed: Option<u64>,
}

/// Rows and columns of a block, from its tile's corner.
pub(crate) struct Piece {
    pub(crate) rows: Range<usize>,
    pub(crate) cols: Range<usize>,
}

impl Piece {
    pub(crate) fn elements(&self) -> usize {
        self.rows.len() * self.cols.len()
    }

    fn row(&self, row: usize) -> RowPiece {
        RowPiece { row, cols: self.cols.clone() }
    }

    /// The same in the tensor.
    pub(crate) fn place(&self, tile: &Rect) -> Rect {
        let from = |start: u64, range: &Range<usize>| start + range.start as u64..start + range.end as u64;
        Rect { rows: from(tile.rows.start, &self.rows), cols: from(tile.cols.start, &self.cols) }
    }
}

/// Whether all values are finite. Without their signs, floats are ordered as whole numbers are.
fn are_finite(values: &[f32]) -> bool {
    let mut most = 0;
    for value in values {
        most = most.max(value.to_bits() as i32 & i32::MAX);
    }
    most < f32::INFINITY.to_bits() as i32
}
