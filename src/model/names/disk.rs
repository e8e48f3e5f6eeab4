//! What a checkpoint's tensors are called and how large they are, as far as names go.

use std::borrow::Cow;

use crate::checkpoint::catalogue::Catalogue;
use crate::checkpoint::quantized::{TensorRole, Weights};
use crate::tensor::shape::Shape;

/// The weights of a checkpoint: what may have a runtime name.
pub trait Disk {
    /// Number of places, of which some may hold no weight.
    fn count(&self) -> usize;
    /// Name and shape of the weight at that place; none for an auxiliary tensor of another (scales, zero points).
    fn weight(&self, place: usize) -> Option<(Cow<'_, str>, &Shape)>;
}

/// Every tensor, as it is stored.
impl Disk for Catalogue {
    fn count(&self) -> usize {
        self.tensors.len()
    }

    fn weight(&self, place: usize) -> Option<(Cow<'_, str>, &Shape)> {
        let tensor = &self.tensors[place];
        Some((Cow::Borrowed(&tensor.name), &tensor.tensor.shape))
    }
}

/// Logical weights: quantized data has the shape of its values and the name of a plain weight, and auxiliary tensors have none.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Logicals<'a> {
    /// The tensors.
    pub catalogue: &'a Catalogue,
    /// What those are that are no plain numbers.
    pub weights: &'a Weights,
}

impl Disk for Logicals<'_> {
    fn count(&self) -> usize {
        self.catalogue.tensors.len()
    }

    fn weight(&self, place: usize) -> Option<(Cow<'_, str>, &Shape)> {
        let (name, shape) = self.catalogue.weight(place)?;
        match self.weights.get(place) {
            None => Some((name, shape)),
            Some(TensorRole::Quantized(quantized)) => {
                Some((quantized.name.as_deref().map_or(name, Cow::Borrowed), quantized.logical.shape()))
            }
            Some(TensorRole::Auxiliary { .. } | TensorRole::Unused) => None,
        }
    }
}
