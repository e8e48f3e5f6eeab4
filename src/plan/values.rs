//! The plan of checkpoints' values: quantized weights decoded to F32, all else as it is stored. It is read and never written.
//!
//! Tensors have the names of the running model, and each checkpoint is one shard, so that several are read with one schedule and
//! one budget.

use crate::checkpoint::discover::Checkpoint;
use crate::checkpoint::quantized::{TensorRole, Weights};
use crate::error::{Error, Result};
use crate::formats::header_bytes::HeaderBytes;
use crate::model::outline::Outline;
use crate::model::tied::Tied;
use crate::plan::check::check_dubious;
use crate::plan::layout::decoded;
use crate::plan::out_content::{TensorEdits, copied};
use crate::plan::out_tensor::{Input, OutHeader, OutShard, OutTensor, Plan, Role};
use crate::tensor::dtype::Dtype;
use crate::tensor::reference::{FileId, TensorRef};

/// A plan whose shards are these checkpoints, one each.
///
/// # Errors
/// [`ClaimError::Quantized`](crate::error::claim::ClaimError::Quantized) for weights that cannot be decoded or trusted.
pub(crate) fn values(checkpoints: &[(Checkpoint, Weights)]) -> Result<Plan> {
    let mut plan = Plan { version: env!("CARGO_PKG_VERSION").to_owned(), ..Plan::default() };
    for (base, weights) in checkpoints {
        let outline = Outline::new(base, weights, Tied::Untie);
        Error::all(check_dubious(&outline, |_| true))?;
        plan.shards.push(shard(base, weights, plan.inputs.len())?);
        plan.inputs.extend(base.catalogue.shards.iter().map(|shard| Input {
            role: Role::Base,
            name: shard.name.clone(),
            identity: shard.identity.clone(),
        }));
    }
    Ok(plan)
}

/// The values of one checkpoint, whose files count from `files` on.
fn shard(base: &Checkpoint, weights: &Weights, files: usize) -> Result<OutShard> {
    let (mut tensors, mut bytes) = (Vec::new(), 0);
    for i in 0..base.catalogue.tensors.len() {
        if let Some(tensor) = tensor(base, weights, (i, files))? {
            tensors.push(OutTensor { offset: bytes, ..tensor });
            bytes += tensors.last().map_or(0, |tensor| tensor.bytes);
        }
    }
    // Nobody reads a name or a header: all there is of it are places.
    let header = OutHeader::Made(HeaderBytes::new(Vec::new()));
    Ok(OutShard { name: format!("values-{files}"), header, tensors, bytes })
}

/// The values of the tensor at place `i`; none for what only decoding needs.
fn tensor(base: &Checkpoint, weights: &Weights, (i, files): (usize, usize)) -> Result<Option<OutTensor>> {
    let stored = &base.catalogue.tensors[i];
    match weights.get(i) {
        None => {
            let file = FileId((files + stored.tensor.file.0 as usize) as u32);
            Ok(Some(copied((&stored.name, &TensorRef { file, ..stored.tensor.clone() }))))
        }
        Some(TensorRole::Quantized(quantized)) => {
            let name = quantized.name.as_ref().unwrap_or(&stored.name);
            decoded(name, Dtype::F32, &quantized.logical.behind(files), TensorEdits::default()).map(Some)
        }
        Some(TensorRole::Auxiliary { .. } | TensorRole::Unused) => Ok(None),
    }
}
