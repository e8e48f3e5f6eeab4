//! The walk over a plan: its tiles in the order of the output's bytes, made as they are asked for.
//!
//! The walk allocates for each tensor, but not for each tile: the lists of factors that a tile carries come back to it.

use std::iter::once;
use std::ops::Range;

use crate::ops::op::ClaimId;
use crate::plan::out_tensor::{Content, OutHeader, OutShard, OutTensor, Plan};
use crate::tensor::dtype::bytes_of;
use crate::tensor::rect::Rect;
use crate::tensor::reference::FileId;

use crate::schedule::budget::Schedule;
use crate::schedule::cut::MergedTensor;
use crate::schedule::extent::{Extent, TensorExtent};
use crate::schedule::rects::Rects;
use crate::schedule::region::FactorBlock;
use crate::schedule::tile::{MergeTile, Purpose, Tile, TileLayout, Work};

/// Where a walk begins: what comes before is made already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct WalkStart {
    /// The shard.
    pub(crate) shard: usize,
    /// Bytes of it.
    pub(crate) bytes: u64,
    /// The row of a merged tensor that begins there; 0 where a tensor begins, or a copied one goes on.
    pub(crate) row: u64,
}

impl WalkStart {
    /// Whether a walk over `plan` can begin here, whatever its schedule.
    pub(crate) fn is_in(&self, plan: &Plan) -> bool {
        let WalkStart { shard, bytes, row } = *self;
        let Some(shard) = plan.shards.get(shard) else { return false };
        if bytes < shard.header.bytes() || bytes >= shard.bytes {
            return row == 0 && bytes == 0;
        }
        let inside =
            shard.tensors.iter().find(|tensor| tensor.offset < bytes && bytes < tensor.offset + tensor.bytes);
        match inside.and_then(MergedTensor::of) {
            None => row == 0,
            Some(merged) => {
                let is_whole = row.is_multiple_of(merged.least().0.max(1)) && row < merged.view.rows;
                is_whole && merged.tensor.offset + merged.bytes_of_rows(row) == bytes
            }
        }
    }
}

/// All tiles of a plan in order.
pub(crate) struct Tiles<'p> {
    plan: &'p Plan,
    schedule: &'p Schedule,
    extent: &'p Extent,
    start: WalkStart,
    /// Number of the next tile.
    seq: u64,
    /// The shard that is cut.
    shard: usize,
    /// The next tensor of the shard, or the next of those that are walked; none before its header.
    tensor: Option<usize>,
    /// Bytes of the shard before the next tile.
    at: u64,
    /// What is being cut.
    step: Step<'p>,
    spare: Vec<Vec<FactorBlock>>,
}

/// What is cut at a time.
enum Step<'p> {
    /// Copied tensors that lie next to each other in one input and in the output.
    Copy(CopiedRun),
    /// A tensor that is merged.
    Merge(Box<TensorTiles<'p>>),
}

impl<'p> Tiles<'p> {
    /// Those of `extent` in `plan` under a schedule that was made for it, from `start` on. The tile that opens a shard is among
    /// them, if anything of the shard is.
    pub(crate) fn new(
        plan: &'p Plan,
        schedule: &'p Schedule,
        extent: &'p Extent,
        start: WalkStart,
    ) -> Tiles<'p> {
        let step = Step::Copy(CopiedRun::default());
        let (shard, spare) = (start.shard, Vec::new());
        Tiles { plan, schedule, extent, start, seq: 0, shard, tensor: None, at: 0, step, spare }
    }

    /// Bytes of the shard that are made already.
    fn made(&self) -> u64 {
        if self.shard == self.start.shard { self.start.bytes } else { 0 }
    }

    /// Takes back the list of factors of a tile that is merged.
    pub(crate) fn recycle(&mut self, own: Vec<FactorBlock>) {
        self.spare.push(own);
    }

    /// The next piece of what is being cut.
    fn piece(&mut self) -> Option<Work<'p>> {
        match &mut self.step {
            Step::Copy(run) => run.next(self.schedule.cut.slab_bytes as u64),
            Step::Merge(tiles) => tiles.next(self.schedule, &mut self.spare).map(Work::Merge),
        }
    }

    /// Turns to the tensor `at` of the shard, and to those behind it that are copied with it.
    fn begin(&mut self, shard: &'p OutShard, at: usize) {
        let (place, made, tensor) = ((self.shard, at), self.made(), &shard.tensors[at]);
        if tensor.offset + tensor.bytes <= made {
            self.tensor = Some(at + 1);
            return;
        }
        match MergedTensor::located(self.plan, place, &self.schedule.locations) {
            Some(merged) => {
                let row = if tensor.offset < made { self.start.row } else { 0 };
                let rows = once(row..merged.view.rows).collect();
                self.step = Step::Merge(Box::new(TensorTiles::new(at, merged, self.schedule, rows)));
                self.tensor = Some(at + 1);
            }
            None => {
                let (run, next) = CopiedRun::from(shard, at);
                self.step = Step::Copy(CopiedRun { at: made.saturating_sub(tensor.offset), ..run });
                self.tensor = Some(next);
            }
        }
    }
}

impl<'p> Tiles<'p> {
    /// Turns to what is walked of a tensor, the `nth` of those of the shard.
    fn begin_chosen(&mut self, shard: &'p OutShard, chosen: &TensorExtent, nth: usize) {
        self.tensor = Some(nth + 1);
        let tensor = &shard.tensors[chosen.tensor];
        let place = (self.shard, chosen.tensor);
        match MergedTensor::located(self.plan, place, &self.schedule.locations) {
            Some(merged) => {
                let rows = chosen.ranges.clone();
                let tiles = TensorTiles::new(chosen.tensor, merged, self.schedule, rows);
                self.step = Step::Merge(Box::new(tiles));
            }
            None => {
                let bytes = chosen.ranges.first().cloned().unwrap_or(0..0);
                self.at = tensor.offset + bytes.start;
                self.step = Step::Copy(CopiedRun::part(tensor, bytes));
            }
        }
    }
}

impl<'p> Iterator for Tiles<'p> {
    type Item = Tile<'p>;

    fn next(&mut self) -> Option<Tile<'p>> {
        let work = loop {
            if let Some(work) = self.piece() {
                break work;
            }
            let shard = self.plan.shards.get(self.shard)?;
            let chosen = self.extent.of_shard(self.shard);
            match (self.tensor, chosen) {
                (None, Some([])) => self.shard += 1,
                (None, _) => {
                    self.tensor = Some(0);
                    self.at = self.made();
                    if let OutHeader::Copied { from, bytes } = shard.header
                        && chosen.is_none()
                    {
                        let at = self.made().min(bytes);
                        self.step = Step::Copy(CopiedRun { from, bytes, at, ..CopiedRun::default() });
                    } else {
                        // It is written with the tile that opens the shard.
                        self.at = self.at.max(shard.header.bytes());
                    }
                    break Work::Header;
                }
                (Some(nth), Some(all)) if nth < all.len() => self.begin_chosen(shard, &all[nth], nth),
                (Some(at), None) if at < shard.tensors.len() => self.begin(shard, at),
                (Some(_), _) => {
                    self.shard += 1;
                    self.tensor = None;
                }
            }
        };
        if let Work::Merge(tile) = &work
            && !self.extent.is_all()
            && tile.purpose == Purpose::Write
            && tile.rect.cols.start == 0
        {
            self.at = tile.merged.tensor.offset + tile.merged.bytes_of_rows(tile.rect.rows.start);
        }
        let (seq, at) = (self.seq, self.at);
        self.seq += 1;
        self.at += work.out_bytes();
        Some(Tile { seq, shard: self.shard, at, work })
    }
}

/// Bytes that are copied, and how far they are cut.
struct CopiedRun {
    from: FileId,
    offset: u64,
    bytes: u64,
    /// The replacement that they are, and its elements.
    claim: Option<(ClaimId, u64)>,
    /// Bytes before this are cut.
    at: u64,
}

impl Default for CopiedRun {
    /// Nothing to copy.
    fn default() -> CopiedRun {
        CopiedRun { from: FileId(0), offset: 0, bytes: 0, claim: None, at: 0 }
    }
}

impl CopiedRun {
    /// The run that begins with tensor `first` of a shard, and the tensor behind it. Copies that touch are one run.
    fn from(shard: &OutShard, first: usize) -> (CopiedRun, usize) {
        let tensor = &shard.tensors[first];
        let Content::Copy { from, claim } = &tensor.content else { unreachable!("other tensors are merged") };
        let claim = claim.map(|claim| (claim, tensor.shape.elements()));
        let mut run = CopiedRun { from: from.file, offset: from.offset, bytes: tensor.bytes, claim, at: 0 };
        let mut next = first + 1;
        while run.claim.is_none()
            && let Some(following) = shard.tensors.get(next)
            && let Content::Copy { from: other, claim: None } = &following.content
            && (other.file, other.offset) == (run.from, run.offset + run.bytes)
        {
            run.bytes += following.bytes;
            next += 1;
        }
        (run, next)
    }

    /// These bytes of a tensor. Of what is only a part of a replacement nothing is counted.
    fn part(tensor: &OutTensor, bytes: Range<u64>) -> CopiedRun {
        let Content::Copy { from, .. } = &tensor.content else { unreachable!("other tensors are merged") };
        CopiedRun { from: from.file, offset: from.offset, bytes: bytes.end, claim: None, at: bytes.start }
    }

    /// The next `most` bytes.
    fn next(&mut self, most: u64) -> Option<Work<'static>> {
        let bytes = most.min(self.bytes - self.at);
        if bytes == 0 {
            return None;
        }
        let offset = self.offset + self.at;
        self.at += bytes;
        // A tile buffer is a multiple of every element's size, so pieces hold whole elements.
        let part = |elements| (u128::from(bytes) * u128::from(elements) / u128::from(self.bytes)) as u64;
        let claim = self.claim.map(|(claim, elements)| (claim, part(elements)));
        Some(Work::Copy { from: self.from, offset, bytes, claim })
    }
}

/// The tiles of one merged tensor: those of its reductions, then those that are written.
struct TensorTiles<'p> {
    tensor: usize,
    merged: MergedTensor<'p>,
    /// Ops before this have had their reductions.
    op: usize,
    reduction: Option<(usize, Rects<'p>)>,
    written: Rects<'p>,
}

impl<'p> TensorTiles<'p> {
    /// Those that are written of these rows.
    fn new(
        tensor: usize,
        merged: MergedTensor<'p>,
        schedule: &Schedule,
        rows: Vec<Range<u64>>,
    ) -> TensorTiles<'p> {
        let out = merged.tensor;
        debug_assert_eq!(bytes_of(out.dtype, out.shape.elements()), Some(out.bytes));
        let written = Rects::of(merged, schedule).within(rows);
        TensorTiles { tensor, merged, op: 0, reduction: None, written }
    }

    fn next(&mut self, schedule: &Schedule, spare: &mut Vec<Vec<FactorBlock>>) -> Option<MergeTile<'p>> {
        loop {
            if let Some((op, rects)) = &mut self.reduction
                && let Some((rect, band)) = rects.next()
            {
                let purpose = Purpose::Reduce { op: *op, is_last: rects.is_done() };
                let merged = rects.merged();
                return Some(self.tile(merged, purpose, (rect, band), spare));
            }
            let next = self.merged.reductions(self.written.cutting()).find(|op| *op >= self.op);
            let Some(op) = next else { break };
            self.op = op + 1;
            self.reduction = Some((op, Rects::of(self.merged.reduction(op), schedule)));
        }
        let area = self.written.next()?;
        Some(self.tile(self.merged, Purpose::Write, area, spare))
    }

    fn tile(
        &self,
        merged: MergedTensor<'p>,
        purpose: Purpose,
        (rect, band): (Rect, Rect),
        spare: &mut Vec<Vec<FactorBlock>>,
    ) -> MergeTile<'p> {
        let layout = TileLayout::new(&merged, &rect, spare.pop().unwrap_or_default());
        MergeTile { tensor: self.tensor, merged, purpose, rect, band, layout }
    }
}
