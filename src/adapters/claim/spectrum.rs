//! Spectra whose values stand at places that a seed tells: what FourierFT and WaveFT have in common.
//!
//! Nothing of a module's tensors tells its outputs from its inputs, and places count along inputs: how the weight is stored is what the model's
//! family says, or of a model that nobody knows the config's `fan_in_fan_out`.

use crate::adapters::claim::context::ClaimContext;
use crate::adapters::claim::findings::Findings;
use crate::adapters::claim::sparse_entries::entry_count;
use crate::error::claim::ClaimError;
use crate::error::{Error, Result};
use crate::model::heads::{is_embedding, is_head};
use crate::model::outline::Target;

/// Values of a spectrum that are brought to places: their order takes memory that is no tensor's.
const VALUES: u64 = 1 << 20;

/// The layer of a spectrum.
pub(crate) struct SpectrumLayer {
    /// Its weight.
    pub(crate) target: Target,
    /// Outputs and inputs.
    pub(crate) size: (u64, u64),
    /// Whether the weight is stored as `[in, out]`.
    pub(crate) is_transposed: bool,
    /// What the places are drawn by.
    pub(crate) seed: u32,
    /// What values are multiplied by.
    pub(crate) scale: f64,
}

impl SpectrumLayer {
    /// Finds it; `None` if what is wrong is noted already.
    ///
    /// # Errors
    /// [`ClaimError::LayerUnfit`] for layers that PEFT's `what` does not fit, [`ClaimError::FactorShape`] for what is no spectrum of it.
    pub(crate) fn find(
        context: &mut ClaimContext<'_>,
        findings: &mut Findings<'_>,
        module: &str,
        spectrum: usize,
        what: &'static str,
    ) -> Result<Option<SpectrumLayer>> {
        let Some(target) = context.target(findings, &[spectrum], module, "weight") else { return Ok(None) };
        let weight = context.weight(target);
        let (name, shape) = (weight.name, weight.shape);
        let &[rows, columns] = shape.axes() else {
            return Err(unfit(context, spectrum, &name, "no linear layer", what));
        };
        if is_embedding(&name) {
            return Err(unfit(context, spectrum, &name, "an embedding", what));
        }
        let is_transposed = if context.names.conv1d() {
            context.stores_transposed(&name)
        } else {
            context.adapter.options.fan_in_fan_out && !is_head(&name)
        };
        let size = if is_transposed { (columns, rows) } else { (rows, columns) };
        let count = entry_count(context, spectrum)?;
        if count > VALUES || count > rows.saturating_mul(columns) {
            let expected = format!("no more than {VALUES} values, and no more than {shape} has");
            return Err(context.factor_shape(spectrum, expected));
        }
        // As torch takes the last 32 bits of a seed.
        let seed = context.adapter.number("random_loc_seed")? as i64 as u32;
        let scale = context.adapter.own_scale(module, "scaling", context.adapter.number("scaling")?)?;
        Ok(Some(SpectrumLayer { target, size, is_transposed, seed, scale }))
    }
}

fn unfit(
    context: &ClaimContext<'_>,
    spectrum: usize,
    name: &str,
    layer: &'static str,
    method: &'static str,
) -> Error {
    let (adapter, key) = (context.adapter.name.clone(), context.tensor(spectrum).key.to_string());
    ClaimError::LayerUnfit { adapter, key, tensor: name.to_owned(), layer, method }.into()
}
