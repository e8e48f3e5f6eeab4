//! The roles of a checkpoint's tensors: quantized data of a logical weight, auxiliary to it, or plain numbers.

use std::collections::HashMap;
use std::sync::Arc;

use crate::encodings::ENCODINGS;
use crate::encodings::logical::{Candidate, Detected, Logical};
use crate::encodings::scheme::Scheme;
use crate::error::Error;
use crate::error::claim::ClaimError;
use crate::tensor::dtype::is_mergeable;

use crate::checkpoint::catalogue::Catalogue;
use crate::checkpoint::discover::Checkpoint;
use crate::checkpoint::small_tensors::Peek;

/// A weight that is stored as quantized data.
#[derive(Clone, Debug)]
pub(crate) struct QuantizedWeight {
    /// What it is called as plain numbers, where that is not what the data is called.
    pub name: Option<Box<str>>,
    /// What it is made of; the quantized data is its first part.
    pub logical: Arc<Logical>,
}

/// What a tensor is, where it is not plain numbers.
#[derive(Clone, Debug)]
pub(crate) enum TensorRole {
    /// The quantized data of a weight.
    Quantized(QuantizedWeight),
    /// What the values of a weight need beside its data: scales, zero points.
    Auxiliary {
        /// Place of the data among the tensors.
        of: usize,
        /// Which part of the weight it is.
        part: usize,
    },
    /// Something else that only a quantized weight needs, such as the scale of its inputs.
    Unused,
}

/// The tensors of a checkpoint that are no plain numbers, as far as an encoding knows them.
#[derive(Debug, Default)]
pub(crate) struct Weights {
    /// By place; empty if all tensors are plain.
    roles: Vec<Option<TensorRole>>,
    /// Places of data whose weight has another name than it.
    renamed: HashMap<String, usize>,
}

impl Weights {
    /// Asks every encoding about every tensor that is not plain; what is wrong with auxiliary tensors is returned beside.
    pub(crate) fn of(base: &Checkpoint) -> (Weights, Vec<Error>) {
        let (mut weights, mut errors) = (Weights::default(), Vec::new());
        let (catalogue, quantization) = (&base.catalogue, base.config.quantization());
        let peek = Peek::new(base);
        let find = |name: &str| catalogue.find(name).map(|tensor| tensor.tensor.clone());
        let read = |tensor: &_| peek.read(tensor);
        for (i, tensor) in catalogue.tensors.iter().enumerate().filter(|(_, t)| !is_mergeable(t.tensor.dtype))
        {
            let candidate = Candidate {
                name: &tensor.name,
                tensor: &tensor.tensor,
                quantization,
                find: &find,
                read: &read,
            };
            for encoding in ENCODINGS {
                match encoding.detect(&candidate) {
                    Ok(None) => continue,
                    Ok(Some(weight)) => {
                        errors.extend(weights.add(catalogue, i, weight, encoding.scheme()).err());
                    }
                    Err(error) => errors.push(error),
                }
                break;
            }
        }
        (weights, errors)
    }

    fn add(
        &mut self,
        catalogue: &Catalogue,
        data: usize,
        weight: Detected,
        scheme: Option<&Scheme>,
    ) -> Result<(), Error> {
        let Detected { name, logical, auxiliary } = weight;
        let called = &catalogue.tensors[data].name;
        if name != *called {
            let other = catalogue.position(&name).or_else(|| self.renamed.insert(name.clone(), data));
            if let Some(other) = other {
                let why =
                    format!("it is there twice, as `{called}` and as `{}`", catalogue.tensors[other].name);
                return Err(ClaimError::Quantized { tensor: name, why }.into());
            }
        }
        // A place in a file belongs to one tensor, so it finds an auxiliary tensor again without its name.
        self.roles.resize(catalogue.tensors.len(), None);
        for (part, tensor) in logical.parts.iter().enumerate().skip(1) {
            if let Some(i) = catalogue.at(tensor) {
                self.roles[i] = Some(TensorRole::Auxiliary { of: data, part });
            }
        }
        let rows = scheme.into_iter().flat_map(|scheme| scheme.unused);
        let named = rows.flat_map(|row| row.names(called)).filter_map(|name| catalogue.position(&name));
        let detected = auxiliary.iter().filter_map(|tensor| catalogue.at(tensor));
        for i in named.chain(detected) {
            self.roles[i] = Some(TensorRole::Unused);
        }
        let name = (name != *called).then(|| name.into_boxed_str());
        self.roles[data] = Some(TensorRole::Quantized(QuantizedWeight { name, logical: Arc::new(logical) }));
        Ok(())
    }

    /// What a tensor is, if it is not plain.
    pub(crate) fn get(&self, i: usize) -> Option<&TensorRole> {
        self.roles.get(i)?.as_ref()
    }

    /// The place of the tensor of that name, or of the data of the weight of that name.
    pub(crate) fn position(&self, catalogue: &Catalogue, name: &str) -> Option<usize> {
        catalogue.position(name).or_else(|| self.renamed.get(name).copied())
    }

    /// Whether any tensor is quantized data.
    pub(crate) fn any(&self) -> bool {
        !self.roles.is_empty()
    }
}
