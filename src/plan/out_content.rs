//! What output tensors are made of: copies, and merges that start from something.

use crate::encodings;
use crate::encodings::encoding::Encoding;
use crate::encodings::logical::Logical;
use crate::error::Result;
use crate::error::claim::ClaimError;
use crate::error::quantized::QuantizedProblem;
use crate::ops::op::{ClaimId, Op};
use crate::ops::placement::Placement;
use crate::plan::out_tensor::{Content, OutTensor};
use crate::tensor::dtype::{Dtype, bytes_of};
use crate::tensor::name::Name;
use crate::tensor::rect::View;
use crate::tensor::reference::TensorRef;
use crate::tensor::shape::Shape;

/// What all adapters together do to one tensor.
#[derive(Default)]
pub(crate) struct TensorEdits {
    /// The tensor that stands in its place, and the claim that put it there: few tensors have one.
    pub(crate) replaced: Option<Box<(TensorRef, ClaimId)>>,
    /// What is done to it, in order.
    pub(crate) ops: Vec<Op>,
}

impl TensorEdits {
    pub(crate) fn is_nothing(&self) -> bool {
        self.replaced.is_none() && self.ops.is_empty()
    }
}

/// A tensor of plain numbers: a copy where bytes can be copied, else a merge from what it starts from.
pub(crate) fn plain(
    name: &Name,
    dtype: Dtype,
    shape: Shape,
    base: Option<&TensorRef>,
    edits: TensorEdits,
) -> OutTensor {
    let (from, claim) = match edits.replaced.as_deref() {
        Some((value, claim)) => (value, Some(*claim)),
        None => (base.expect("a tensor that only an adapter has is a replacement"), None),
    };
    let content = if edits.ops.is_empty() && from.dtype == dtype {
        Content::Copy { from: from.clone(), claim }
    } else {
        let start = Logical::plain(from).expect("claims of other dtypes are refused");
        merge(start, claim, edits.ops)
    };
    out(name, dtype, shape, encodings::plain(dtype), 0, content)
}

/// Quantized data is decoded row by row, so that a delta must see them as rows of their last axis.
pub(crate) fn refuse_other_views(name: &str, content: &Content) -> Result<()> {
    let Content::Compute { start, view, form, .. } = content else { return Ok(()) };
    let start = form.as_deref().unwrap_or(start);
    let is_coded = encodings::find(start.encoding()).is_some_and(|encoding| encoding.plain().is_none());
    if is_coded && start.shape().axes().last().is_some_and(|cols| *cols != view.cols) {
        let (tensor, why) = (name.to_owned(), QuantizedProblem::AcrossRows);
        return Err(ClaimError::Quantized { tensor, why }.into());
    }
    Ok(())
}

pub(crate) fn copied((name, tensor): (&Name, &TensorRef)) -> OutTensor {
    let content = Content::Copy { from: tensor.clone(), claim: None };
    out(name, tensor.dtype, tensor.shape.clone(), encodings::plain(tensor.dtype), 0, content)
}

pub(crate) fn merge(start: Logical, claim: Option<ClaimId>, ops: Vec<Op>) -> Content {
    let placements = ops.iter().map(|op| &op.placement);
    let elements = start.shape().elements();
    let view = Placement::view(start.shape(), placements).unwrap_or(View { rows: 1, cols: elements });
    Content::Compute { start, claim, ops, view, form: None, fresh: false }
}

pub(crate) fn out(
    name: &Name,
    dtype: Dtype,
    shape: Shape,
    encoding: Option<&dyn Encoding>,
    part: usize,
    content: Content,
) -> OutTensor {
    let bytes = bytes_of(dtype, shape.elements()).expect("every shape here fits a file");
    let encoding = encoding.map_or("", |encoding| encoding.name()).into();
    let part = u8::try_from(part).expect("encodings have a few parts");
    OutTensor { name: name.clone(), shape, dtype, encoding, part, offset: 0, bytes, content }
}
