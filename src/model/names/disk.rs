//! What a checkpoint's tensors are called and how large they are, as far as names go.

use std::borrow::Cow;

use crate::checkpoint::catalogue::{Catalogue, StoredForm};
use crate::checkpoint::quantized::{TensorRole, Weights};
use crate::encodings::encoding::WrittenOrder;
use crate::encodings::transposed::exchanged;
use crate::model::names::param_slice::{ParamSlice, StoredSlice};
use crate::tensor::shape::Shape;

/// The weights of a checkpoint: what may have a runtime name.
///
/// The first places are those of the checkpoint's tensors, in their order; a place behind them is that of a weight that is only a part
/// of a tensor, or another view of one. So a place is no tensor's number: [`Disk::slices`] says where its values are.
pub trait Disk {
    /// Number of places, of which some may hold no weight.
    fn count(&self) -> usize;
    /// Name and shape of the weight at that place; none for an auxiliary tensor of another (scales, zero points), and for one that
    /// has weights at places of their own.
    fn weight(&self, place: usize) -> Option<(Cow<'_, str>, &Shape)>;
    /// The tensors that the weight at that place is made of: it itself, if nothing else is said.
    fn slices(&self, place: usize) -> Vec<StoredSlice> {
        let whole =
            |(_, shape): (_, &Shape)| StoredSlice { tensor: place, slice: ParamSlice::whole(shape.axes()) };
        self.weight(place).map(whole).into_iter().collect()
    }
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

/// Logical weights: quantized data has the shape of its values and the name of a plain weight, and auxiliary tensors have none. A
/// stack of experts is as many weights as it has matrices, under the names that single ones have: so all that is known of checkpoints
/// with single experts holds for it.
#[derive(Debug)]
pub(crate) struct Logicals<'a> {
    catalogue: &'a Catalogue,
    weights: &'a Weights,
    /// Tensors whose weights have places behind those of tensors, in the order of these.
    viewed: Vec<ViewedTensor>,
    count: usize,
}

/// A tensor that is no weight as it is.
#[derive(Debug)]
struct ViewedTensor {
    tensor: usize,
    /// The first place of its weights.
    first: usize,
    shapes: ViewShapes,
}

/// The shapes of a tensor's weights.
#[derive(Debug)]
enum ViewShapes {
    /// That of each of so many.
    Same(u64, Shape),
    /// Of each its own.
    Own(Vec<Shape>),
}

impl ViewShapes {
    fn count(&self) -> u64 {
        match self {
            ViewShapes::Same(count, _) => *count,
            ViewShapes::Own(shapes) => shapes.len() as u64,
        }
    }

    fn of(&self, number: u64) -> Option<&Shape> {
        match self {
            ViewShapes::Same(_, shape) => Some(shape),
            ViewShapes::Own(shapes) => shapes.get(number as usize),
        }
    }
}

impl<'a> Logicals<'a> {
    /// The tensors, of which `weights` says what those are that are no plain numbers.
    pub(crate) fn of(catalogue: &'a Catalogue, weights: &'a Weights) -> Logicals<'a> {
        let count = catalogue.tensors.len();
        let mut logicals = Logicals { catalogue, weights, viewed: Vec::new(), count };
        for tensor in 0..count {
            let Some(shapes) = logicals.views(tensor) else { continue };
            let count = shapes.count() as usize;
            logicals.viewed.push(ViewedTensor { tensor, first: logicals.count, shapes });
            logicals.count += count;
        }
        logicals
    }

    /// The shapes of the weights that a tensor is which is no weight as it is.
    fn views(&self, tensor: usize) -> Option<ViewShapes> {
        let (_, shape) = self.stored_weight(tensor)?;
        let axes = shape.axes();
        match (self.order(tensor), axes) {
            (Some(WrittenOrder::Exchanged), _) => return Some(ViewShapes::Same(1, exchanged(shape)?)),
            (Some(WrittenOrder::Interleaved(count)), &[rows, cols]) => {
                return Some(ViewShapes::Same(1, Shape::new(&[rows * count, cols / count])?));
            }
            _ => {}
        }
        match self.form(tensor) {
            StoredForm::Same | StoredForm::ReorderedHeads(_) => None,
            StoredForm::Row => Some(ViewShapes::Same(1, Shape::new(&[&[1], axes].concat())?)),
            StoredForm::Experts(_) => {
                let (&experts, matrix) = axes.split_first()?;
                Some(ViewShapes::Same(experts, Shape::new(matrix)?))
            }
            StoredForm::Rows(parts) => {
                let (_, rest) = axes.split_first()?;
                let shapes = parts.iter().map(|part| Shape::new(&[&[part.rows], rest].concat()));
                Some(ViewShapes::Own(shapes.collect::<Option<_>>()?))
            }
        }
    }

    fn order(&self, tensor: usize) -> Option<WrittenOrder> {
        match self.weights.get(tensor) {
            Some(TensorRole::Quantized(weight)) => weight.order,
            _ => None,
        }
    }

    fn form(&self, tensor: usize) -> &StoredForm {
        self.catalogue.stored(tensor).map_or(&StoredForm::Same, |stored| &stored.form)
    }

    /// Name and shape of a tensor as a weight.
    fn stored_weight(&self, tensor: usize) -> Option<(Cow<'a, str>, &'a Shape)> {
        let (name, shape) = self.catalogue.weight(tensor)?;
        match self.weights.get(tensor) {
            None => Some((name, shape)),
            Some(TensorRole::Quantized(quantized)) => {
                Some((quantized.name.as_deref().map_or(name, Cow::Borrowed), quantized.logical.shape()))
            }
            Some(TensorRole::Auxiliary { .. } | TensorRole::Unused) => None,
        }
    }

    /// The tensor of whose weights one stands at a place behind those of tensors, and which of them.
    fn view(&self, place: usize) -> Option<(&ViewedTensor, u64)> {
        let behind = self.viewed.partition_point(|viewed| viewed.first <= place);
        let viewed = self.viewed.get(behind.checked_sub(1)?)?;
        Some((viewed, (place - viewed.first) as u64))
    }
}

impl Disk for Logicals<'_> {
    fn count(&self) -> usize {
        self.count
    }

    fn weight(&self, place: usize) -> Option<(Cow<'_, str>, &Shape)> {
        if place < self.catalogue.tensors.len() {
            let is_viewed = self.viewed.binary_search_by_key(&place, |viewed| viewed.tensor).is_ok();
            return self.stored_weight(place).filter(|_| !is_viewed);
        }
        let (viewed, number) = self.view(place)?;
        let name = match self.form(viewed.tensor) {
            StoredForm::Experts(experts) => Cow::Owned(experts.name(number)),
            StoredForm::Rows(parts) => Cow::Borrowed(&*parts.get(number as usize)?.name),
            _ => self.stored_weight(viewed.tensor)?.0,
        };
        Some((name, viewed.shapes.of(number)?))
    }

    fn slices(&self, place: usize) -> Vec<StoredSlice> {
        let Some((_, shape)) = self.weight(place) else { return Vec::new() };
        if place >= self.catalogue.tensors.len() {
            return self.view_slices(place).unwrap_or_default();
        }
        let slices = match self.form(place) {
            StoredForm::ReorderedHeads(heads) => ParamSlice::halves_of_heads(shape.axes(), *heads),
            _ => vec![ParamSlice::whole(shape.axes())],
        };
        slices.into_iter().map(|slice| StoredSlice { tensor: place, slice }).collect()
    }
}

impl Logicals<'_> {
    /// Where the values of a weight are that is one of a tensor's.
    fn view_slices(&self, place: usize) -> Option<Vec<StoredSlice>> {
        let (viewed, number) = self.view(place)?;
        let (_, stored) = self.stored_weight(viewed.tensor)?;
        let whole = ParamSlice::whole(stored.axes());
        let slices = match (self.order(viewed.tensor), self.form(viewed.tensor)) {
            (Some(WrittenOrder::Exchanged), _) => {
                let last = stored.axes().len().checked_sub(1)?;
                vec![whole.swapped(last.checked_sub(1)?, last)]
            }
            (Some(WrittenOrder::Interleaved(count)), _) => ParamSlice::stretches(stored.axes(), count),
            (None, StoredForm::Experts(_)) => vec![whole.unstacked(0, number)?],
            (None, StoredForm::Rows(parts)) => {
                let before = parts.iter().take(number as usize).map(|part| part.rows).sum();
                vec![whole.select(0, before, 1, parts.get(number as usize)?.rows)?]
            }
            (None, _) => vec![whole.stacked(0, 0)],
        };
        Some(slices.into_iter().map(|slice| StoredSlice { tensor: viewed.tensor, slice }).collect())
    }
}
