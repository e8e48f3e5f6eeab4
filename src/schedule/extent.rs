//! [`Extent`]: how much of a plan is walked. All of it, or chosen places: whole rows of tensors that are merged, and bytes of
//! those that are copied.

use std::iter::once;
use std::ops::Range;

use crate::plan::out_tensor::{Content, Plan};
use crate::schedule::cut::MergedTensor;

/// A place of the output.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct OutPlace {
    /// Its shard.
    pub(crate) shard: usize,
    /// Which tensor of the shard.
    pub(crate) tensor: usize,
    /// First row of a tensor that is merged, or first byte of one that is copied.
    pub(crate) start: u64,
    /// The row or byte behind the last.
    pub(crate) end: u64,
}

impl OutPlace {
    /// The least rows, or the bytes, that hold these bytes of a tensor: rows that must be made together are.
    pub(crate) fn holding(plan: &Plan, (shard, tensor): (usize, usize), bytes: &Range<u64>) -> OutPlace {
        let Some(merged) = MergedTensor::of(&plan.shards[shard].tensors[tensor]) else {
            return OutPlace { shard, tensor, start: bytes.start, end: bytes.end };
        };
        let (rows, least) = (merged.view.rows, merged.least().0.max(1));
        let (start, end) = (
            first_where(rows.div_ceil(least), |n| {
                merged.bytes_of_rows(rows.min((n + 1) * least)) > bytes.start
            }),
            first_where(rows.div_ceil(least), |n| merged.bytes_of_rows(rows.min(n * least)) >= bytes.end),
        );
        OutPlace { shard, tensor, start: rows.min(start * least), end: rows.min(end * least) }
    }

    /// Bytes of the output that are there.
    pub(crate) fn bytes(&self, plan: &Plan) -> u64 {
        let merged = MergedTensor::of(&plan.shards[self.shard].tensors[self.tensor]);
        let before = |end| merged.map_or(end, |merged| merged.bytes_of_rows(end));
        before(self.end) - before(self.start)
    }
}

/// The first of the numbers up to `most` of which `is` is true, as it is of all behind it; `most` if of none before.
fn first_where(most: u64, is: impl Fn(u64) -> bool) -> u64 {
    let (mut first, mut end) = (0, most);
    while first < end {
        let middle = first + (end - first) / 2;
        if is(middle) { end = middle } else { first = middle + 1 }
    }
    first
}

/// What is walked of one tensor.
#[derive(Clone, Debug)]
pub(crate) struct TensorExtent {
    /// Which tensor of its shard.
    pub(crate) tensor: usize,
    /// Rows of a tensor that is merged, apart and in order; one range of bytes of one that is copied.
    pub(crate) ranges: Vec<Range<u64>>,
}

/// How much of a plan is walked; by default all.
#[derive(Clone, Debug, Default)]
pub struct Extent {
    /// What is walked of each shard; none for all.
    shards: Option<Vec<Vec<TensorExtent>>>,
    /// Bytes of the output that are walked of these.
    bytes: u64,
}

impl Extent {
    /// All of any plan.
    pub const ALL: Extent = Extent { shards: None, bytes: 0 };

    /// These places of a plan, each once.
    pub(crate) fn of(plan: &Plan, mut places: Vec<OutPlace>) -> Extent {
        places.sort_unstable();
        let bytes = places.iter().map(|place| place.bytes(plan)).sum();
        let mut shards: Vec<Vec<TensorExtent>> = plan.shards.iter().map(|_| Vec::new()).collect();
        for OutPlace { shard, tensor, start, end } in places {
            let is_copied = matches!(plan.shards[shard].tensors[tensor].content, Content::Copy { .. });
            let last = shards[shard].last_mut().filter(|last| last.tensor == tensor && !is_copied);
            match last {
                Some(last) => last.ranges.push(start..end),
                None => shards[shard].push(TensorExtent { tensor, ranges: once(start..end).collect() }),
            }
        }
        Extent { shards: Some(shards), bytes }
    }

    /// Whether it is all of the plan.
    pub(crate) fn is_all(&self) -> bool {
        self.shards.is_none()
    }

    /// Bytes of the output of `plan` that are walked.
    pub(crate) fn output_bytes(&self, plan: &Plan) -> u64 {
        if self.is_all() { plan.output_bytes() } else { self.bytes }
    }

    /// What is walked of a shard; none where that is all of it.
    pub(crate) fn of_shard(&self, shard: usize) -> Option<&[TensorExtent]> {
        self.shards.as_ref().map(|shards| shards[shard].as_slice())
    }
}
