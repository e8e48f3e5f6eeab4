//! The checkpoint that weights start from where that is not the one whose layout the result has: the 16-bit original of a quantized
//! base (`--base16`), of what is encoded again; the base itself where a template says how the result lies (`--to`), of all.

use crate::checkpoint::catalogue::{StackedExperts, StoredAs, StoredForm};
use crate::checkpoint::discover::Checkpoint;
use crate::checkpoint::quantized::{TensorRole, Weights};
use crate::encodings::encoding::WrittenOrder;
use crate::encodings::expert_stack::stacked;
use crate::encodings::interleaved::interleaved;
use crate::encodings::logical::Logical;
use crate::encodings::paired_heads::paired;
use crate::encodings::plus_one::shifted;
use crate::encodings::transposed::transposed;
use crate::error::plan::PlanError;
use crate::error::{Error, Result};
use crate::model::outline::Weight;
use crate::plan::planner::Planner;
use crate::tensor::reference::TensorRef;
use crate::tensor::shape::Shape;

impl Planner<'_> {
    /// The refusal of an original for a base that was not quantized: nothing would be read of it.
    pub(crate) fn needless_original(&self, weights: &Weights) -> Option<Error> {
        let path = self.original.filter(|_| self.types.is_none() && !weights.any())?.location.path();
        Some(PlanError::NeedlessOriginal { path }.into())
    }
}

/// Weights of that checkpoint, as the files of a plan count.
#[derive(Clone, Copy)]
pub(crate) struct Originals<'o> {
    /// It.
    pub(crate) checkpoint: &'o Checkpoint,
    /// Which of its tensors are no plain numbers.
    pub(crate) weights: &'o Weights,
    /// Files of the plan before its own.
    pub(crate) files_before: usize,
}

impl Originals<'_> {
    /// What a weight starts from that is stored so, or that is taken in another order.
    ///
    /// # Errors
    /// [`PlanError::NoOriginal`], [`PlanError::OtherOriginal`] for one of another shape; [`PlanError::NoStart`] for one of which
    /// that form is not made.
    pub(crate) fn of(
        &self,
        wanted: &Weight,
        stored: Option<&StoredAs>,
        order: Option<WrittenOrder>,
    ) -> Result<Logical> {
        if let Some(order) = order {
            return Ok(self.ordered(wanted, order)?.behind(self.files_before));
        }
        let form = stored.map_or(&StoredForm::Same, |stored| &stored.form);
        let is_shifted = stored.is_some_and(|stored| stored.is_shifted);
        let start = match (form, wanted.shape.axes()) {
            (StoredForm::Experts(experts), &[count, rows, cols]) if self.find(&wanted.name).is_none() => {
                let matrix = Shape::new(&[rows, cols]).unwrap_or_else(|| wanted.shape.clone());
                self.stack(experts, count, &matrix)?
            }
            _ => self.found(wanted, (form, is_shifted))?,
        };
        Ok(start.behind(self.files_before))
    }

    fn find(&self, name: &str) -> Option<usize> {
        self.weights.position(&self.checkpoint.catalogue, name)
    }

    /// The weight of that name, in a form.
    fn found(&self, wanted: &Weight, (form, is_shifted): (&StoredForm, bool)) -> Result<Logical> {
        let (logical, own) = self.weight(&wanted.name)?;
        let own = own.map_or((&StoredForm::Same, false), |own| (&own.form, own.is_shifted));
        if own == (form, is_shifted) {
            self.expect(&wanted.name, logical.shape(), &wanted.shape)?;
            return Ok(logical);
        }
        let refused = || {
            self.refused(
                &wanted.name,
                "its values are stored in an order or a form that is not made of those there",
            )
        };
        let tensor = plain_tensor(&logical).ok_or_else(refused)?;
        if own != (&StoredForm::Same, false) {
            return Err(refused());
        }
        let made = match (form, tensor.shape.axes()) {
            (StoredForm::Same, _) => shifted(tensor),
            (StoredForm::ReorderedHeads(heads), _) if !is_shifted => paired(tensor, *heads),
            (StoredForm::Row, &[1, cols]) if !is_shifted => {
                Shape::new(&[cols]).and_then(|shape| Logical::plain(&TensorRef { shape, ..tensor.clone() }))
            }
            _ => None,
        };
        let made = made.ok_or_else(refused)?;
        self.expect(&wanted.name, made.shape(), &wanted.shape)?;
        Ok(made)
    }

    /// The weight of that name in an order.
    fn ordered(&self, wanted: &Weight, order: WrittenOrder) -> Result<Logical> {
        let (logical, _) = self.weight(&wanted.name)?;
        let made = plain_tensor(&logical).and_then(|tensor| match order {
            WrittenOrder::Exchanged => transposed(tensor),
            WrittenOrder::Interleaved(count) => interleaved(tensor, count),
        });
        let made = made.ok_or_else(|| self.refused(&wanted.name, "it holds no plain numbers there"))?;
        self.expect(&wanted.name, made.shape(), &wanted.shape)?;
        Ok(made)
    }

    /// The matrices of all experts as one weight.
    fn stack(&self, experts: &StackedExperts, count: u64, matrix: &Shape) -> Result<Logical> {
        let one = |number| {
            let name = experts.name(number);
            let (logical, _) = self.weight(&name)?;
            self.expect(&name, logical.shape(), matrix)?;
            Ok(plain_tensor(&logical).cloned())
        };
        let all = (0..count).map(one).collect::<Result<Option<Vec<_>>>>()?;
        let refused = || {
            self.refused(&experts.name(0), "the matrices of experts are not all plain numbers of one type")
        };
        all.and_then(stacked).ok_or_else(refused)
    }

    /// The weight of that name, and what it is in its file.
    fn weight(&self, name: &str) -> Result<(Logical, Option<&StoredAs>)> {
        let catalogue = &self.checkpoint.catalogue;
        let Some(place) = self.find(name) else {
            let path = self.checkpoint.location.path();
            return Err(PlanError::NoOriginal { tensor: name.to_owned(), path }.into());
        };
        if self.weights.dubious().any(|(dubious, _)| dubious == place) {
            return Err(self.refused(name, "what it means there cannot be told"));
        }
        let logical = match self.weights.get(place) {
            Some(TensorRole::Quantized(quantized)) => Some(quantized.logical.clone()),
            Some(_) => None,
            None => Logical::plain(&catalogue.tensors[place].tensor),
        };
        let logical = logical.ok_or_else(|| self.refused(name, "it holds no plain numbers there"))?;
        Ok((logical, catalogue.stored(place)))
    }

    fn refused(&self, tensor: &str, why: &'static str) -> Error {
        PlanError::NoStart { tensor: tensor.to_owned(), path: self.checkpoint.location.path(), why }.into()
    }

    fn expect(&self, tensor: &str, found: &Shape, expected: &Shape) -> Result<()> {
        if found == expected {
            return Ok(());
        }
        let (tensor, path) = (tensor.to_owned(), self.checkpoint.location.path());
        let [found, expected] = [found, expected].map(Clone::clone);
        Err(PlanError::OtherOriginal { tensor, path, found, expected }.into())
    }
}

/// The tensor that is a weight of plain numbers; none for codes, which may be stored as a type of plain numbers.
fn plain_tensor(logical: &Logical) -> Option<&TensorRef> {
    let tensor = logical.parts().first()?;
    Logical::plain(tensor).is_some_and(|plain| plain == *logical).then_some(tensor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::dtype::Dtype;
    use crate::tensor::reference::FileId;

    #[test]
    fn what_is_made_of_a_plain_tensor_is_none() {
        let shape = Shape::new(&[4, 2]).expect("it fits");
        let tensor = TensorRef { file: FileId(0), offset: 0, dtype: Dtype::BF16, shape };
        let plain = Logical::plain(&tensor).expect("plain numbers");
        assert_eq!(plain_tensor(&plain), Some(&tensor));
        for made in [paired(&tensor, 1), transposed(&tensor), shifted(&tensor)] {
            assert_eq!(plain_tensor(&made.expect("it has two axes")), None);
        }
    }
}
