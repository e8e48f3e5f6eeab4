//! The split of a plan between hosts: a pure function of the plan and a number of shares, and one share as a plan of its own.
//!
//! A share is a stretch of the output: tensors that follow each other, in whole shards where shards are small enough. So that no
//! host needs to know another, the split knows no host either. Its cost is the most bytes that any share has, which is as small
//! as it can be with the places where the output may be cut.

use std::ops::Range;

use crate::formats::container::MAX_ALIGNMENT;
use crate::formats::header_bytes::HeaderBytes;
use crate::ops::op::ClaimId;
use crate::plan::out_tensor::{Content, OutHeader, OutShard, OutTensor, Plan};
use crate::storage::io::block::BLOCK;

/// Tensors of one shard that follow each other, all of the same share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ShardRange {
    /// Which shard of the plan.
    pub(crate) shard: usize,
    /// Which of its tensors.
    pub(crate) tensors: Range<usize>,
    /// Whether that is all of the shard.
    pub(crate) is_whole: bool,
}

impl ShardRange {
    /// Bytes that stand before its own in a file that has nothing else: with them its blocks are blocks of the shard, which may
    /// share them.
    pub(crate) fn pad(&self, plan: &Plan) -> u64 {
        if self.tensors.start == 0 { 0 } else { self.start(plan) % BLOCK as u64 }
    }

    /// Where in the shard it begins.
    pub(crate) fn start(&self, plan: &Plan) -> u64 {
        if self.tensors.start == 0 { 0 } else { plan.shards[self.shard].tensors[self.tensors.start].offset }
    }

    /// Where in the shard it ends.
    pub(crate) fn end(&self, plan: &Plan) -> u64 {
        let shard = &plan.shards[self.shard];
        if self.tensors.end == shard.tensors.len() {
            shard.bytes
        } else {
            shard.tensors[self.tensors.end].offset
        }
    }

    /// A shard of these tensors alone, in a file of that name.
    fn as_shard(&self, plan: &Plan, name: String) -> OutShard {
        let shard = &plan.shards[self.shard];
        let pad = self.pad(plan);
        let header = if self.tensors.start == 0 {
            shard.header.clone()
        } else {
            OutHeader::Made(HeaderBytes::new(vec![0; pad as usize]))
        };
        let before = self.start(plan) - pad;
        let moved = |tensor: &OutTensor| OutTensor { offset: tensor.offset - before, ..tensor.clone() };
        let tensors = shard.tensors[self.tensors.clone()].iter().map(moved).collect();
        OutShard { name, header, tensors, bytes: self.end(plan) - before }
    }
}

/// What is never cut.
struct Unit {
    shard: usize,
    tensors: Range<usize>,
    bytes: u64,
}

/// The shares of `count` hosts, in order; those behind the last tensor are empty.
pub(crate) fn split(plan: &Plan, count: u32) -> Vec<Vec<ShardRange>> {
    let units = units(plan, u64::from(count.max(1)));
    let most = least_most(&units, u64::from(count.max(1)));
    let mut shares = Vec::new();
    let mut next = 0;
    for left in (0..count as usize).rev() {
        let mut share = Vec::new();
        let mut bytes = 0;
        // One for each of the shares behind this one stays, as long as there are so many.
        while let Some(unit) = units.get(next)
            && (share.is_empty() || bytes + unit.bytes <= most && units.len() - next > left)
        {
            bytes += unit.bytes;
            add(&mut share, unit, plan);
            next += 1;
        }
        shares.push(share);
    }
    shares
}

/// Adds what comes next to a share.
fn add(share: &mut Vec<ShardRange>, unit: &Unit, plan: &Plan) {
    let all = plan.shards[unit.shard].tensors.len();
    let (start, end) = match share.last_mut().filter(|last| last.shard == unit.shard) {
        Some(last) => {
            last.tensors.end = unit.tensors.end;
            last.is_whole = last.tensors == (0..all);
            return;
        }
        None => (unit.tensors.start, unit.tensors.end),
    };
    let is_whole = (start..end) == (0..all);
    share.push(ShardRange { shard: unit.shard, tensors: start..end, is_whole });
}

/// The units of a plan: its shards, or the tensors of a shard that is too large for a share. Where there are as many shards as
/// shares, more is too large than where there are not.
fn units(plan: &Plan, count: u64) -> Vec<Unit> {
    let share = plan.output_bytes().div_ceil(count);
    let most = if plan.shards.len() as u64 >= count { share.saturating_mul(2) } else { share };
    let mut units = Vec::new();
    for (i, shard) in plan.shards.iter().enumerate() {
        if count == 1 || shard.bytes <= most || shard.tensors.is_empty() {
            units.push(Unit { shard: i, tensors: 0..shard.tensors.len(), bytes: shard.bytes });
            continue;
        }
        let first = units.len();
        for (j, tensor) in shard.tensors.iter().enumerate() {
            match units[first..].last_mut() {
                // What has no bytes makes no file of its own.
                Some(last) if tensor.bytes == 0 => last.tensors.end = j + 1,
                Some(_) => units.push(Unit { shard: i, tensors: j..j + 1, bytes: tensor.bytes }),
                None => {
                    let bytes = shard.header.bytes() + tensor.bytes;
                    units.push(Unit { shard: i, tensors: 0..1, bytes });
                }
            }
        }
    }
    units
}

/// The least number of bytes with which `count` shares hold all units in order.
fn least_most(units: &[Unit], count: u64) -> u64 {
    let all: u64 = units.iter().map(|unit| unit.bytes).sum();
    let (mut low, mut high) = (units.iter().map(|unit| unit.bytes).max().unwrap_or(0), all);
    while low < high {
        let most = low + (high - low) / 2;
        if shares_needed(units, most) <= count { high = most } else { low = most + 1 }
    }
    high
}

fn shares_needed(units: &[Unit], most: u64) -> u64 {
    let (mut shares, mut bytes) = (1, 0);
    for unit in units {
        if bytes + unit.bytes > most {
            (shares, bytes) = (shares + 1, 0);
        }
        bytes += unit.bytes;
    }
    shares
}

impl Plan {
    /// Whether it can be one that was made: tensors follow each other, and what is counted has its place.
    pub(crate) fn is_sound(&self) -> bool {
        let has_place = |claim: ClaimId| (claim.0 as usize) < self.claims.len();
        let is_counted = |tensor: &OutTensor| match &tensor.content {
            Content::Copy { claim, .. } => claim.is_none_or(has_place),
            Content::Compute { claim, ops, .. } => {
                claim.is_none_or(has_place) && ops.iter().all(|op| has_place(op.claim))
            }
        };
        let is_laid_out = |shard: &OutShard| {
            let follows = |at: u64, next: u64| next >= at && next - at < MAX_ALIGNMENT;
            let end = shard.tensors.iter().try_fold(shard.header.bytes(), |at, tensor| {
                tensor.offset.checked_add(tensor.bytes).filter(|_| follows(at, tensor.offset))
            });
            end.is_some_and(|end| follows(end, shard.bytes))
        };
        let total = self.shards.iter().try_fold(0_u64, |all, shard| all.checked_add(shard.bytes));
        total.is_some()
            && self.shards.iter().all(is_laid_out)
            && self.claims.iter().all(|claim| {
                (claim.adapter as usize) < self.adapters.len() && claim.combined_in.is_none_or(&has_place)
            })
            && self.tensors().all(is_counted)
    }

    /// The shards of one share. What is only a stretch of a shard gets the name that `name_of` gives it.
    pub(crate) fn share_shards(
        &self,
        share: &[ShardRange],
        name_of: &dyn Fn(&ShardRange) -> String,
    ) -> Vec<OutShard> {
        let own = |range: &ShardRange| {
            let shard = &self.shards[range.shard];
            if range.is_whole { shard.clone() } else { range.as_shard(self, name_of(range)) }
        };
        share.iter().map(own).collect()
    }

    /// One share as a plan of its own, which makes its shards and nothing beside them. What is only a stretch of a shard gets the
    /// name that `name_of` gives it. Claims keep their places, and reach what they do in these tensors.
    pub(crate) fn share(&self, share: &[ShardRange], name_of: &dyn Fn(&ShardRange) -> String) -> Plan {
        let shards = self.share_shards(share, name_of);
        let mut claims = self.claims.clone();
        claims.iter_mut().for_each(|claim| claim.elements = 0);
        for tensor in shards.iter().flat_map(|shard| &shard.tensors) {
            for (claim, elements) in reached(tensor) {
                claims[claim].elements += elements;
            }
        }
        Plan {
            version: self.version.clone(),
            inputs: self.inputs.clone(),
            adapters: self.adapters.clone(),
            choices: Vec::new(),
            shards,
            claims,
            files: Vec::new(),
            copied: Vec::new(),
            sha256: self.sha256,
            undo: self.undo,
            is_inverse: self.is_inverse,
        }
    }
}

/// The claims that reach a tensor, by position, with the elements that they reach there. Of an encoded weight, the first part is
/// counted.
pub(crate) fn reached(tensor: &OutTensor) -> Vec<(usize, u64)> {
    match &tensor.content {
        Content::Copy { claim, .. } => {
            claim.iter().map(|claim| (claim.0 as usize, tensor.shape.elements())).collect()
        }
        Content::Compute { .. } if tensor.part > 0 => Vec::new(),
        Content::Compute { start, claim, ops, .. } => {
            let replaced = claim.iter().map(|claim| (claim.0 as usize, start.shape().elements()));
            let changed = ops.iter().map(|op| (op.claim.0 as usize, op.placement.elements()));
            replaced.chain(changed).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tensor::dtype::Dtype;
    use crate::tensor::reference::{FileId, TensorRef};
    use crate::tensor::shape::Shape;

    /// A plan of shards with tensors of these many bytes.
    fn plan(shards: &[Vec<u64>]) -> Plan {
        let shard = |(i, lens): (usize, &Vec<u64>)| {
            let mut offset = 8;
            let tensors = lens.iter().enumerate().map(|(j, &bytes)| {
                let shape = Shape::new(&[bytes]).expect("one axis");
                let from = TensorRef { file: FileId(0), offset: 0, dtype: Dtype::U8, shape: shape.clone() };
                let content = Content::Copy { from, claim: None };
                let (name, dtype, encoding) = (format!("{i}.{j}").into(), Dtype::U8, "".into());
                let at = offset;
                offset += bytes;
                OutTensor { name, shape, dtype, encoding, part: 0, offset: at, bytes, content }
            });
            let (tensors, header) = (tensors.collect(), OutHeader::Made(HeaderBytes::new(vec![0; 8])));
            OutShard { name: format!("shard {i}"), header, tensors, bytes: offset }
        };
        Plan { shards: shards.iter().enumerate().map(shard).collect(), ..Plan::default() }
    }

    fn bytes(share: &[ShardRange], plan: &Plan) -> u64 {
        share.iter().map(|range| range.end(plan) - range.start(plan)).sum()
    }

    #[test]
    fn shards_stay_whole_where_there_are_enough() {
        let equal = plan(&vec![vec![50, 50]; 8]);
        for count in [1, 2, 3, 5, 8] {
            let shares = split(&equal, count);
            assert!(shares.iter().flatten().all(|range| range.is_whole), "{count}");
            assert!(shares.iter().all(|share| !share.is_empty()), "{count}");
            let most = shares.iter().map(|share| share.len()).max().unwrap();
            assert_eq!(most, 8_usize.div_ceil(count as usize), "{count}");
        }
        let uneven = plan(&[vec![25, 25], vec![25, 25], vec![20]]);
        let shares = split(&uneven, 3);
        assert!(shares.iter().all(|share| share.len() == 1 && share[0].is_whole), "{shares:?}");
    }

    #[test]
    fn one_file_is_cut_between_tensors_and_shares_without_any_are_empty() {
        let one = plan(&[vec![100; 10]]);
        let shares = split(&one, 4);
        let lens: Vec<usize> = shares.iter().map(|share| share[0].tensors.len()).collect();
        assert_eq!(lens.iter().sum::<usize>(), 10);
        assert!(lens.iter().all(|len| (1..=3).contains(len)), "{lens:?}");
        let shares = split(&one, 13);
        assert_eq!(shares.iter().map(Vec::len).collect::<Vec<_>>(), [vec![1; 10], vec![0; 3]].concat());
    }

    #[test]
    fn a_stretch_keeps_its_place_in_a_block() {
        let one = plan(&[vec![5000, 3000, 9000]]);
        let shares = split(&one, 3);
        let own = one.share(&shares[1], &|range| format!("{:?}", range.tensors));
        let [shard] = &own.shards[..] else { panic!("{shares:?}") };
        assert_eq!((shard.name.as_str(), shard.header.bytes()), ("1..2", 5008 % BLOCK as u64));
        assert_eq!(shard.tensors[0].offset, 5008 % BLOCK as u64);
        assert_eq!(shard.bytes, 5008 % BLOCK as u64 + 3000);
        assert_eq!(&*shard.tensors[0].name, "0.1");
    }

    proptest! {
        #[test]
        fn every_tensor_is_in_one_share_and_in_order(
            shards in prop::collection::vec(prop::collection::vec(0_u64..300, 0..12), 0..9),
            count in 1_u32..40,
        ) {
            let plan = plan(&shards);
            let shares = split(&plan, count);
            prop_assert_eq!(shares.len(), count as usize);
            let all: Vec<&ShardRange> = shares.iter().flatten().collect();
            let (mut shard, mut tensor) = (0, 0);
            for range in &all {
                if range.shard != shard {
                    prop_assert_eq!(tensor, plan.shards[shard].tensors.len());
                    (shard, tensor) = (shard + 1, 0);
                }
                prop_assert_eq!((range.shard, range.tensors.start), (shard, tensor));
                tensor = range.tensors.end;
                prop_assert_eq!(range.is_whole, range.tensors == (0..plan.shards[shard].tensors.len()));
            }
            prop_assert_eq!(shard + usize::from(!all.is_empty()), plan.shards.len());
            let total: u64 = shares.iter().map(|share| bytes(share, &plan)).sum();
            prop_assert_eq!(total, plan.output_bytes());
            // No share has more than an even one and what cannot be cut.
            let unit = units(&plan, u64::from(count)).iter().map(|unit| unit.bytes).max().unwrap_or(0);
            let most = shares.iter().map(|share| bytes(share, &plan)).max().unwrap_or(0);
            prop_assert!(most <= plan.output_bytes().div_ceil(u64::from(count)) + unit);
            for share in &shares {
                let own = plan.share(share, &|range| format!("{}.{:?}", range.shard, range.tensors));
                for shard in &own.shards {
                    let end = shard.tensors.last().map_or(shard.header.bytes(), |last| last.offset + last.bytes);
                    prop_assert!(end == shard.bytes && shard.bytes > 0);
                }
            }
        }
    }
}
