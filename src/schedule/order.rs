//! The walk over a plan: its tiles in the order of the output's bytes, made as they are asked for.
//!
//! The walk allocates for each tensor, but not for each tile: the lists of factors that a tile carries come back to it.

use crate::ops::op::ClaimId;
use crate::plan::out_tensor::{Content, OutHeader, OutShard, Plan};
use crate::tensor::dtype::bytes_of;
use crate::tensor::rect::Rect;
use crate::tensor::reference::FileId;

use crate::schedule::budget::Schedule;
use crate::schedule::cut::MergedTensor;
use crate::schedule::rects::Rects;
use crate::schedule::region::FactorBlock;
use crate::schedule::tile::{MergeTile, Purpose, Tile, TileLayout, Work};

/// All tiles of a plan in order.
pub(crate) struct Tiles<'p> {
    plan: &'p Plan,
    schedule: &'p Schedule,
    /// Number of the next tile.
    seq: u64,
    /// The shard that is cut.
    shard: usize,
    /// The next tensor of the shard; none before its header.
    tensor: Option<usize>,
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
    /// Those of `plan` under a schedule that was made for it.
    pub(crate) fn new(plan: &'p Plan, schedule: &'p Schedule) -> Tiles<'p> {
        let step = Step::Copy(CopiedRun::default());
        Tiles { plan, schedule, seq: 0, shard: 0, tensor: None, step, spare: Vec::new() }
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
        let place = (self.shard, at);
        match MergedTensor::located(self.plan, place, &self.schedule.locations) {
            Some(merged) => {
                self.step = Step::Merge(Box::new(TensorTiles::new(at, merged, self.schedule)));
                self.tensor = Some(at + 1);
            }
            None => {
                let (run, next) = CopiedRun::from(shard, at);
                self.step = Step::Copy(run);
                self.tensor = Some(next);
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
            match self.tensor {
                None => {
                    self.tensor = Some(0);
                    if let OutHeader::Copied { from, bytes } = shard.header {
                        self.step = Step::Copy(CopiedRun { from, bytes, ..CopiedRun::default() });
                    }
                    break Work::Header;
                }
                Some(at) if at < shard.tensors.len() => self.begin(shard, at),
                Some(_) => {
                    self.shard += 1;
                    self.tensor = None;
                }
            }
        };
        let seq = self.seq;
        self.seq += 1;
        Some(Tile { seq, shard: self.shard, work })
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
    fn new(tensor: usize, merged: MergedTensor<'p>, schedule: &Schedule) -> TensorTiles<'p> {
        let out = merged.tensor;
        debug_assert_eq!(bytes_of(out.dtype, out.shape.elements()), Some(out.bytes));
        TensorTiles { tensor, merged, op: 0, reduction: None, written: Rects::of(merged, schedule) }
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
