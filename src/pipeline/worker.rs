//! A worker: decodes a tile to f32, applies every op in order, and rounds once, block by block, in place in the slab. For a
//! pass over a tensor it stops before the rounding and leaves f32 values to be folded.

use std::ops::Range;

use crossbeam_channel::{Receiver, Sender};

use crate::encodings::{Place, RowPiece, ToEncode};
use crate::error::Result;
use crate::error::kind::ErrorKind;
use crate::ops::Delta;
use crate::ops::access::Access;
use crate::ops::block::{Block, FactorView};
use crate::ops::op::{ClaimId, Op};
use crate::ops::placement::{Grid, Window};
use crate::ops::reduce::{ReduceBlock, Reduced};
use crate::plan::out_tensor::Making;
use crate::schedule::blocks::{BlockSpec, Slab};
use crate::schedule::blocks::{out_encoding, start_encoding};
use crate::schedule::budget::Scratch as Sizes;
use crate::schedule::budget::{BLOCK_COLS, FOLDED_ROWS};
use crate::schedule::cut::{Merged as Merge, Output};
use crate::schedule::steps::Work;
use crate::tensor::rect::Rect;

use crate::pipeline::Run;
use crate::pipeline::message::{Loaded, Merged, Pass};
use crate::pipeline::retained::{Measured, Survival, survive};
use crate::pipeline::stop::Stop;
use crate::pipeline::tally::Tally;

/// Merges tiles until there are no more, or nobody takes them.
pub(crate) fn run<'s, 'm>(
    run: &Run<'_>,
    tally: &Tally,
    loaded: &Receiver<Loaded<'s, 'm>>,
    to_write: &Sender<Merged<'s, 'm>>,
    stop: &Stop,
) -> Result<()> {
    let mut scratch = Scratch::new(run.schedule.scratch);
    for message in loaded {
        if stop.is_raised() {
            return Ok(());
        }
        let merged = merge(run, tally, message, &mut scratch)?;
        if to_write.send(merged).is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// A worker's own blocks of f32, made once.
struct Scratch {
    /// Elements of a block.
    block: usize,
    /// Running values.
    values: Vec<f32>,
    /// What the tensor started from.
    original: Vec<f32>,
    /// What the original would be in the output's type, where that is another.
    rounded: Vec<f32>,
    /// What each op added, and room to make it; behind these the sum of all, if there are several.
    rooms: Vec<f32>,
    /// What each row is known to have, for folds that are made in a tile.
    states: Vec<Vec<f64>>,
}

impl Scratch {
    fn new(sizes: Sizes) -> Scratch {
        let block = || vec![0.0; sizes.block];
        let rooms = vec![0.0; sizes.block * sizes.rooms];
        let rounded = if sizes.casts { block() } else { Vec::new() };
        Scratch { block: sizes.block, values: block(), original: block(), rounded, rooms, states: Vec::new() }
    }
}

fn merge<'s, 'm>(
    run: &Run<'_>,
    tally: &Tally,
    message: Loaded<'s, 'm>,
    scratch: &mut Scratch,
) -> Result<Merged<'s, 'm>> {
    let Loaded { tile, mut slab, shared, folded } = message;
    let bytes = match &tile.work {
        Work::Header => 0..0,
        Work::Copy { bytes, claim, .. } => {
            if let Some((claim, elements)) = claim {
                tally.reach(*claim, *elements);
            }
            0..*bytes as usize
        }
        Work::Write { tensor, rect, .. } | Work::Fold { tensor, rect, .. } => {
            let out = &run.plan.shards[tile.shard].tensors[*tensor];
            let merge = Merge::of(out).expect("such tiles are made for merged tensors only");
            let merge = match &tile.work {
                Work::Fold { op, .. } => merge.pass(*op),
                _ => merge,
            };
            let layout = Slab::new(&merge, rect);
            let slab = slab.as_mut().expect("such tiles have a slab");
            let (data, own) = slab.split_at_mut(layout.own_at);
            let mut factors = Factors::default();
            if let Some(shared) = &shared {
                factors.add(merge.ops, &shared.blocks, shared.slot.as_deref().unwrap_or_default());
            }
            factors.add(merge.ops, &layout.own, own);
            let job = Job { run, tally, merge, rect, layout: &layout, factors: &factors.0, passes: &folded };
            let changed = job.run(data, scratch)?;
            tally.change(tile.shard, *tensor, changed);
            layout.out
        }
    };
    // The factors' slot goes back as soon as no worker needs it; the slab only when its bytes are written.
    drop(shared);
    Ok(Merged { tile, slab, bytes })
}

/// The decoded factors of a tile: which op, which factor, what.
#[derive(Default)]
struct Factors<'b>(Vec<(usize, usize, FactorView<'b>)>);

impl<'b> Factors<'b> {
    fn add(&mut self, ops: &[Op], blocks: &[BlockSpec], region: &'b [u8]) {
        for block in blocks {
            let factor = &ops[block.op].factors[block.factor];
            let runs = factor.runs(&block.positions);
            let view = FactorView {
                data: bytemuck::cast_slice(&region[block.at.clone()]),
                axis: factor.index.map(|index| index.axis),
                first: block.positions.start,
                stride: runs.position_stride as usize,
                inner: factor.values() as usize,
                inner_stride: runs.inner_stride as usize,
            };
            self.0.push((block.op, block.factor, view));
        }
    }
}

/// One tile being merged.
struct Job<'j> {
    run: &'j Run<'j>,
    tally: &'j Tally,
    merge: Merge<'j>,
    rect: &'j Rect,
    layout: &'j Slab,
    factors: &'j [(usize, usize, FactorView<'j>)],
    passes: &'j [Pass],
}

/// An op as its tile sees it: where it falls and the views of its factors, in its own order.
struct Applying<'j> {
    op: &'j Op,
    delta: &'j dyn Delta,
    grid: Grid,
    factors: Vec<FactorView<'j>>,
    /// What a pass over the tensor came to.
    pass: Option<&'j [f64]>,
    /// Whether it is folded here, row by row.
    folds_here: bool,
}

impl Job<'_> {
    /// Merges all blocks of the tile in `data`; returns how many elements changed.
    fn run(&self, data: &mut [u8], scratch: &mut Scratch) -> Result<u64> {
        let applying = self.applying();
        let (height, width) = (self.rect.height() as usize, self.rect.width() as usize);
        let folds_here = applying.iter().any(|applying| applying.folds_here);
        let (rows, cols) = self.block_size(width, scratch.block, folds_here);
        let mut changed = 0;
        for top in (0..height).step_by(rows) {
            let rows = top..(top + rows).min(height);
            let pieces = || {
                let lefts = (0..width).step_by(cols);
                lefts.map(|left| Piece { rows: rows.clone(), cols: left..(left + cols).min(width) })
            };
            if folds_here {
                self.fold_here(&applying, &rows, pieces, data, scratch);
            }
            for piece in pieces() {
                changed += match self.merge.output {
                    Output::Encoded => self.merge_block(&piece, &applying, data, scratch)?,
                    Output::Observed => self.observe_block(&piece, &applying, data, scratch),
                };
            }
        }
        Ok(changed)
    }

    /// Rows × columns of a block: whole rows where an op needs them, else columns that stay in the second-level cache, and
    /// more rows of a narrow tile; whole pieces of what is encoded together.
    fn block_size(&self, width: usize, block: usize, folds_here: bool) -> (usize, usize) {
        let (high, wide) = self.merge.quantum();
        let whole_rows = self.merge.ops.iter().any(|op| matches!(op.access(), Access::Rows | Access::Whole));
        let cols = match whole_rows && self.merge.output == Output::Encoded {
            true => width.max(1),
            false => {
                let most = BLOCK_COLS.min(block / high as usize).max(wide as usize);
                width.clamp(1, most / wide as usize * wide as usize)
            }
        };
        let rows = (block / cols).max(1);
        let rows = if folds_here { rows.min(FOLDED_ROWS) } else { rows };
        (
            if rows > high as usize { rows / high as usize * high as usize } else { rows.max(high as usize) },
            cols,
        )
    }

    fn applying(&self) -> Vec<Applying<'_>> {
        let has_rows = self.rect.width() == self.merge.view.cols;
        let ops = self.merge.ops.iter().enumerate();
        ops.map(|(i, op)| {
            let mut factors: Vec<_> = self.factors.iter().filter(|(of, _, _)| *of == i).collect();
            factors.sort_by_key(|(_, factor, _)| *factor);
            let pass = self.passes.iter().find(|pass| pass.op == i).map(|pass| pass.state.as_slice());
            let is_written = self.merge.output == Output::Encoded;
            Applying {
                op,
                delta: op.delta(),
                grid: op.placement.grid(self.merge.view).expect("the plan chose the view so that it has one"),
                factors: factors.into_iter().map(|(_, _, view)| *view).collect(),
                pass,
                folds_here: is_written && pass.is_none() && has_rows && self.merge.folds_in_rows(op),
            }
        })
        .collect()
    }

    fn place(&self) -> Place<'_> {
        Place { logical: self.merge.start, view: self.merge.view, rect: self.rect }
    }

    /// Decodes a block; true if all of it is finite.
    fn decode(&self, piece: &Piece, data: &[u8], values: &mut [f32]) -> bool {
        let start = start_encoding(self.merge.start);
        let (source, kernels) = (&data[self.layout.source.clone()], self.run.kernels);
        let mut finite = true;
        for (row, values) in piece.rows.clone().zip(values.chunks_exact_mut(piece.cols.len())) {
            finite &= start.decode_row(kernels, source, self.place(), piece.row(row), values);
        }
        finite
    }

    /// Folds the rows of a band of blocks, for every op that is folded inside the tile.
    fn fold_here<P: Iterator<Item = Piece>>(
        &self,
        applying: &[Applying<'_>],
        rows: &Range<usize>,
        pieces: impl Fn() -> P,
        data: &[u8],
        scratch: &mut Scratch,
    ) {
        scratch.states.resize_with(applying.len(), Vec::new);
        for (i, applying) in applying.iter().enumerate().filter(|(_, applying)| applying.folds_here) {
            let Some(reduction) = applying.delta.reduction() else { continue };
            let (axis, per) = (reduction.axis(), reduction.values());
            let state = &mut scratch.states[i];
            state.clear();
            state.resize(rows.len() * per, 0.0);
            for piece in pieces() {
                let Some(window) = applying.grid.window(&piece.place(self.rect)) else { continue };
                let values = &mut scratch.values[..piece.elements()];
                self.decode(&piece, data, values);
                self.observe(applying, &piece, &window, values, &mut scratch.rooms);
                let (width, first) = (piece.cols.len(), window.rows.range.start);
                let kernels = self.run.kernels;
                let block = ReduceBlock { values, width, window: &window, axis, first, per, kernels };
                reduction.accumulate(&block, &mut scratch.states[i]);
            }
        }
    }

    fn observe(
        &self,
        applying: &Applying<'_>,
        piece: &Piece,
        window: &Window,
        values: &mut [f32],
        scratch: &mut [f32],
    ) {
        let Some(reduction) = applying.delta.reduction() else { return };
        reduction.observe(&mut Block {
            values,
            original: &[],
            width: piece.cols.len(),
            window,
            factors: &applying.factors,
            scale: applying.op.scale,
            reduced: Reduced::default(),
            scratch,
            kernels: self.run.kernels,
        });
    }

    /// Decodes a block and leaves what its op observes, in f32, where the tile's output goes.
    fn observe_block(
        &self,
        piece: &Piece,
        applying: &[Applying<'_>],
        data: &mut [u8],
        scratch: &mut Scratch,
    ) -> u64 {
        let values = &mut scratch.values[..piece.elements()];
        self.decode(piece, data, values);
        let [applying] = applying else { unreachable!("a pass is for one op") };
        if let Some(window) = applying.grid.window(&piece.place(self.rect)) {
            self.observe(applying, piece, &window, values, &mut scratch.rooms);
        }
        let out: &mut [f32] = bytemuck::cast_slice_mut(&mut data[self.layout.out.clone()]);
        let (width, tile_width) = (piece.cols.len(), self.rect.width() as usize);
        for (row, values) in piece.rows.clone().zip(values.chunks_exact(width)) {
            out[row * tile_width + piece.cols.start..][..width].copy_from_slice(values);
        }
        0
    }

    /// Decodes, applies every op, encodes; returns how many elements changed.
    fn merge_block(
        &self,
        piece: &Piece,
        applying: &[Applying<'_>],
        data: &mut [u8],
        scratch: &mut Scratch,
    ) -> Result<u64> {
        let elements = piece.elements();
        let finite = self.decode(piece, data, &mut scratch.original[..elements]);
        if !finite && start_encoding(self.merge.start).plain().is_none() {
            return Err(ErrorKind::NonFiniteCodes { tensor: self.merge.tensor.name.clone() }.into());
        }
        scratch.values[..elements].copy_from_slice(&scratch.original[..elements]);
        let (applied, sum) = self.apply(piece, applying, scratch);
        let (is_cast, changed) = self.encode(piece, finite, data, scratch)?;
        if self.merge.tensor.part > 0 {
            return Ok(0);
        }
        if let Some(claim) = self.replaced() {
            self.tally.reach(claim, elements as u64);
        }
        let (values, original) = (&scratch.values[..elements], &scratch.original[..elements]);
        let still = if is_cast { &scratch.rounded[..elements] } else { original };
        let before = sum.map_or(original, |at| &scratch.rooms[at..at + elements]);
        for Applied { claim, window, room } in applied {
            let mut survival = Survival::default();
            let (cols, step) = (window.cols.len(), window.cols.step as usize);
            for p in 0..window.rows.len() {
                let row = (window.rows.at + p as u64 * window.rows.step) as usize * piece.cols.len();
                let at = row + window.cols.at as usize;
                let (values, before, still) = (&values[at..], &before[at..], &still[at..]);
                let measured = Measured { values, before, is_sum: sum.is_some(), still };
                survive(
                    self.run.kernels,
                    measured,
                    &scratch.rooms[room + p * cols..][..cols],
                    step,
                    &mut survival,
                );
            }
            self.tally.reach(claim, window.elements());
            self.tally.survive(claim, &survival);
        }
        Ok(match changed {
            Some(changed) => changed,
            None => values.iter().zip(still).filter(|(a, b)| a.to_bits() != b.to_bits()).count() as u64,
        })
    }

    /// Applies every op in order; where each left what it added, and where the sum stands if there are several.
    fn apply(
        &self,
        piece: &Piece,
        applying: &[Applying<'_>],
        scratch: &mut Scratch,
    ) -> (Vec<Applied>, Option<usize>) {
        let place = piece.place(self.rect);
        let elements = piece.elements();
        let mut applied = Vec::with_capacity(applying.len());
        let mut room = 0;
        for (i, applying) in applying.iter().enumerate() {
            let Some(window) = applying.grid.window(&place) else { continue };
            let op = applying.op;
            applying.delta.apply(&mut Block {
                values: &mut scratch.values[..elements],
                original: if applying.delta.needs_base_values() {
                    &scratch.original[..elements]
                } else {
                    &[]
                },
                width: piece.cols.len(),
                window: &window,
                factors: &applying.factors,
                scale: op.scale,
                reduced: reduced(applying, &window, scratch.states.get(i)),
                scratch: &mut scratch.rooms[room..],
                kernels: self.run.kernels,
            });
            let of_window = window.elements() as usize;
            applied.push(Applied { claim: op.claim, window, room });
            room += of_window;
        }
        let sum = (applied.len() > 1).then_some(room);
        if let Some(at) = sum {
            scratch.rooms[at..at + elements].copy_from_slice(&scratch.values[..elements]);
        }
        (applied, sum)
    }

    /// The claim that replaced what the tensor starts from.
    fn replaced(&self) -> Option<ClaimId> {
        match &self.merge.tensor.making {
            Making::Merge { claim, .. } | Making::Copy { claim, .. } => *claim,
        }
    }

    /// Rounds a block to the output's bytes, and leaves what they decode to in the values. A result that is not finite is
    /// an error, unless the base was not finite there. Says whether the output is another type than the base, for then what
    /// the original would have been rounded to is left beside; and how many elements changed, where the bytes were those of
    /// the base before.
    fn encode(
        &self,
        piece: &Piece,
        finite: bool,
        data: &mut [u8],
        scratch: &mut Scratch,
    ) -> Result<(bool, Option<u64>)> {
        let elements = piece.elements();
        let (start, out) = (start_encoding(self.merge.start), out_encoding(self.merge.tensor));
        let (source, bytes) = match self.layout.out.start {
            0 => (&[][..], &mut data[self.layout.out.clone()]),
            at => {
                let (source, rest) = data.split_at_mut(at);
                (&source[self.layout.source.clone()], &mut rest[..self.layout.out.len()])
            }
        };
        let kernels = self.run.kernels;
        let block = |values: &mut [f32], bytes: &mut [u8]| {
            let (rows, cols) = (piece.rows.clone(), piece.cols.clone());
            let part = self.merge.tensor.part;
            out.encode(
                kernels,
                &mut ToEncode { values, rows, cols, place: self.place(), part, source },
                bytes,
            )
        };
        // A cast is no change: the original is rounded first, to be compared with.
        let is_cast = start.name() != out.name();
        if is_cast {
            scratch.rounded[..elements].copy_from_slice(&scratch.original[..elements]);
            block(&mut scratch.rounded[..elements], bytes);
        }
        let narrowed = block(&mut scratch.values[..elements], bytes);
        let mut pairs = scratch.original[..elements].iter().zip(&scratch.values[..elements]);
        let is_new = |(before, after): (&f32, &f32)| before.is_finite() && !after.is_finite();
        if !narrowed.finite && (finite || pairs.any(is_new)) {
            return Err(ErrorKind::NonFiniteResult { tensor: self.merge.tensor.name.clone() }.into());
        }
        let in_place = self.layout.out.start == 0 && !is_cast;
        Ok((is_cast, in_place.then_some(narrowed.changed)))
    }
}

/// What one op did to a block, and where in the rooms it says so.
struct Applied {
    claim: ClaimId,
    window: Window,
    room: usize,
}

/// The result of an op's reduction for the positions of a block.
fn reduced<'f>(applying: &Applying<'f>, window: &Window, here: Option<&'f Vec<f64>>) -> Reduced<'f> {
    let Some(reduction) = applying.delta.reduction() else { return Reduced::default() };
    let per = reduction.values();
    match (applying.pass, here) {
        (Some(state), _) => Reduced { state, first: 0, per },
        (None, Some(state)) => Reduced { state, first: window.rows.range.start, per },
        (None, None) => Reduced::default(),
    }
}

/// Rows and columns of a block, from its tile's corner.
struct Piece {
    rows: Range<usize>,
    cols: Range<usize>,
}

impl Piece {
    fn elements(&self) -> usize {
        self.rows.len() * self.cols.len()
    }

    fn row(&self, row: usize) -> RowPiece {
        RowPiece { row, cols: self.cols.clone() }
    }

    /// The same in the tensor.
    fn place(&self, tile: &Rect) -> Rect {
        let from = |start: u64, range: &Range<usize>| start + range.start as u64..start + range.end as u64;
        Rect { rows: from(tile.rows.start, &self.rows), cols: from(tile.cols.start, &self.cols) }
    }
}
