//! Base tensors whose numbers are not what they seem: quantised in a way that is not read.

use crate::adapters::claim::context::ClaimContext;
use crate::adapters::claim::locate::join;
use crate::checkpoint::quantized::Stored;
use crate::error::Error;
use crate::error::kind::ErrorKind;
use crate::model::outline::Target;
use crate::tensor::dtype::Dtype;

impl ClaimContext<'_> {
    /// Why a base tensor's numbers are not what they seem, if they are not.
    pub(crate) fn quantised(&self, module: &str, target: Target, name: &str) -> Option<Error> {
        if let Target::Joined(i) = target {
            let pieces = self.outline.joined(i).pieces;
            return pieces.iter().find_map(|piece| {
                let target = Target::Base(piece.tensor);
                self.quantised(module, target, &self.outline.weight(target).name)
            });
        }
        if let Target::Base(i) = target
            && let Some(stored) = self.outline.weights.get(i)
        {
            return match stored {
                Stored::Coded(_) => None,
                _ => Some(quantised(name, "it is an auxiliary tensor of another".to_owned())),
            };
        }
        let stem = name.strip_suffix(".weight").unwrap_or(name);
        let companions = [
            "weight_scale",
            "weight_scale_inv",
            "scale",
            "qscale_weight",
            "weight_scale_2",
            "weight_packed",
            "SCB",
            "scales",
            "weight.absmax",
            "weight.quant_map",
        ];
        let found = companions.iter().map(|companion| format!("{stem}.{companion}"));
        if let Some(companion) =
            found.into_iter().find(|name| self.outline.base.catalogue.find(name).is_some())
        {
            return Some(quantised(name, format!("the base has its auxiliary tensor `{companion}`")));
        }
        let dtype = self.outline.base.catalogue.find(name)?.tensor.dtype;
        let is_float8 = matches!(dtype, Dtype::F8_E4M3 | Dtype::F8_E5M2 | Dtype::F4);
        let is_covered = self.outline.base.config.quantization().is_some()
            && !self.outline.base.config.is_kept_plain(module);
        if is_covered {
            return Some(quantised(name, "`quantization_config` of the base covers it".to_owned()));
        }
        is_float8.then(|| quantised(name, format!("its dtype is {dtype:?}")))
    }

    /// A target without a tensor of its name that is there in quantised form.
    pub(crate) fn quantised_elsewhere(&self, module: &str, name: &str) -> Option<Error> {
        let packed = ["qweight", "weight_packed"].iter().map(|leaf| join(module, leaf));
        let blocks = [format!("{name}_blocks")];
        let found = packed.chain(blocks).find(|name| self.outline.base.catalogue.find(name).is_some())?;
        Some(quantised(name, format!("it is stored as `{found}`")))
    }
}

fn quantised(tensor: &str, why: String) -> Error {
    Error::new(ErrorKind::Quantized { tensor: tensor.to_owned(), why }).hint(
        "merge into the 16-bit checkpoint that this base was made from, or load the base with transformers, dequantize it \
         and save it first",
    )
}
