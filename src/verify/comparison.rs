//! [`Comparison`]: the bytes of a merge, as they pass, held against those of a directory.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::Result;
use crate::plan::out_tensor::{Content, OutTensor, Plan};
use crate::verify::difference::Difference;
use crate::verify::found_tensors::FoundTensors;

/// Bytes that are read at a time.
const STEP: usize = 1 << 20;

/// What a merge gives, held against what is there.
pub(crate) struct Comparison {
    plan: Arc<Plan>,
    /// Where what is there is.
    pub(crate) target: FoundTensors,
    /// Whether merged elements may differ by rounding.
    may_round: bool,
    shards: HashMap<String, usize>,
    state: Mutex<ComparisonState>,
}

/// What the comparison has come to.
struct ComparisonState {
    buf: Vec<u8>,
    /// By shard and tensor of the plan.
    differences: BTreeMap<(usize, usize), Difference>,
}

impl Comparison {
    /// Of what `plan` gives with `target`.
    pub(crate) fn new(plan: Arc<Plan>, target: FoundTensors, may_round: bool) -> Comparison {
        let shards = plan.shards.iter().enumerate().map(|(i, shard)| (shard.name.clone(), i)).collect();
        let state = ComparisonState { buf: vec![0; STEP], differences: BTreeMap::new() };
        Comparison { plan, target, may_round, shards, state: Mutex::new(state) }
    }

    /// Compares bytes of a shard, from `offset` on. Its header is not looked at.
    ///
    /// # Errors
    /// As reading.
    pub(crate) fn pass(&self, name: &str, offset: u64, bytes: &[u8]) -> Result<()> {
        let Some(&shard) = self.shards.get(name) else { return Ok(()) };
        let tensors = &self.plan.shards[shard].tensors;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let end = offset + bytes.len() as u64;
        let first = tensors.partition_point(|tensor| tensor.offset + tensor.bytes <= offset);
        for (i, tensor) in tensors.iter().enumerate().skip(first) {
            if tensor.offset >= end {
                break;
            }
            let from = tensor.offset.max(offset);
            let to = (tensor.offset + tensor.bytes).min(end);
            let piece = &bytes[(from - offset) as usize..(to - offset) as usize];
            self.compare(&mut state, (shard, i), tensor, from - tensor.offset, piece)?;
        }
        Ok(())
    }

    /// Compares a piece of a tensor, from byte `at` of it on.
    fn compare(
        &self,
        state: &mut ComparisonState,
        key: (usize, usize),
        tensor: &OutTensor,
        at: u64,
        expected: &[u8],
    ) -> Result<()> {
        let Some(place) = self.target.place(key.0, key.1) else { return Ok(()) };
        let ComparisonState { buf, differences } = state;
        let may_round = self.may_round && is_merged(tensor);
        for (i, expected) in expected.chunks(STEP).enumerate() {
            let at = at + (i * STEP) as u64;
            let len = self.target.read(place, at, &mut buf[..expected.len()])?;
            let (expected, found) = (&expected[..len], &buf[..len]);
            if expected != found {
                differences.entry(key).or_default().add(tensor.dtype, at, (expected, found), may_round);
            }
        }
        Ok(())
    }

    /// The tensors that differ, by shard and place in it.
    pub(crate) fn take(&self) -> BTreeMap<(usize, usize), Difference> {
        std::mem::take(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner).differences)
    }
}

/// Whether a delta is added to a tensor.
pub(crate) fn is_merged(tensor: &OutTensor) -> bool {
    matches!(&tensor.content, Content::Compute { ops, .. } if !ops.is_empty())
}
