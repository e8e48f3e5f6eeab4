//! Ops: what one module of one adapter does to one logical weight, as plain data.

use serde::{Deserialize, Serialize};

use crate::tensor::TensorRef;

use super::Placement;

/// Index of a claim in a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ClaimId(pub u32);

/// The unit of accounting: some tensors of one adapter that belong together, and how many elements of the output they
/// must reach. A run that reaches fewer fails.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Claim {
    /// Position of the adapter on the command line, from 0.
    pub adapter: u32,
    /// Module path as the adapter spells it.
    pub module: String,
    /// Name of the method that claimed it.
    pub method: String,
    /// The adapter's tensors that it uses, by key.
    pub keys: Vec<String>,
    /// The output tensor it changes.
    pub tensor: String,
    /// Elements of the output that it must reach.
    pub elements: u64,
}

/// What an op must see at once, which the schedule turns into the shape of tiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Need {
    /// Any elements, in tiles of any shape.
    Elements,
    /// Whole stored rows.
    Rows,
    /// The whole tensor.
    Whole,
}

/// A matrix in an adapter file: `inner` values for every position of one axis of the delta, or for none.
///
/// The values for position `i` are the elements `start + i·index.stride + k·inner.stride`. For `lora_B [out, rank]` the
/// index is the out axis with stride `rank`; for `lora_A [rank, in]` it is the in axis with stride 1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Factor {
    /// Where its file holds it.
    pub tensor: TensorRef,
    /// Element of the tensor that it starts at.
    pub start: u64,
    /// The delta's axis that it runs along and the elements between neighbours; none if every tile needs all of it.
    pub index: Option<FactorIndex>,
    /// Values for each position (the rank, for LoRA).
    pub inner: u64,
    /// Elements from one of those values to the next.
    pub inner_stride: u64,
}

/// The axis that a factor runs along.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FactorIndex {
    /// Which axis of the delta.
    pub axis: usize,
    /// Elements of the factor from one position to the next.
    pub stride: u64,
}

/// One planned merge.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Op {
    /// The claim it counts for.
    pub claim: ClaimId,
    /// Name of the method that applies it.
    pub method: String,
    /// Where its delta falls.
    pub placement: Placement,
    /// Its factors, in the method's order.
    pub factors: Vec<Factor>,
    /// What the delta is multiplied by: computed in f64, rounded to f32 once.
    pub scale: f32,
    /// What it must see at once.
    pub need: Need,
}

/// How a part of a factor lies in its file, and how it is then seen in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FactorRuns {
    /// Element of the tensor that the first run starts at.
    pub first: u64,
    /// Elements of a run.
    pub len: u64,
    /// Number of runs.
    pub count: u64,
    /// Elements from one run to the next.
    pub stride: u64,
    /// In memory, run behind run: values from one position to the next.
    pub position_stride: u64,
    /// In memory: values from one inner value to the next.
    pub inner_stride: u64,
}

impl Factor {
    /// The runs of the file that hold `positions` (all of it, if it runs along no axis).
    ///
    /// # Panics
    /// If neither stride is 1: such a factor is packed anew before a plan names it.
    pub fn runs(&self, positions: &std::ops::Range<u64>) -> FactorRuns {
        let Some(FactorIndex { stride, .. }) = self.index else {
            assert_eq!(self.inner_stride, 1, "a factor without an axis is one run");
            let whole = FactorRuns {
                first: self.start,
                len: self.inner,
                count: 1,
                stride: self.inner,
                position_stride: 0,
                inner_stride: 1,
            };
            return whole;
        };
        let (first, count) = (self.start + positions.start * stride, positions.end - positions.start);
        if self.inner_stride == 1 {
            // Values of one position lie together: `[positions, inner]`.
            let runs = FactorRuns {
                first,
                len: self.inner,
                count,
                stride,
                position_stride: self.inner,
                inner_stride: 1,
            };
            return runs.joined();
        }
        assert_eq!(stride, 1, "a factor has positions or inner values next to each other");
        FactorRuns {
            first,
            len: count,
            count: self.inner,
            stride: self.inner_stride,
            position_stride: 1,
            inner_stride: count,
        }
        .joined()
    }
}

impl FactorRuns {
    /// The same, as one run where runs touch.
    fn joined(self) -> FactorRuns {
        if self.stride == self.len {
            FactorRuns { len: self.len * self.count, count: 1, stride: self.len * self.count, ..self }
        } else {
            self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::{Dtype, FileId, Shape};

    #[test]
    fn runs_are_joined_where_they_touch() {
        let shape = Shape::new(&[3, 5]).expect("small");
        let tensor = TensorRef { file: FileId(0), offset: 0, dtype: Dtype::F32, shape };
        let index = |axis, stride| Some(FactorIndex { axis, stride });
        // lora_A [rank 3, in 5]: columns 1..3 are three runs of two, all columns are one run.
        let a = Factor { tensor: tensor.clone(), start: 0, index: index(1, 1), inner: 3, inner_stride: 5 };
        let some = FactorRuns { first: 1, len: 2, count: 3, stride: 5, position_stride: 1, inner_stride: 2 };
        let all = FactorRuns { first: 0, len: 15, count: 1, stride: 15, position_stride: 1, inner_stride: 5 };
        assert_eq!((a.runs(&(1..3)), a.runs(&(0..5))), (some, all));
        // lora_B [out 3, rank 5]: any rows are one run.
        let b = Factor { tensor, start: 0, index: index(0, 5), inner: 5, inner_stride: 1 };
        let rows =
            FactorRuns { first: 5, len: 10, count: 1, stride: 10, position_stride: 5, inner_stride: 1 };
        assert_eq!(b.runs(&(1..3)), rows);
    }
}
