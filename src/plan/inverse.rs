//! The plan that takes a merge back: the same shards, of the same tensors, each from the merged one at its place.
//!
//! A tensor that was copied is copied back. One that was made starts from what was made, and has the same ops with the scale
//! negated: that is a plan as any other, and what it gives is the base's weight but where the merge rounded across a binade. A
//! vector that was replaced, or changed by what cannot be taken back so, is taken as it is: few bytes tell what it was.
//! Such a plan there is only where all headers stayed, so that names, types and places are those of the base, and where every op
//! on a matrix adds what does not depend on the weight.

use crate::encodings;
use crate::encodings::logical::Logical;
use crate::error::plan::PlanError;
use crate::error::{Error, Result};
use crate::ops::op::{ClaimId, Op};
use crate::plan::out_content::merge;
use crate::plan::out_tensor::{ClaimRecord, Content, OutHeader, OutShard, OutTensor, Plan, Role};
use crate::plan::share::reached;
use crate::tensor::reference::{FileId, TensorRef};

/// What helps where a merge cannot be taken back.
const CURE: &str = "keep the base to go back to, and merge without `--keep-undo`";

/// Why something cannot be taken back, the first that cannot, and how many others there are.
type Reason = (String, String, usize);

impl Plan {
    /// The plan that takes it back. Its inputs are files with the names and the places of the base's shards, and the adapters.
    /// `is_exact`: whether something puts right what it gives, so that vectors may be taken as they are.
    ///
    /// # Errors
    /// [`PlanError::Irreversible`] for every reason, with the first tensor that has it.
    pub(crate) fn inverse(&self, is_exact: bool) -> Result<Plan> {
        self.check_reversible(is_exact)?;
        let mut plan = Plan { undo: false, is_inverse: true, ..self.clone() };
        for OutShard { header, tensors, .. } in &mut plan.shards {
            let OutHeader::Copied { from, .. } = *header else { continue };
            tensors.iter_mut().for_each(|tensor| invert(tensor, from, &mut plan.claims));
        }
        Ok(plan)
    }

    fn check_reversible(&self, is_exact: bool) -> Result<()> {
        let mut reasons = Vec::new();
        for shard in &self.shards {
            let before = reasons.len();
            for tensor in shard.tensors.iter().filter(|tensor| !(is_exact && is_kept_whole(tensor))) {
                if let Some(why) = self.irreversible(tensor) {
                    add(&mut reasons, &tensor.name, why);
                }
            }
            if reasons.len() == before && !self.has_stayed(shard) {
                let choices = self.choices.first().map_or_else(String::new, |choice| format!(": {choice}"));
                add(&mut reasons, &shard.name, format!("its tensors are not the base's{choices}"));
            }
        }
        if reasons.is_empty()
            && self.tensors().all(|tensor| matches!(tensor.content, Content::Copy { claim: None, .. }))
        {
            add(&mut reasons, "OUTPUT", "nothing is added to any tensor".to_owned());
        }
        let error =
            |(tensor, why, more)| Error::new(PlanError::Irreversible { tensor, more, why }).hint(CURE);
        Error::all(reasons.into_iter().map(error).collect())
    }

    /// Why a tensor cannot become what it was, wherever it is; none if it can.
    fn irreversible(&self, tensor: &OutTensor) -> Option<String> {
        let (claim, ops, is_cast) = match &tensor.content {
            Content::Copy { claim, .. } => (claim, &[][..], false),
            Content::Compute { start, claim, ops, form, .. } => {
                let own = encodings::plain(tensor.dtype).map(|plain| plain.name());
                (claim, ops.as_slice(), form.is_some() || own != Some(start.encoding()))
            }
        };
        let other = |op: &&Op| !op.is_added();
        if let Some(claim) = claim {
            let (_, adapter) = self.claimed_by(*claim);
            Some(format!("adapter `{adapter}` stores it in full"))
        } else if let Some(op) = ops.iter().find(other) {
            let (method, adapter) = self.claimed_by(op.claim);
            Some(format!("what adapter `{adapter}` does ({method}) depends on the weight"))
        } else {
            is_cast.then(|| "it is written in another type than the base's, or quantized".to_owned())
        }
    }

    /// Whether all tensors of a shard are those of one of the base's, at their places.
    fn has_stayed(&self, shard: &OutShard) -> bool {
        let OutHeader::Copied { from: file, .. } = shard.header else { return false };
        let is_there =
            |from: &TensorRef, tensor: &OutTensor| from.file == file && from.offset == tensor.offset;
        let has_stayed = |tensor: &OutTensor| match &tensor.content {
            Content::Copy { claim: Some(_), .. } | Content::Compute { claim: Some(_), .. } => true,
            Content::Copy { from, .. } => is_there(from, tensor),
            Content::Compute { start, .. } => {
                start.parts().first().is_some_and(|from| is_there(from, tensor))
            }
        };
        self.input(file).role == Role::Base && shard.tensors.iter().all(has_stayed)
    }

    /// The method and the adapter of a claim.
    fn claimed_by(&self, claim: ClaimId) -> (&str, &str) {
        let claim = &self.claims[claim.0 as usize];
        (&claim.method, &self.adapters[claim.adapter as usize].name)
    }
}

fn add(reasons: &mut Vec<Reason>, name: &str, why: String) {
    match reasons.iter_mut().find(|(_, known, _)| *known == why) {
        Some((_, _, more)) => *more += 1,
        None => reasons.push((name.to_owned(), why, 0)),
    }
}

/// Whether a tensor is changed by what cannot be taken back, and is so small that it may be told whole: a norm or a bias.
fn is_kept_whole(tensor: &OutTensor) -> bool {
    let is_changed = match &tensor.content {
        Content::Copy { claim, .. } => claim.is_some(),
        Content::Compute { claim, ops, form, .. } => {
            form.is_none() && (claim.is_some() || ops.iter().any(|op| !op.is_added()))
        }
    };
    is_changed && tensor.shape.axes().len() == 1 && encodings::plain(tensor.dtype).is_some()
}

/// Makes of a tensor what makes it again of the merged one, which lies in `file` where it lies.
fn invert(tensor: &mut OutTensor, file: FileId, claims: &mut [ClaimRecord]) {
    if is_kept_whole(tensor) {
        for (claim, elements) in reached(tensor) {
            claims[claim].elements -= elements;
        }
        let from =
            TensorRef { file, offset: tensor.offset, dtype: tensor.dtype, shape: tensor.shape.clone() };
        tensor.content = merge(Logical::plain(&from).expect("numbers of a plain type"), None, Vec::new());
    } else if let Content::Compute { ops, .. } = &mut tensor.content {
        ops.iter_mut().for_each(|op| op.scale = -op.scale);
    }
}
