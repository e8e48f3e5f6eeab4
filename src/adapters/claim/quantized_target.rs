//! Base tensors whose numbers are not what they seem: quantized in a way that is not read.

use crate::adapters::claim::context::ClaimContext;
use crate::adapters::claim::locate::join;
use serde_json::Value;

use crate::checkpoint::quantized::TensorRole;
use crate::encodings::schemes;
use crate::error::Error;
use crate::error::claim::ClaimError;
use crate::model::outline::Target;
use crate::tensor::dtype::Dtype;

impl ClaimContext<'_> {
    /// Why a base tensor's numbers are not what they seem, if they are not.
    pub(crate) fn quantized(&self, module: &str, target: Target, name: &str) -> Option<Error> {
        if let Target::Fused(i) = target {
            let slices = self.outline.fused(i).slices;
            return slices.iter().find_map(|slice| {
                let target = Target::Base(slice.tensor);
                self.quantized(module, target, &self.outline.weight(target).name)
            });
        }
        if let Target::Base(i) = target
            && let Some(stored) = self.outline.weights.get(i)
        {
            return match stored {
                TensorRole::Quantized(_) => None,
                _ => Some(quantized(name, "it is an auxiliary tensor of another".to_owned())),
            };
        }
        let stem = name.strip_suffix(".weight").unwrap_or(name);
        let mut named = schemes::auxiliary_names(&format!("{stem}.weight")).into_iter();
        if let Some(found) = named.find(|name| self.outline.base.catalogue.find(name).is_some()) {
            return Some(quantized(name, format!("the base has its auxiliary tensor `{found}`")));
        }
        let dtype = self.outline.base.catalogue.find(name)?.tensor.dtype;
        let is_float8 = matches!(dtype, Dtype::F8_E4M3 | Dtype::F8_E5M2 | Dtype::F4);
        let is_covered = self.outline.base.config.quantization().is_some()
            && !self.outline.base.config.is_kept_plain(module);
        if is_covered {
            return Some(quantized(name, covered_by(self.outline.base.config.quantization())));
        }
        is_float8.then(|| quantized(name, format!("its dtype is {dtype:?}")))
    }

    /// A target without a tensor of its name that is there in quantized form.
    pub(crate) fn quantized_elsewhere(&self, module: &str, name: &str) -> Option<Error> {
        let names = [schemes::data_names(name), schemes::data_names(&join(module, "weight"))].concat();
        let found = names.into_iter().find(|name| self.outline.base.catalogue.find(name).is_some())?;
        Some(quantized(name, format!("it is stored as `{found}`")))
    }
}

/// What is said of a tensor that a config counts among those of its scheme.
fn covered_by(quantization: Option<&Value>) -> String {
    let method = quantization.and_then(|config| config.get("quant_method")?.as_str());
    match method.and_then(schemes::titles_of_method) {
        Some(titles) => format!("`quantization_config` of the base covers it ({titles})"),
        None => "`quantization_config` of the base covers it".to_owned(),
    }
}

fn quantized(tensor: &str, why: String) -> Error {
    Error::new(ClaimError::Quantized { tensor: tensor.to_owned(), why }).hint(
        "merge into the 16-bit checkpoint that this base was made from, or load the base with transformers, dequantize it \
         and save it first",
    )
}
