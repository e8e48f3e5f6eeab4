//! Which tensors of a checkpoint are codes of a logical weight, and which are its companions.

use std::collections::HashMap;
use std::sync::Arc;

use crate::encodings::ENCODINGS;
use crate::encodings::logical::{Found, Logical, Recognised};
use crate::error::Error;
use crate::error::kind::ErrorKind;
use crate::tensor::dtype::is_mergeable;

use crate::checkpoint::catalogue::Catalogue;
use crate::checkpoint::discover::Checkpoint;
use crate::checkpoint::small_tensors::Peek;

/// A weight that is stored as codes.
#[derive(Clone, Debug)]
pub(crate) struct Coded {
    /// What it is called as plain numbers, where that is not what the codes are called.
    pub name: Option<Box<str>>,
    /// What it is made of; the codes are its first part.
    pub logical: Arc<Logical>,
}

/// What a tensor is, where it is not plain numbers.
#[derive(Clone, Debug)]
pub(crate) enum Stored {
    /// The codes of a weight.
    Coded(Coded),
    /// A companion (scales) of the weight at this place: the part of it that it is.
    Companion {
        /// Place of the codes among the tensors.
        of: usize,
        /// Which part.
        part: usize,
    },
    /// Something else that only an encoded weight needs, such as the scale of its inputs.
    Aside,
}

/// What a runtime reads beside the codes of `X.weight`, and no value depends on.
const ASIDE: &[&str] = &["input_scale", "activation_scale"];

/// The tensors of a checkpoint that are no plain numbers, as far as an encoding knows them.
#[derive(Debug, Default)]
pub(crate) struct Weights {
    /// By place; empty if all tensors are plain.
    stored: Vec<Option<Stored>>,
    /// Places of codes whose weight has another name than they.
    renamed: HashMap<String, usize>,
}

impl Weights {
    /// Asks every encoding about every tensor that is not plain; what is wrong with companions is returned beside.
    pub(crate) fn of(base: &Checkpoint) -> (Weights, Vec<Error>) {
        let (mut weights, mut errors) = (Weights::default(), Vec::new());
        let (catalogue, quantization) = (&base.catalogue, base.config.quantization());
        let peek = Peek::new(base);
        let find = |name: &str| catalogue.find(name).map(|tensor| tensor.tensor.clone());
        let read = |tensor: &_| peek.read(tensor);
        for (i, tensor) in catalogue.tensors.iter().enumerate().filter(|(_, t)| !is_mergeable(t.tensor.dtype))
        {
            let found =
                Found { name: &tensor.name, tensor: &tensor.tensor, quantization, find: &find, read: &read };
            for encoding in ENCODINGS {
                match encoding.recognise(&found) {
                    Ok(None) => continue,
                    Ok(Some(weight)) => errors.extend(weights.add(catalogue, i, weight).err()),
                    Err(error) => errors.push(error),
                }
                break;
            }
        }
        (weights, errors)
    }

    fn add(&mut self, catalogue: &Catalogue, codes: usize, weight: Recognised) -> Result<(), Error> {
        let Recognised { name, logical, beside } = weight;
        let called = &catalogue.tensors[codes].name;
        if name != *called {
            let other = catalogue.position(&name).or_else(|| self.renamed.insert(name.clone(), codes));
            if let Some(other) = other {
                let why =
                    format!("it is there twice, as `{called}` and as `{}`", catalogue.tensors[other].name);
                return Err(ErrorKind::Quantized { tensor: name, why }.into());
            }
        }
        // A place in a file belongs to one tensor, so it finds a companion again without its name.
        self.stored.resize(catalogue.tensors.len(), None);
        for (part, tensor) in logical.parts.iter().enumerate().skip(1) {
            if let Some(i) = catalogue.at(tensor) {
                self.stored[i] = Some(Stored::Companion { of: codes, part });
            }
        }
        let stem = name.strip_suffix("weight");
        let aside = ASIDE.iter().filter_map(|aside| catalogue.position(&format!("{}{aside}", stem?)));
        let beside = beside.iter().filter_map(|tensor| catalogue.at(tensor));
        for i in aside.chain(beside) {
            self.stored[i] = Some(Stored::Aside);
        }
        let name = (name != *called).then(|| name.into_boxed_str());
        self.stored[codes] = Some(Stored::Coded(Coded { name, logical: Arc::new(logical) }));
        Ok(())
    }

    /// What a tensor is, if it is not plain.
    pub(crate) fn get(&self, i: usize) -> Option<&Stored> {
        self.stored.get(i)?.as_ref()
    }

    /// The place of the tensor of that name, or of the codes of the weight of that name.
    pub(crate) fn position(&self, catalogue: &Catalogue, name: &str) -> Option<usize> {
        catalogue.position(name).or_else(|| self.renamed.get(name).copied())
    }

    /// Whether any tensor is codes.
    pub(crate) fn any(&self) -> bool {
        !self.stored.is_empty()
    }
}
