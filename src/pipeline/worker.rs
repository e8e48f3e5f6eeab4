//! A worker: decodes a tile to f32, applies every op in order, and rounds once, block by block, in place in the slab.

use std::ops::Range;

use crossbeam_channel::{Receiver, Sender};

use crate::adapters::methods::{self, Block, FactorView};
use crate::encodings::{Encoding, RowPiece};
use crate::error::{ErrorKind, Result};
use crate::plan::{Grid, Op, OutTensor};
use crate::schedule::blocks::{out_encoding, start_encoding};
use crate::schedule::shape::Merged as Merge;
use crate::schedule::split::{BLOCK_COLS, BLOCK_ROWS};
use crate::schedule::{BlockSpec, Slab, Work};
use crate::tensor::Rect;

use super::message::{Loaded, Merged};
use super::tally::Tally;
use super::{Run, Stop};

/// Merges tiles until there are no more, or nobody takes them.
pub(super) fn run<'s, 'm>(
    run: &Run<'_>,
    tally: &Tally,
    loaded: &Receiver<Loaded<'s, 'm>>,
    to_write: &Sender<Merged<'s, 'm>>,
    stop: &Stop,
) -> Result<()> {
    let mut scratch = Scratch::default();
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
    values: Vec<f32>,
    delta: Vec<f32>,
    row: Vec<f32>,
}

impl Default for Scratch {
    fn default() -> Scratch {
        let block = || vec![0.0; BLOCK_ROWS * BLOCK_COLS];
        Scratch { values: block(), delta: block(), row: vec![0.0; BLOCK_COLS] }
    }
}

fn merge<'s, 'm>(
    run: &Run<'_>,
    tally: &Tally,
    message: Loaded<'s, 'm>,
    scratch: &mut Scratch,
) -> Result<Merged<'s, 'm>> {
    let Loaded { tile, mut slab, shared } = message;
    let bytes = match &tile.work {
        Work::Header => 0..0,
        Work::Copy { bytes, claim, .. } => {
            if let Some((claim, elements)) = claim {
                tally.reach(*claim, *elements);
            }
            0..*bytes as usize
        }
        Work::Write { tensor, rect, .. } => {
            let out = &run.plan.shards[tile.shard].tensors[*tensor];
            let merge = Merge::of(out).expect("write tiles are made for merged tensors only");
            let layout = Slab::new(out, merge.start, merge.ops, merge.view, rect);
            let slab = slab.as_mut().expect("write tiles have a slab");
            let (data, own) = slab.split_at_mut(layout.own_at);
            let mut factors = Factors::default();
            if let Some(shared) = &shared {
                factors.add(merge.ops, &shared.blocks, shared.slot.as_deref().unwrap_or_default());
            }
            factors.add(merge.ops, &layout.own, own);
            let job = Job { run, tally, merge, rect, layout: &layout, factors: &factors.0 };
            let changed = job.merge(data, scratch)?;
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
                inner: factor.inner as usize,
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
}

/// An op as its tile sees it: where it falls and the views of its factors, in its own order.
struct Applying<'j> {
    op: &'j Op,
    grid: Grid,
    factors: Vec<FactorView<'j>>,
}

impl Job<'_> {
    /// Merges all blocks of the tile in `data`; returns how many elements changed.
    fn merge(&self, data: &mut [u8], scratch: &mut Scratch) -> Result<u64> {
        let applying = self.applying();
        let (height, width) = (self.rect.height() as usize, self.rect.width() as usize);
        let mut changed = 0;
        // A narrow tile has more rows in a block, so that blocks are equally large.
        let cols = width.clamp(1, BLOCK_COLS);
        let rows = BLOCK_ROWS * BLOCK_COLS / cols;
        for top in (0..height).step_by(rows) {
            for left in (0..width).step_by(cols) {
                let block =
                    Piece { rows: top..(top + rows).min(height), cols: left..(left + cols).min(width) };
                changed += self.merge_block(&block, &applying, data, scratch)?;
            }
        }
        Ok(changed)
    }

    fn applying(&self) -> Vec<Applying<'_>> {
        let ops = self.merge.ops.iter().enumerate();
        ops.map(|(i, op)| {
            let mut factors: Vec<_> = self.factors.iter().filter(|(of, _, _)| *of == i).collect();
            factors.sort_by_key(|(_, factor, _)| *factor);
            let grid =
                op.placement.grid(self.merge.view).expect("the plan chose the view so that it has one");
            Applying { op, grid, factors: factors.into_iter().map(|(_, _, view)| *view).collect() }
        })
        .collect()
    }

    /// Decodes, applies every op, encodes.
    fn merge_block(
        &self,
        block: &Piece,
        applying: &[Applying<'_>],
        data: &mut [u8],
        scratch: &mut Scratch,
    ) -> Result<u64> {
        let kernels = self.run.kernels;
        let width = block.cols.len();
        let values = &mut scratch.values[..block.rows.len() * width];
        let start = start_encoding(self.merge.start);
        let mut finite = true;
        for (row, values) in block.rows.clone().zip(values.chunks_exact_mut(width)) {
            let source = &data[self.layout.source.clone()];
            finite &= start.decode_row(kernels, source, self.rect, block.piece(row), values);
        }
        let place = block.place(self.rect);
        for Applying { op, grid, factors } in applying {
            let Some(window) = grid.window(&place) else { continue };
            let method = methods::find(&op.method).expect("a plan names methods of the table");
            let scratch = &mut scratch.delta;
            let scale = op.scale;
            method.apply(&mut Block { values, width, window: &window, factors, scale, scratch, kernels });
            self.tally.reach(op.claim, window.elements());
        }
        if let Some(claim) = self.replaced() {
            self.tally.reach(claim, (block.rows.len() * width) as u64);
        }
        self.encode(block, finite, data, scratch)
    }

    /// The claim that replaced what the tensor starts from.
    fn replaced(&self) -> Option<crate::plan::ClaimId> {
        match &self.merge.tensor.making {
            crate::plan::Making::Merge { claim, .. } | crate::plan::Making::Copy { claim, .. } => *claim,
        }
    }

    /// Rounds a block to the output's bytes. A result that is not finite is an error, unless the base was not finite there.
    fn encode(&self, block: &Piece, finite: bool, data: &mut [u8], scratch: &mut Scratch) -> Result<u64> {
        let kernels = self.run.kernels;
        let width = block.cols.len();
        let (start, out) = (start_encoding(self.merge.start), out_encoding(self.merge.tensor));
        let mut changed = 0;
        let rows = block.rows.clone().zip(scratch.values.chunks_exact(width));
        for (row, values) in rows {
            let at = block.piece(row);
            if !finite {
                let base = &mut scratch.row[..width];
                start.decode_row(kernels, &data[self.layout.source.clone()], self.rect, at.clone(), base);
                check_row(out, values, base, self.merge.tensor)?;
            }
            let bytes = &mut data[self.layout.out.clone()];
            let narrowed = out.encode_row(kernels, values, self.rect, at, bytes);
            if finite && !narrowed.finite {
                return Err(ErrorKind::NonFiniteResult { tensor: self.merge.tensor.name.clone() }.into());
            }
            changed += narrowed.changed;
        }
        Ok(changed)
    }
}

/// The slow way for the rare row whose base is not finite everywhere: looks at each element.
fn check_row(out: &dyn Encoding, values: &[f32], base: &[f32], tensor: &OutTensor) -> Result<()> {
    let mut bytes = [0; 8];
    let one = Rect { rows: 0..1, cols: 0..1 };
    for (value, base) in values.iter().zip(base) {
        let at = RowPiece { row: 0, cols: 0..1 };
        let kernels = crate::kernels::Kernels::scalar();
        if base.is_finite() && !out.encode_row(kernels, &[*value], &one, at, &mut bytes).finite {
            return Err(ErrorKind::NonFiniteResult { tensor: tensor.name.clone() }.into());
        }
    }
    Ok(())
}

/// Rows and columns of a block, from its tile's corner.
struct Piece {
    rows: Range<usize>,
    cols: Range<usize>,
}

impl Piece {
    fn piece(&self, row: usize) -> RowPiece {
        RowPiece { row, cols: self.cols.clone() }
    }

    /// The same in the tensor.
    fn place(&self, tile: &Rect) -> Rect {
        let from = |start: u64, range: &Range<usize>| start + range.start as u64..start + range.end as u64;
        Rect { rows: from(tile.rows.start, &self.rows), cols: from(tile.cols.start, &self.cols) }
    }
}
