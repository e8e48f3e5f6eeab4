//! The output's shards: the base's, with the same header bytes, and for every tensor what makes it.

use std::collections::HashMap;

use crate::checkpoint::{BaseTensor, Checkpoint};
use crate::encodings;
use crate::error::Result;
use crate::tensor::{TensorRef, View};

use super::{ClaimId, Logical, Making, Op, OutShard, OutTensor, Placement};

/// What all adapters together do to one base tensor.
#[derive(Default)]
pub(super) struct Touched {
    /// The tensor that stands in its place, and the claim that put it there.
    pub(super) replaced: Option<(TensorRef, ClaimId)>,
    /// What is added to it, in order.
    pub(super) ops: Vec<Op>,
}

/// The output's shards in order, from what the adapters do to each base tensor.
pub(super) fn lay_out(base: &Checkpoint, mut touched: HashMap<usize, Touched>) -> Result<Vec<OutShard>> {
    let mut shards: Vec<OutShard> = base
        .catalogue
        .shards
        .iter()
        .map(|shard| OutShard {
            name: shard.name.clone(),
            header: shard.header.clone(),
            tensors: Vec::new(),
            bytes: shard.bytes,
        })
        .collect();
    for (i, tensor) in base.catalogue.tensors.iter().enumerate() {
        let touched = touched.remove(&i).unwrap_or_default();
        shards[tensor.tensor.file.0 as usize].tensors.push(out_tensor(tensor, touched));
    }
    Ok(shards)
}

/// One output tensor: a copy where bytes can be copied, else a merge from what it starts from.
fn out_tensor(base: &BaseTensor, touched: Touched) -> OutTensor {
    let Touched { replaced, ops } = touched;
    let dtype = base.tensor.dtype;
    let (from, claim) = match replaced {
        Some((value, claim)) => (value, Some(claim)),
        None => (base.tensor.clone(), None),
    };
    let making = if ops.is_empty() && from.dtype == dtype {
        Making::Copy { from, claim }
    } else {
        let placements = ops.iter().map(|op| &op.placement);
        let view = Placement::view(&base.tensor.shape, placements)
            .unwrap_or(View { rows: 1, cols: base.tensor.shape.elements() });
        let encoding = encodings::plain(from.dtype).expect("claims of other dtypes are refused");
        Making::Merge {
            start: Logical { encoding: encoding.name().to_owned(), parts: vec![from] },
            claim,
            ops,
            view,
        }
    };
    OutTensor {
        name: base.name.clone(),
        shape: base.tensor.shape.clone(),
        dtype,
        encoding: encodings::plain(dtype).map_or_else(String::new, |encoding| encoding.name().to_owned()),
        offset: base.tensor.offset,
        bytes: base.tensor.bytes(),
        making,
    }
}
