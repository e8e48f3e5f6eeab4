//! The tiles of a plan in the order of the output's bytes, made as they are asked for.

use crate::ops::op::ClaimId;
use crate::plan::out_tensor::{Making, OutShard, OutTensor, Plan};
use crate::tensor::dtype::bytes_of;
use crate::tensor::rect::Rect;
use crate::tensor::reference::FileId;

use crate::schedule::budget::Schedule;
use crate::schedule::cut::Merged;
use crate::schedule::rects::Rects;

/// A piece of work that travels as a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tile {
    /// Its place in the schedule, from 0.
    pub seq: u64,
    /// Which output shard it belongs to.
    pub shard: usize,
    /// What is to be done.
    pub work: Work,
}

/// What is to be done with a tile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// Write the shard's header; it opens the shard.
    Header,
    /// Write bytes of an input as they are.
    Copy {
        /// Which input.
        from: FileId,
        /// First byte in it.
        offset: u64,
        /// Number of bytes, at most a slab.
        bytes: u64,
        /// The replacement it is a part of, and how many of its elements.
        claim: Option<(ClaimId, u64)>,
    },
    /// Read a rectangle of one tensor and fold it, for one op that must know something before the tensor is written.
    Fold {
        /// Which tensor of the shard.
        tensor: usize,
        /// Which op of the tensor.
        op: usize,
        /// Which part of it.
        rect: Rect,
        /// The rows and columns whose factors it shares with its neighbours.
        band: Rect,
        /// Whether it is the last of its pass.
        is_last: bool,
    },
    /// Read, merge and write a rectangle of one tensor.
    Write {
        /// Which tensor of the shard.
        tensor: usize,
        /// Which part of it.
        rect: Rect,
        /// The rows and columns whose factors it shares with its neighbours.
        band: Rect,
    },
}

/// All tiles of `plan` in order.
pub(crate) fn tiles<'s>(plan: &'s Plan, schedule: &'s Schedule) -> impl Iterator<Item = Tile> + 's {
    let work = plan.shards.iter().enumerate().flat_map(move |(i, shard)| {
        let header = std::iter::once((i, Work::Header));
        header.chain(steps(shard).flat_map(move |step| step.cut(shard, schedule)).map(move |work| (i, work)))
    });
    work.enumerate().map(|(seq, (shard, work))| Tile { seq: seq as u64, shard, work })
}

/// What one output tensor, or a run of copied ones, asks for.
enum Step {
    /// Bytes that lie next to each other in one input and in the output.
    Copy { from: FileId, offset: u64, bytes: u64, claim: Option<(ClaimId, u64)> },
    /// A tensor that is merged.
    Write { tensor: usize },
}

/// The steps of a shard in the order of its bytes; copies that touch are one.
fn steps(shard: &OutShard) -> impl Iterator<Item = Step> + '_ {
    let mut next = 0;
    std::iter::from_fn(move || {
        let (mut step, at) = (step(shard.tensors.get(next)?, next), next);
        next += 1;
        if let Step::Copy { from, offset, bytes, claim: None } = &mut step {
            while let Some(following) = shard.tensors.get(next)
                && let Making::Copy { from: other, claim: None } = &following.making
                && (other.file, other.offset) == (*from, *offset + *bytes)
            {
                *bytes += following.bytes;
                next += 1;
            }
        }
        debug_assert!(next > at);
        Some(step)
    })
}

fn step(tensor: &OutTensor, i: usize) -> Step {
    match &tensor.making {
        Making::Copy { from, claim } => Step::Copy {
            from: from.file,
            offset: from.offset,
            bytes: tensor.bytes,
            claim: claim.map(|claim| (claim, tensor.shape.elements())),
        },
        Making::Merge { .. } => Step::Write { tensor: i },
    }
}

impl Step {
    /// Cuts it into tiles.
    fn cut<'s>(self, shard: &'s OutShard, schedule: &'s Schedule) -> Box<dyn Iterator<Item = Work> + 's> {
        match self {
            Step::Copy { from, offset, bytes, claim } => {
                let slab = schedule.cut.slab_bytes as u64;
                Box::new((0..bytes).step_by(slab as usize).map(move |at| {
                    let piece = slab.min(bytes - at);
                    // A slab is a multiple of every element's size, so pieces hold whole elements.
                    let part =
                        |elements| (u128::from(piece) * u128::from(elements) / u128::from(bytes)) as u64;
                    let claim = claim.map(|(claim, elements)| (claim, part(elements)));
                    Work::Copy { from, offset: offset + at, bytes: piece, claim }
                }))
            }
            Step::Write { tensor } => Box::new(cut_tensor(&shard.tensors[tensor], tensor, schedule)),
        }
    }
}

/// The tiles of one merged tensor: those of its passes, then those that are written.
fn cut_tensor<'s>(
    out: &'s OutTensor,
    tensor: usize,
    schedule: &'s Schedule,
) -> impl Iterator<Item = Work> + use<'s> {
    debug_assert_eq!(bytes_of(out.dtype, out.shape.elements()), Some(out.bytes));
    let merged = Merged::of(out).expect("a write step is made for merged tensors only");
    let rects = Rects::of(merged, schedule);
    let passes = merged.passes(rects.cutting()).flat_map(move |op| {
        let mut rects = Rects::of(merged.pass(op), schedule).peekable();
        std::iter::from_fn(move || {
            let (rect, band) = rects.next()?;
            Some(Work::Fold { tensor, op, rect, band, is_last: rects.peek().is_none() })
        })
    });
    passes.chain(rects.map(move |(rect, band)| Work::Write { tensor, rect, band }))
}
