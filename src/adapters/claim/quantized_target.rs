//! Base tensors whose numbers are not what they seem: quantized in a way that is not read.

use crate::adapters::claim::context::ClaimContext;
use crate::adapters::claim::locate::join;
use crate::checkpoint::quantized::TensorRole;
use crate::checkpoint::unread::UnreadData;
use crate::encodings::schemes;
use crate::error::Error;
use crate::error::claim::ClaimError;
use crate::error::quantized::QuantizedProblem;
use crate::model::outline::Target;
use crate::tensor::dtype::is_mergeable;

impl ClaimContext<'_> {
    /// Why a base tensor's numbers are not what they seem, if they are not.
    pub(crate) fn quantized(&self, target: Target, name: &str) -> Option<Error> {
        if let Target::Fused(i) = target {
            let slices = self.outline.fused(i).slices;
            return slices.iter().find_map(|slice| {
                let target = Target::Base(slice.tensor);
                self.quantized(target, &self.outline.weight(target).name)
            });
        }
        if let Target::Base(i) = target
            && let Some(error) = self.quantized_base(i, name)
        {
            return error;
        }
        let stem = name.strip_suffix(".weight").unwrap_or(name);
        let catalogue = &self.outline.base.catalogue;
        let may_end = |ending: &str| catalogue.may_have(ending);
        let possible = self.auxiliary.get_or_init(|| schemes::possible_auxiliary(may_end));
        let mut named = schemes::auxiliary_names(&format!("{stem}.weight"), possible).into_iter();
        let auxiliary = named.find(|name| catalogue.find(name).is_some())?;
        Some(quantized(name, QuantizedProblem::HasAuxiliary { name: auxiliary }))
    }

    /// What a base tensor's role says of that; none where it has none.
    fn quantized_base(&self, i: usize, name: &str) -> Option<Option<Error>> {
        let weights = self.outline.weights;
        match weights.get(i) {
            Some(TensorRole::Quantized(_)) => return Some(None),
            Some(_) => return Some(Some(quantized(name, QuantizedProblem::IsAuxiliary))),
            None if weights.is_beside_unread(i) => {
                return Some(Some(quantized(name, QuantizedProblem::IsAuxiliary)));
            }
            None => {}
        }
        let data = weights.unread(i).filter(|data| !data.is_bare())?;
        let tensors = &self.outline.base.catalogue.tensors;
        let beside = data.beside.first().map(|place| tensors[*place].name.to_string());
        let dtype = tensors[i].tensor.dtype;
        let why = QuantizedProblem::StoredAs { dtype, titles: data.titles(), beside };
        Some(Some(quantized(name, why)))
    }

    /// A target without a tensor of its name that is there in quantized form.
    pub(crate) fn quantized_elsewhere(&self, module: &str, name: &str) -> Option<Error> {
        let catalogue = &self.outline.base.catalogue;
        let names = [schemes::data_names(name), schemes::data_names(&join(module, "weight"))].concat();
        let mut places = names.iter().filter_map(|name| catalogue.position(name));
        let place = places
            .find(|place| !is_mergeable(catalogue.tensors[*place].tensor.dtype) || self.is_unread(*place))?;
        let titles = self.outline.weights.unread(place).map(UnreadData::titles);
        let found = catalogue.tensors[place].name.to_string();
        Some(quantized(name, QuantizedProblem::StoredUnder { name: found, titles }))
    }

    fn is_unread(&self, place: usize) -> bool {
        self.outline.weights.unread(place).is_some()
    }
}

fn quantized(tensor: &str, why: QuantizedProblem) -> Error {
    Error::new(ClaimError::Quantized { tensor: tensor.to_owned(), why }).hint(
        "merge into the 16-bit checkpoint that this base was made from, or load the base with transformers, dequantize it \
         and save it first",
    )
}
