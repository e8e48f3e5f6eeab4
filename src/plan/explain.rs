//! A plan in words and as JSON: what would be done, for people and for scripts.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::memory::size::show_size;

use crate::plan::out_tensor::{Counts, Making, Plan};

/// The parts of a plan that a reader asks for.
#[derive(Serialize)]
pub struct Explained<'a> {
    /// The plan's digest.
    digest: String,
    /// Tensors by what is done to them.
    tensors: Counts,
    /// Bytes of the output shards.
    output_bytes: u64,
    /// What is decided beyond adding deltas.
    choices: Vec<&'a str>,
    /// The shards: name, bytes, tensors that change.
    shards: Vec<ShardLine<'a>>,
    /// The adapters: name, weight, type, ops by method.
    adapters: Vec<AdapterLine<'a>>,
    /// Every claim: what is done to which tensor.
    claims: Vec<ClaimLine<'a>>,
    /// Files carried over.
    carried: Vec<&'a str>,
}

#[derive(Serialize)]
struct ShardLine<'a> {
    name: &'a str,
    bytes: u64,
    tensors: usize,
    changed: usize,
}

#[derive(Serialize)]
struct AdapterLine<'a> {
    name: &'a str,
    weight: f64,
    peft_type: &'a str,
    claims: BTreeMap<&'a str, usize>,
}

#[derive(Serialize)]
struct ClaimLine<'a> {
    adapter: u32,
    module: &'a str,
    method: &'a str,
    tensor: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    rank: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scale: Option<f32>,
}

impl Plan {
    /// What a reader asks of it; `digest` is its own, taken while it was no host's.
    pub fn explain(&self, digest: &str) -> Explained<'_> {
        let ops = self.tensors().filter_map(|tensor| match &tensor.making {
            Making::Merge { ops, .. } => Some(ops),
            Making::Copy { .. } => None,
        });
        let by_claim: BTreeMap<u32, (Option<u64>, f32)> =
            ops.flatten().map(|op| (op.claim.0, (op.rank(), op.scale))).collect();
        let claims = self.claims.iter().enumerate().map(|(i, claim)| {
            let op = by_claim.get(&(i as u32));
            ClaimLine {
                adapter: claim.adapter,
                module: &claim.module,
                method: &claim.method,
                tensor: &claim.tensor,
                rank: op.and_then(|(rank, _)| *rank),
                scale: op.map(|(_, scale)| *scale),
            }
        });
        Explained {
            digest: digest.to_owned(),
            tensors: self.counts(),
            output_bytes: self.output_bytes(),
            choices: self.choices.iter().map(String::as_str).collect(),
            shards: self
                .shards
                .iter()
                .map(|shard| ShardLine {
                    name: &shard.name,
                    bytes: shard.bytes,
                    tensors: shard.tensors.len(),
                    changed: shard
                        .tensors
                        .iter()
                        .filter(|t| !matches!(t.making, Making::Copy { claim: None, .. }))
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
                        *claims.entry(claim.method.as_str()).or_default() += 1;
                    }
                    AdapterLine {
                        name: &adapter.name,
                        weight: adapter.weight,
                        peft_type: &adapter.peft_type,
                        claims,
                    }
                })
                .collect(),
            claims: claims.collect(),
            carried: self.carried.iter().map(|file| file.name.as_str()).collect(),
        }
    }
}

/// Rows of a table that are shown before the rest is counted.
const SHOWN: usize = 12;

impl fmt::Display for Explained<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, adapter) in self.adapters.iter().enumerate() {
            let claims: Vec<String> =
                adapter.claims.iter().map(|(method, n)| format!("{n} {method}")).collect();
            let weight =
                if adapter.weight == 1.0 { String::new() } else { format!(" × {}", adapter.weight) };
            writeln!(
                f,
                "adapter {}  {}{weight} ({}): {}",
                i + 1,
                adapter.name,
                adapter.peft_type,
                claims.join(", ")
            )?;
        }
        for choice in &self.choices {
            writeln!(f, "choice     {choice}")?;
        }
        writeln!(f, "tensors    {}", self.tensors)?;
        writeln!(
            f,
            "output     {} in {} shard{}",
            show_size(self.output_bytes),
            self.shards.len(),
            if self.shards.len() == 1 { "" } else { "s" }
        )?;
        for shard in self.shards.iter().take(SHOWN) {
            writeln!(
                f,
                "           {}  {}  {} of {} tensors change",
                shard.name,
                show_size(shard.bytes),
                shard.changed,
                shard.tensors
            )?;
        }
        if self.shards.len() > SHOWN {
            writeln!(f, "           … and {} more", self.shards.len() - SHOWN)?;
        }
        for claim in self.claims.iter().take(SHOWN) {
            let numbers = match (claim.rank, claim.scale) {
                (Some(rank), Some(scale)) => format!("  rank {rank}, scale {scale}"),
                (None, Some(scale)) if scale != 1.0 => format!("  scale {scale}"),
                _ => String::new(),
            };
            writeln!(f, "  {}  {}{numbers}", claim.method, claim.tensor)?;
        }
        if self.claims.len() > SHOWN {
            writeln!(f, "  … and {} more (`--json` lists them all)", self.claims.len() - SHOWN)?;
        }
        Ok(())
    }
}
