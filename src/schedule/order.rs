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
use crate::schedule::reduces::Reduces;
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
            None => {
                row == 0 && (inside.is_some() || shard.tensors.iter().any(|tensor| tensor.offset == bytes))
            }
            Some(merged) => {
                let is_whole = row.is_multiple_of(merged.least().0.max(1)) && row < merged.view.rows;
                is_whole && merged.tensor.offset + merged.bytes_of_rows(row) == bytes
            }
        }
    }
}

/// Whether bytes of a file, which are all of a tensor or a header there, are shared with it instead of read; where in the
/// output they stand, and whether all of the file is wanted.
pub(crate) type IsShared<'p> = Box<dyn Fn(FileId, &Range<u64>, u64, bool) -> bool + 'p>;

/// All tiles of a plan in order.
pub(crate) struct Tiles<'p> {
    plan: &'p Plan,
    schedule: &'p Schedule,
    is_shared: IsShared<'p>,
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

/// Runs of fewer bytes are read and written.
const SHARED_LEAST: u64 = 256 << 10;

/// Whether a tensor is a copy that is shared with its file.
fn is_shared_tensor(tensor: &OutTensor, is_shared: &IsShared<'_>, whole: bool) -> bool {
    let Content::Copy { from, claim: None } = &tensor.content else { return false };
    let range = from.offset..from.offset + tensor.bytes;
    is_shared(from.file, &range, tensor.offset, whole)
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
        (plan, extent): (&'p Plan, &'p Extent),
        schedule: &'p Schedule,
        start: WalkStart,
        is_shared: IsShared<'p>,
    ) -> Tiles<'p> {
        let step = Step::Copy(CopiedRun::default());
        let (shard, spare) = (start.shard, Vec::new());
        Tiles { plan, schedule, extent, is_shared, start, seq: 0, shard, tensor: None, at: 0, step, spare }
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
        self.at = tensor.offset.max(made);
        match MergedTensor::located(self.plan, place, &self.schedule.locations) {
            Some(merged) => {
                let row = if tensor.offset < made { self.start.row } else { 0 };
                let rows = once(row..merged.view.rows).collect();
                self.step = Step::Merge(Box::new(TensorTiles::new(at, merged, self.schedule, rows)));
                self.tensor = Some(at + 1);
            }
            None => {
                let at_first = made.saturating_sub(tensor.offset);
                let (run, next) = CopiedRun::from(shard, at, &|tensor| {
                    at_first == 0 && is_shared_tensor(tensor, &self.is_shared, false)
                });
                self.step = Step::Copy(CopiedRun { at: at_first, ..run });
                self.tensor = Some(next);
            }
        }
    }

    /// Turns to the header of a shard, or to all of it if it is another file's and shared with that.
    fn begin_shard(&mut self, shard: &'p OutShard) {
        self.at = self.made();
        self.tensor = Some(0);
        let OutHeader::Copied { from, bytes } = shard.header else {
            // It is written with the tile that opens the shard.
            self.at = self.at.max(shard.header.bytes());
            return;
        };
        let header = CopiedRun { from, bytes, at: self.at.min(bytes), ..CopiedRun::default() };
        self.step = Step::Copy(header);
        if self.at == 0 && (self.is_shared)(from, &(0..bytes), 0, true) {
            let (run, next) =
                CopiedRun::from(shard, 0, &|tensor| is_shared_tensor(tensor, &self.is_shared, true));
            let is_all = next == shard.tensors.len()
                && (run.from, run.offset, bytes + run.bytes) == (from, bytes, shard.bytes);
            if run.is_shared && is_all {
                self.step = Step::Copy(CopiedRun { offset: 0, bytes: shard.bytes, ..run });
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
                (None, Some(_)) => {
                    (self.tensor, self.at) = (Some(0), shard.header.bytes());
                    break Work::Header;
                }
                (None, None) => {
                    self.begin_shard(shard);
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
    /// Whether they are shared with their file.
    is_shared: bool,
    /// Bytes before this are cut.
    at: u64,
}

impl Default for CopiedRun {
    /// Nothing to copy.
    fn default() -> CopiedRun {
        CopiedRun { from: FileId(0), offset: 0, bytes: 0, claim: None, is_shared: false, at: 0 }
    }
}

impl CopiedRun {
    /// The run that begins with tensor `first` of a shard, and the tensor behind it. Copies that touch are one run, if all of
    /// them are shared or none is.
    fn from(shard: &OutShard, first: usize, is_shared: &dyn Fn(&OutTensor) -> bool) -> (CopiedRun, usize) {
        let Some(tensor) = shard.tensors.get(first) else { return (CopiedRun::default(), first) };
        let Content::Copy { from, claim } = &tensor.content else { return (CopiedRun::default(), first) };
        let claim = claim.map(|claim| (claim, tensor.shape.elements()));
        let (file, offset, bytes) = (from.file, from.offset, tensor.bytes);
        let mut run = CopiedRun { from: file, offset, bytes, claim, is_shared: is_shared(tensor), at: 0 };
        let mut next = first + 1;
        while run.claim.is_none()
            && let Some(following) = shard.tensors.get(next)
            && let Content::Copy { from: other, claim: None } = &following.content
            && (other.file, other.offset) == (run.from, run.offset + run.bytes)
            && following.offset == tensor.offset + run.bytes
            && (following.bytes == 0 || is_shared(following) == run.is_shared)
        {
            run.bytes += following.bytes;
            next += 1;
        }
        // Not worth a call of its own: its blocks at both ends are read all the same.
        run.is_shared &= run.bytes >= SHARED_LEAST;
        (run, next)
    }

    /// These bytes of a tensor. Of what is only a part of a replacement nothing is counted.
    fn part(tensor: &OutTensor, bytes: Range<u64>) -> CopiedRun {
        let Content::Copy { from, .. } = &tensor.content else { unreachable!("other tensors are merged") };
        let (from, offset, end, at) = (from.file, from.offset, bytes.end, bytes.start);
        CopiedRun { from, offset, bytes: end, claim: None, is_shared: false, at }
    }

    /// The next `most` bytes.
    fn next(&mut self, most: u64) -> Option<Work<'static>> {
        let rest = self.bytes - self.at;
        let bytes = if self.is_shared { rest } else { most.min(rest) };
        if bytes == 0 {
            return None;
        }
        let (from, offset) = (self.from, self.offset + self.at);
        self.at += bytes;
        if self.is_shared {
            return Some(Work::Share { from, offset, bytes });
        }
        // A tile buffer is a multiple of every element's size, so pieces hold whole elements.
        let part = |elements| (u128::from(bytes) * u128::from(elements) / u128::from(self.bytes)) as u64;
        let claim = self.claim.map(|(claim, elements)| (claim, part(elements)));
        Some(Work::Copy { from, offset, bytes, claim })
    }
}

/// The tiles of one merged tensor: those of its reductions, then those that are written.
struct TensorTiles<'p> {
    tensor: usize,
    merged: MergedTensor<'p>,
    /// The last that had its reduction, and what is left of that.
    reduction: Option<(Reduces, Rects<'p>)>,
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
        TensorTiles { tensor, merged, reduction: None, written }
    }

    fn next(&mut self, schedule: &Schedule, spare: &mut Vec<Vec<FactorBlock>>) -> Option<MergeTile<'p>> {
        loop {
            if let Some((of, rects)) = &mut self.reduction
                && let Some((rect, band)) = rects.next()
            {
                let purpose = Purpose::Reduce { of: *of, is_last: rects.is_done() };
                let merged = rects.merged();
                return Some(self.tile(merged, purpose, (rect, band), spare));
            }
            let last = self.reduction.as_ref().map(|(of, _)| *of);
            let next = self.merged.reductions(self.written.cutting()).find(|of| Some(*of) > last);
            let Some(of) = next else { break };
            self.reduction = Some((of, Rects::of(self.merged.reduction(of), schedule)));
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
