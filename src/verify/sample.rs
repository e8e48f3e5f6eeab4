//! [`Sample`]: some places of the output of a plan, chosen by a seed.
//!
//! Places are whole rows of about a megabyte, or so many bytes of a tensor that is copied. They are counted in the plan alone, so
//! that a seed chooses the same whatever the budget, the threads and the tiles.

use std::collections::BinaryHeap;

use crate::plan::out_tensor::{OutTensor, Plan};
use crate::schedule::cut::MergedTensor;
use crate::schedule::extent::{Extent, OutPlace};

/// Bytes of a place, unless a row has more, or more rows belong together.
const PLACE_BYTES: u64 = 1 << 20;

/// How many places are looked at, and which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sample {
    /// How many.
    pub(crate) count: usize,
    /// What chooses them: the same seed chooses the same of the same plan.
    pub(crate) seed: u64,
}

/// The places that were chosen.
#[derive(Debug, Default)]
pub(crate) struct Chosen {
    /// They.
    pub(crate) extent: Extent,
    /// How many they are, and of how many.
    pub(crate) places: [u64; 2],
    /// The tensors that they are in.
    pub(crate) tensors: usize,
}

impl Sample {
    /// The places whose hashes with the seed are the smallest.
    pub(crate) fn of(&self, plan: &Plan) -> Chosen {
        let (mut chosen, mut all) = (BinaryHeap::new(), 0);
        for (shard, tensors) in plan.shards.iter().map(|shard| &shard.tensors).enumerate() {
            for (tensor, out) in tensors.iter().enumerate() {
                let (end, step) = steps(out);
                for nth in 0..end.div_ceil(step) {
                    let (start, end) = (nth * step, end.min((nth + 1) * step));
                    chosen.push((self.hash(&out.name, nth), OutPlace { shard, tensor, start, end }));
                    all += 1;
                    if chosen.len() > self.count {
                        chosen.pop();
                    }
                }
            }
        }
        let mut places: Vec<OutPlace> = chosen.into_iter().map(|(_, place)| place).collect();
        places.sort_unstable();
        let count = places.len() as u64;
        let tensors = places.chunk_by(|one, other| (one.shard, one.tensor) == (other.shard, other.tensor));
        let tensors = tensors.count();
        Chosen { extent: Extent::of(plan, places), places: [count, all], tensors }
    }

    fn hash(&self, name: &str, nth: u64) -> u64 {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.seed.to_le_bytes()).update(&nth.to_le_bytes()).update(name.as_bytes());
        let hash = hasher.finalize();
        hash.as_bytes().first_chunk().map_or(0, |first| u64::from_le_bytes(*first))
    }
}

/// The rows of a tensor that is merged, or the bytes of one that is copied, and how many of them are a place.
fn steps(tensor: &OutTensor) -> (u64, u64) {
    let Some(merged) = MergedTensor::of(tensor) else { return (tensor.bytes, PLACE_BYTES) };
    let rows = if tensor.bytes == 0 { 0 } else { merged.view.rows };
    let row_bytes = tensor.bytes.div_ceil(rows.max(1)).max(1);
    let least = merged.least().0.max(1);
    (rows, (PLACE_BYTES / row_bytes).max(1).next_multiple_of(least))
}
