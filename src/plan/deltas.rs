//! The plan of what adapters add, alone: every tensor with ops starts from zeros, and is F32. It is read and never written.

use crate::encodings;
use crate::encodings::logical::Logical;
use crate::formats::header_bytes::HeaderBytes;
use crate::ops::op::Op;
use crate::plan::out_content::{merge, out};
use crate::plan::out_tensor::{Content, Input, OutHeader, OutShard, OutTensor, Plan};
use crate::tensor::dtype::Dtype;
use crate::tensor::name::Name;
use crate::tensor::reference::{FileId, TensorRef};

/// A tensor that is no sum of its base and something that its base has no part in, and why.
pub(crate) type NoDelta = (Name, &'static str);

/// The plan of the deltas of `plan`, whose zeros are those of one more file, how long that is, and what has no delta.
pub(crate) fn deltas(
    plan: &Plan,
    is_skipped: &dyn Fn(&str) -> bool,
    zeros: Input,
) -> (Plan, u64, Vec<NoDelta>) {
    let file = FileId(plan.inputs.len() as u32);
    let (mut tensors, mut refused, mut offset, mut longest) = (Vec::new(), Vec::new(), 0, 0);
    for tensor in plan.tensors().filter(|tensor| !is_skipped(&tensor.name)) {
        match delta(tensor, file) {
            Ok(None) => {}
            Ok(Some(delta)) => {
                longest = delta.bytes.max(longest);
                tensors.push(OutTensor { offset, ..delta });
                offset += tensors.last().map_or(0, |tensor| tensor.bytes);
            }
            Err(why) => refused.push((tensor.name.clone(), why)),
        }
    }
    let header = OutHeader::Made(HeaderBytes::new(Vec::new()));
    let shard = OutShard { name: "deltas".to_owned(), header, tensors, bytes: offset };
    let inputs = plan.inputs.iter().cloned().chain([zeros]).collect();
    let plan = Plan { inputs, shards: vec![shard], copied: Vec::new(), files: Vec::new(), ..plan.clone() };
    (plan, longest, refused)
}

/// What is added to a tensor; none if nothing is.
fn delta(tensor: &OutTensor, file: FileId) -> Result<Option<OutTensor>, &'static str> {
    let ops = match &tensor.content {
        Content::Copy { claim: None, .. } => return Ok(None),
        Content::Compute { ops, claim: None, .. } if ops.is_empty() => return Ok(None),
        Content::Compute { ops, claim: None, .. } => ops,
        Content::Copy { .. } | Content::Compute { .. } => return Err("are replaced whole"),
    };
    if !ops.iter().all(|op| op.is_added()) {
        return Err("are not added to, but changed in a way that depends on what they hold");
    }
    let zeros = TensorRef { file, offset: 0, dtype: Dtype::F32, shape: tensor.shape.clone() };
    let start = Logical::plain(&zeros).expect("F32 is plain numbers");
    let content = merge(start, None, ops.iter().map(Op::clone).collect());
    let encoding = encodings::plain(Dtype::F32);
    Ok(Some(out(&tensor.name, Dtype::F32, tensor.shape.clone(), encoding, 0, content)))
}
