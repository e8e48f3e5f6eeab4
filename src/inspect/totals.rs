//! How many tensors, elements and bytes, as a whole and by dtype.

use serde::Serialize;

use crate::tensor::dtype::Dtype;
use crate::tensor::reference::TensorRef;

/// What some tensors come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Number of tensors.
    pub tensors: u64,
    /// Elements as they are stored: what is packed several to an element counts once, but for blocks of ggml.
    pub parameters: u64,
    /// Bytes.
    pub bytes: u64,
}

impl Totals {
    fn add(&mut self, tensor: &TensorRef) {
        self.tensors += 1;
        self.parameters = self.parameters.saturating_add(tensor.value_shape().elements());
        self.bytes = self.bytes.saturating_add(tensor.bytes());
    }
}

/// One dtype's share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DtypeTotals {
    /// Which.
    pub dtype: Dtype,
    /// What its tensors come to.
    #[serde(flatten)]
    pub totals: Totals,
}

/// The sum over tensors, and the same by dtype, most bytes first.
pub(crate) fn sum<'t>(tensors: impl IntoIterator<Item = &'t TensorRef>) -> (Totals, Vec<DtypeTotals>) {
    let mut all = Totals::default();
    let mut dtypes: Vec<DtypeTotals> = Vec::new();
    for tensor in tensors {
        all.add(tensor);
        match dtypes.iter_mut().find(|known| known.dtype == tensor.dtype) {
            Some(known) => known.totals.add(tensor),
            None => {
                let mut totals = Totals::default();
                totals.add(tensor);
                dtypes.push(DtypeTotals { dtype: tensor.dtype, totals });
            }
        }
    }
    dtypes.sort_by_key(|known| std::cmp::Reverse(known.totals.bytes));
    (all, dtypes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::reference::FileId;
    use crate::tensor::shape::Shape;

    #[test]
    fn dtypes_are_counted_apart() {
        let tensor = |dtype, axes: &[u64]| TensorRef {
            file: FileId(0),
            offset: 0,
            dtype,
            shape: Shape::new(axes).expect("small"),
        };
        let tensors = [tensor(Dtype::F32, &[2]), tensor(Dtype::BF16, &[10, 2]), tensor(Dtype::F32, &[3])];
        let (all, dtypes) = sum(&tensors);
        assert_eq!(all, Totals { tensors: 3, parameters: 25, bytes: 60 });
        let by: Vec<_> = dtypes.iter().map(|one| (one.dtype, one.totals.tensors, one.totals.bytes)).collect();
        assert_eq!(by, [(Dtype::BF16, 1, 40), (Dtype::F32, 2, 20)]);
    }
}
