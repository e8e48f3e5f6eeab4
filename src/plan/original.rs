//! The 16-bit checkpoint that a quantized base was made from, for `--base16`: what is encoded again starts from its weights.

use crate::checkpoint::catalogue::{StoredAs, StoredForm};
use crate::checkpoint::discover::Checkpoint;
use crate::checkpoint::quantized::Weights;
use crate::encodings::logical::Logical;
use crate::error::claim::ClaimError;
use crate::error::plan::PlanError;
use crate::error::quantized::QuantizedProblem;
use crate::error::{Error, Result};
use crate::model::outline::Weight;
use crate::plan::planner::Planner;
use crate::tensor::reference::{FileId, TensorRef};

impl Planner<'_> {
    /// The refusal of an original for a base that was not quantized: nothing would be read of it.
    pub(crate) fn needless_original(&self, weights: &Weights) -> Option<Error> {
        let path = self.original.filter(|_| !weights.any())?.location.path();
        Some(PlanError::NeedlessOriginal { path }.into())
    }
}

/// Weights of that checkpoint, as the files of a plan count.
#[derive(Clone, Copy)]
pub(crate) struct Originals<'o> {
    /// It.
    pub(crate) checkpoint: &'o Checkpoint,
    /// Files of the plan before its own.
    pub(crate) files_before: usize,
}

impl Originals<'_> {
    /// The weight that a quantized one was made from, which is stored so.
    ///
    /// # Errors
    /// [`PlanError::NoOriginal`], [`PlanError::OtherOriginal`] for one of another shape; [`ClaimError::Quantized`] for one that is no
    /// plain numbers.
    pub(crate) fn of(&self, quantized: &Weight, stored: Option<&StoredAs>) -> Result<Logical> {
        let (tensor, catalogue) = (|| quantized.name.to_string(), &self.checkpoint.catalogue);
        let refused = |why| ClaimError::Quantized { tensor: tensor(), why: QuantizedProblem::OfScheme(why) };
        let Some(place) = catalogue.position(&quantized.name) else {
            let path = self.checkpoint.location.path();
            return Err(PlanError::NoOriginal { tensor: tensor(), path }.into());
        };
        if form(stored) != form(catalogue.stored(place)) {
            return Err(refused("the checkpoint given with `--base16` has its rows in another order").into());
        }
        let found = &catalogue.tensors[place];
        if found.tensor.shape != quantized.shape {
            let [found, expected] = [&found.tensor.shape, &quantized.shape].map(Clone::clone);
            return Err(PlanError::OtherOriginal { tensor: tensor(), found, expected }.into());
        }
        let file = FileId((self.files_before + found.tensor.file.0 as usize) as u32);
        let own = TensorRef { file, ..found.tensor.clone() };
        Logical::plain(&own)
            .ok_or_else(|| refused("the checkpoint given with `--base16` has no plain numbers for it").into())
    }
}

fn form(stored: Option<&StoredAs>) -> (&StoredForm, bool) {
    stored.map_or((&StoredForm::Same, false), |stored| (&stored.form, stored.is_shifted))
}
