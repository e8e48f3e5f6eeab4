//! The parts of a plan that people and scripts ask for, as data; `report` makes the text.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::adapters::adapter_weight::AdapterWeight;
use crate::plan::out_tensor::{Content, Counts, Plan};

/// The parts of a plan that a reader asks for.
#[derive(Serialize)]
pub struct Explained<'a> {
    /// The plan's digest.
    pub(crate) digest: String,
    /// Tensors by what is done to them.
    pub(crate) tensors: Counts,
    /// Bytes of the output shards.
    pub(crate) output_bytes: u64,
    /// What is decided beyond adding deltas.
    pub(crate) choices: Vec<&'a str>,
    /// The shards: name, bytes, tensors that change.
    pub(crate) shards: Vec<PlannedShard<'a>>,
    /// The adapters: name, weight, type, ops by method.
    pub(crate) adapters: Vec<AdapterLine<'a>>,
    /// Every claim: what is done to which tensor.
    pub(crate) claims: Vec<ClaimLine<'a>>,
    /// Files that are copied.
    #[serde(rename = "carried")]
    pub(crate) copied: Vec<&'a str>,
}

#[derive(Serialize)]
pub(crate) struct PlannedShard<'a> {
    pub(crate) name: &'a str,
    pub(crate) bytes: u64,
    pub(crate) tensors: usize,
    pub(crate) changed: usize,
}

#[derive(Serialize)]
pub(crate) struct AdapterLine<'a> {
    pub(crate) name: &'a str,
    pub(crate) weight: &'a AdapterWeight,
    pub(crate) peft_type: &'a str,
    pub(crate) claims: BTreeMap<&'a str, usize>,
}

#[derive(Serialize)]
pub(crate) struct ClaimLine<'a> {
    pub(crate) adapter: u32,
    pub(crate) module: &'a str,
    pub(crate) method: &'a str,
    pub(crate) tensor: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rank: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) scale: Option<f32>,
    /// What it needs beside any elements of the tensor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) needs: Option<&'static str>,
}

impl Plan {
    /// What a reader asks of it; `digest` is its own, taken while it was no host's.
    pub fn explain(&self, digest: &str) -> Explained<'_> {
        let ops = self.tensors().filter_map(|tensor| match &tensor.content {
            Content::Compute { ops, .. } => Some(ops),
            Content::Copy { .. } => None,
        });
        let mut of_claims = vec![None; self.claims.len()];
        ops.flatten().for_each(|op| of_claims[op.claim.0 as usize] = Some((op.rank(), op.scale, op.needs())));
        let claims = self.claims.iter().zip(of_claims).map(|(claim, op)| ClaimLine {
            adapter: claim.adapter,
            module: &claim.module,
            method: &claim.method,
            tensor: &claim.tensor,
            rank: op.and_then(|(rank, ..)| rank),
            scale: op.map(|(_, scale, _)| scale),
            needs: op.and_then(|(.., needs)| needs),
        });
        Explained {
            digest: digest.to_owned(),
            tensors: self.counts(),
            output_bytes: self.output_bytes(),
            choices: self.choices.iter().map(String::as_str).collect(),
            shards: self
                .shards
                .iter()
                .map(|shard| PlannedShard {
                    name: &shard.name,
                    bytes: shard.bytes,
                    tensors: shard.tensors.len(),
                    changed: shard
                        .tensors
                        .iter()
                        .filter(|t| !matches!(t.content, Content::Copy { claim: None, .. }))
                        .count(),
                })
                .collect(),
            adapters: self
                .adapters
                .iter()
                .enumerate()
                .map(|(i, adapter)| {
                    let mut claims = BTreeMap::new();
                    for claim in self.claims.iter().filter(|claim| claim.adapter == i as u32) {
                        *claims.entry(&*claim.method).or_default() += 1;
                    }
                    AdapterLine {
                        name: &adapter.name,
                        weight: &adapter.weight,
                        peft_type: &adapter.peft_type,
                        claims,
                    }
                })
                .collect(),
            claims: claims.collect(),
            copied: self.copied.iter().map(|file| file.name.as_str()).collect(),
        }
    }
}
