//! The base as training saw it that quantized it in memory: which of its weights are taken so.

use crate::checkpoint::quantized::Weights;
use crate::encodings::in_training::{ACCEPTED, InTraining};
use crate::error::Result;
use crate::error::request::RequestError;
use crate::model::linear::{is_stored_turned, linear_layer};
use crate::note::plan::PlanNote;

use crate::plan::planner::Planner;

/// The flag that asks for it.
const FLAG: &str = "--base-as";

impl Planner<'_> {
    /// Takes the weights of linear layers as training saw them, if that is asked for; what is told of it.
    ///
    /// # Errors
    /// [`RequestError::Usage`] for what is not understood, and for a base that this cannot be said of.
    pub(crate) fn see_in_training(&self, weights: &mut Weights) -> Result<Option<PlanNote>> {
        let Some(text) = self.base_as else { return Ok(None) };
        let refused = |accepted| RequestError::Usage { flag: FLAG, value: text.to_owned(), accepted };
        let asked = InTraining::read(text).ok_or_else(|| refused(ACCEPTED))?;
        if let Some(accepted) = self.not_seen(weights) {
            return Err(refused(accepted).into());
        }
        let (mut count, mut skipped) = (0, 0);
        for (place, tensor) in self.base.catalogue.tensors.iter().enumerate() {
            let Some(module) = linear_layer(tensor) else { continue };
            if asked.skips(module) {
                skipped += 1;
            } else if let Some(logical) = asked.seen(&tensor.tensor) {
                weights.see_in_training(&self.base.catalogue, place, logical);
                count += 1;
            }
        }
        if count == 0 {
            return Err(refused("the base has no linear layer that is not skipped").into());
        }
        Ok(Some(PlanNote::BaseInTraining { scheme: asked.title(), count, skipped }))
    }

    /// Why the base cannot be seen so, if it cannot.
    fn not_seen(&self, weights: &Weights) -> Option<&'static str> {
        if weights.any() {
            return Some(
                "the base is quantized already, so that its weights are what training saw: merge without this flag",
            );
        }
        if self.keep_quantized {
            return Some(
                "the result is written in 16 bit, so that it cannot be asked for with `--keep-quantized`",
            );
        }
        is_stored_turned(&self.base.config).then_some(
            "linear layers of this model type are stored turned round, and blocks of the other way are not made: merge without \
             this flag",
        )
    }
}
