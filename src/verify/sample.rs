//! [`Sample`]: some tensors of a plan, chosen by a seed.

use std::collections::HashSet;

use crate::formats::header_bytes::HeaderBytes;
use crate::plan::out_tensor::{OutHeader, OutShard, OutTensor, Plan};

/// How many tensors are looked at, and which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sample {
    /// How many.
    pub(crate) count: usize,
    /// What chooses them: the same seed chooses the same of the same plan.
    pub(crate) seed: u64,
}

impl Sample {
    /// The part of a plan that gives the chosen tensors and nothing else.
    pub(crate) fn part_of(&self, plan: &Plan) -> Plan {
        let chosen = self.choose(plan);
        let mut number = 0;
        let mut is_chosen = |_: &&OutTensor| {
            number += 1;
            chosen.contains(&(number - 1))
        };
        let shard = |shard: &OutShard| {
            let mut bytes = 0;
            let tensors = shard.tensors.iter().filter(&mut is_chosen).map(|tensor| {
                let offset = bytes;
                bytes += tensor.bytes;
                OutTensor { offset, ..tensor.clone() }
            });
            let tensors = tensors.collect();
            let header = OutHeader::Made(HeaderBytes::new(Vec::new()));
            OutShard { name: shard.name.clone(), header, tensors, bytes }
        };
        let mut shards: Vec<OutShard> = plan.shards.iter().map(shard).collect();
        shards.retain(|shard| !shard.tensors.is_empty());
        Plan { shards, ..plan.clone() }
    }

    /// Numbers of the tensors that are chosen: those whose hashes with the seed are the smallest.
    fn choose(&self, plan: &Plan) -> HashSet<usize> {
        let hash = |tensor: &OutTensor| {
            let mut hasher = blake3::Hasher::new();
            hasher.update(&self.seed.to_le_bytes()).update(tensor.name.as_bytes());
            *hasher.finalize().as_bytes()
        };
        let mut all: Vec<_> = plan.tensors().enumerate().map(|(i, tensor)| (hash(tensor), i)).collect();
        all.sort_unstable();
        all.into_iter().take(self.count).map(|(_, i)| i).collect()
    }
}
