//! Which tensors of a checkpoint are codes of a logical weight, and which are its companions.

use std::collections::HashMap;
use std::sync::Arc;

use crate::encodings::{ENCODINGS, Found, Logical};
use crate::error::Error;
use crate::tensor::is_mergeable;

use super::{Catalogue, Config};

/// What a tensor is, where it is not plain numbers.
#[derive(Clone, Debug)]
pub enum Stored {
    /// The codes of a weight, which is written under the tensor's name.
    Coded(Arc<Logical>),
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
pub struct Weights {
    stored: HashMap<usize, Stored>,
}

impl Weights {
    /// Asks every encoding about every tensor that is not plain; what is wrong with companions is returned beside.
    pub fn of(catalogue: &Catalogue, config: &Config) -> (Weights, Vec<Error>) {
        let (mut weights, mut errors) = (Weights::default(), Vec::new());
        let find = |name: &str| catalogue.find(name).map(|tensor| tensor.tensor.clone());
        for (i, tensor) in catalogue.tensors.iter().enumerate().filter(|(_, t)| !is_mergeable(t.tensor.dtype))
        {
            let quantization = config.quantization();
            let found = Found { name: &tensor.name, tensor: &tensor.tensor, quantization, find: &find };
            for encoding in ENCODINGS {
                match encoding.recognise(&found) {
                    Ok(None) => continue,
                    Ok(Some(logical)) => weights.add(catalogue, i, logical),
                    Err(error) => errors.push(error),
                }
                break;
            }
        }
        (weights, errors)
    }

    fn add(&mut self, catalogue: &Catalogue, codes: usize, logical: Logical) {
        for (part, tensor) in logical.parts.iter().enumerate().skip(1) {
            // A place in a file belongs to one tensor, so it finds a companion again without its name.
            if let Some(i) = catalogue.at(tensor) {
                self.stored.insert(i, Stored::Companion { of: codes, part });
            }
        }
        let name = &catalogue.tensors[codes].name;
        if let Some(stem) = name.strip_suffix("weight") {
            let aside = ASIDE.iter().filter_map(|aside| catalogue.position(&format!("{stem}{aside}")));
            self.stored.extend(aside.map(|i| (i, Stored::Aside)));
        }
        self.stored.insert(codes, Stored::Coded(Arc::new(logical)));
    }

    /// What a tensor is, if it is not plain.
    pub fn get(&self, i: usize) -> Option<&Stored> {
        self.stored.get(&i)
    }

    /// Whether any tensor is codes.
    pub fn any(&self) -> bool {
        !self.stored.is_empty()
    }
}
