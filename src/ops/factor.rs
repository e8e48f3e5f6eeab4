//! Factors: matrices in an adapter's file that deltas are made of, and how parts of them lie there and in memory.

use serde::{Deserialize, Serialize};

use crate::ops::derived::Derivation;
use crate::tensor::dtype::{Dtype, is_mergeable};
use crate::tensor::reference::TensorRef;
use crate::tensor::shape::Shape;

/// A matrix in an adapter file: `inner` values for every position of one axis of the delta, or for none.
///
/// The values for position `i` are the elements `start + i·index.stride + k·inner.stride`. For `lora_B [out, rank]` the
/// index is the out axis with stride `rank`; for `lora_A [rank, in]` it is the in axis with stride 1.
///
/// A plan may hold 120,000 of them, so that what excludes each other shares its place ([`FactorReach`]).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "FactorFields", into = "FactorFields")]
pub struct Factor {
    /// Where its file holds it.
    pub tensor: TensorRef,
    /// Element of the tensor that it starts at.
    pub start: u64,
    /// Which positions it has values for.
    pub(crate) reach: FactorReach,
    /// Values for each position (the rank, for LoRA).
    pub inner: u64,
    /// Elements from one of those values to the next.
    pub inner_stride: u64,
    /// How it is made, where no file holds it: then `tensor` says its shape alone.
    pub(crate) derivation: Option<Box<Derivation>>,
}

/// The positions that a factor has values for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FactorReach {
    /// Those of one of the delta's axes, of which there are two.
    Axis {
        /// Which.
        axis: u8,
        /// Elements of the factor from one position to the next.
        stride: u64,
    },
    /// None: every tile needs all of it.
    Whole,
    /// None, and its delta makes so many values of it when it is read.
    Prepared(u64),
}

impl Factor {
    /// A factor that runs along no axis: all of a tensor.
    pub fn whole(tensor: TensorRef) -> Factor {
        let inner = tensor.shape.elements();
        Factor { tensor, start: 0, reach: FactorReach::Whole, inner, inner_stride: 1, derivation: None }
    }

    /// A factor that runs along no axis, and of which its delta makes `len` values when it is read.
    pub(crate) fn prepared(tensor: TensorRef, len: u64) -> Factor {
        Factor { reach: FactorReach::Prepared(len), ..Factor::whole(tensor) }
    }

    /// A factor that runs along an axis: `inner` values for each position, from the tensor's first element on.
    pub fn along(axis: usize, tensor: TensorRef, stride: u64, inner: u64, inner_stride: u64) -> Factor {
        let reach = FactorReach::Axis { axis: axis as u8, stride };
        Factor { tensor, start: 0, reach, inner, inner_stride, derivation: None }
    }

    /// A factor `[rows, width]` that is made of others of the first source's file, and lies where `laid` puts such a tensor.
    pub(crate) fn derived(
        derivation: Derivation,
        [rows, width]: [u64; 2],
        laid: impl FnOnce(TensorRef) -> Factor,
    ) -> Factor {
        let shape = Shape::new(&[rows, width]).expect("both are sizes of tensors in a file");
        let first = derivation.sources.first().expect("it is made of something");
        let tensor = TensorRef { dtype: Dtype::F32, shape, ..first.clone() };
        Factor { derivation: Some(Box::new(derivation)), ..laid(tensor) }
    }

    /// The tensor that it is or is made of whose numbers are not read, if there is one. Some of what it is made of may hold whole numbers.
    pub(crate) fn unread(&self) -> Option<&TensorRef> {
        let Some(derivation) = &self.derivation else {
            return Some(&self.tensor).filter(|tensor| !is_mergeable(tensor.dtype));
        };
        let is_whole = |dtype| matches!(dtype, Dtype::U8 | Dtype::I16 | Dtype::I32 | Dtype::I64);
        let is_read = |(i, source): &(usize, &TensorRef)| {
            is_mergeable(source.dtype) || derivation.recipe().has_indices(*i) && is_whole(source.dtype)
        };
        derivation.sources.iter().enumerate().find(|source| !is_read(source)).map(|(_, source)| source)
    }

    /// The tensors of files that it is, or is made of.
    pub(crate) fn stored(&self) -> &[TensorRef] {
        self.derivation.as_ref().map_or(std::slice::from_ref(&self.tensor), |derivation| &derivation.sources)
    }

    /// Gives every tensor that it names to `change`.
    pub(crate) fn for_each_tensor(&mut self, mut change: impl FnMut(&mut TensorRef)) {
        change(&mut self.tensor);
        if let Some(derivation) = &mut self.derivation {
            derivation.sources.iter_mut().for_each(change);
        }
    }

    /// The same, from another element on.
    #[must_use]
    pub fn starting(self, start: u64) -> Factor {
        Factor { start, ..self }
    }

    /// The delta's axis that it runs along and the elements between neighbors; none if every tile needs all of it.
    pub fn index(&self) -> Option<FactorIndex> {
        match self.reach {
            FactorReach::Axis { axis, stride } => Some(FactorIndex { axis: usize::from(axis), stride }),
            FactorReach::Whole | FactorReach::Prepared(_) => None,
        }
    }

    /// Values in memory once its delta has prepared it, where it does: only for factors without an axis.
    pub fn prepared_len(&self) -> Option<u64> {
        match self.reach {
            FactorReach::Prepared(len) => Some(len),
            FactorReach::Axis { .. } | FactorReach::Whole => None,
        }
    }

    /// Values in memory for each position.
    pub fn values(&self) -> u64 {
        self.prepared_len().unwrap_or(self.inner)
    }
}

/// A factor as a plan's JSON has it.
#[derive(Serialize, Deserialize)]
struct FactorFields {
    tensor: TensorRef,
    start: u64,
    index: Option<FactorIndex>,
    inner: u64,
    inner_stride: u64,
    prepared_len: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    derivation: Option<Box<Derivation>>,
}

impl From<Factor> for FactorFields {
    fn from(factor: Factor) -> FactorFields {
        let (index, prepared_len) = (factor.index(), factor.prepared_len());
        let Factor { tensor, start, inner, inner_stride, derivation, .. } = factor;
        FactorFields { tensor, start, index, inner, inner_stride, prepared_len, derivation }
    }
}

impl From<FactorFields> for Factor {
    fn from(fields: FactorFields) -> Factor {
        let FactorFields { tensor, start, index, inner, inner_stride, prepared_len, derivation } = fields;
        let reach = match (index, prepared_len) {
            (Some(FactorIndex { axis, stride }), _) => FactorReach::Axis { axis: axis as u8, stride },
            (None, Some(len)) => FactorReach::Prepared(len),
            (None, None) => FactorReach::Whole,
        };
        Factor { tensor, start, reach, inner, inner_stride, derivation }
    }
}

/// The axis that a factor runs along.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FactorIndex {
    /// Which axis of the delta.
    pub axis: usize,
    /// Elements of the factor from one position to the next.
    pub stride: u64,
}

/// How a part of a factor lies in its file, and how it is then seen in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FactorRuns {
    /// Element of the tensor that the first run starts at.
    pub first: u64,
    /// Elements that are kept of a run.
    pub len: u64,
    /// Elements from one that is kept to the next; more than 1 where a run is picked from a longer stretch.
    pub step: u64,
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
    pub fn runs(&self, positions: &std::ops::Range<u64>) -> FactorRuns {
        let Some(FactorIndex { stride, .. }) = self.index() else {
            return FactorRuns {
                first: self.start,
                len: self.inner,
                step: self.inner_stride,
                count: 1,
                stride: self.inner,
                position_stride: 0,
                inner_stride: 1,
            };
        };
        let (first, count) = (self.start + positions.start * stride, positions.end - positions.start);
        if stride == 1 && self.inner_stride != 1 {
            // Values of neighboring positions lie together: `[inner, positions]`.
            return FactorRuns {
                first,
                len: count,
                step: 1,
                count: self.inner,
                stride: self.inner_stride,
                position_stride: 1,
                inner_stride: count,
            }
            .joined();
        }
        // Values of one position lie together, or are picked from a stretch: `[positions, inner]`.
        FactorRuns {
            first,
            len: self.inner,
            step: self.inner_stride,
            count,
            stride,
            position_stride: self.inner,
            inner_stride: 1,
        }
        .joined()
    }
}

impl FactorRuns {
    /// The same, as one run where runs touch.
    fn joined(self) -> FactorRuns {
        if self.stride == self.len && self.step == 1 {
            FactorRuns { len: self.len * self.count, count: 1, stride: self.len * self.count, ..self }
        } else {
            self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::dtype::Dtype;
    use crate::tensor::reference::FileId;
    use crate::tensor::shape::Shape;

    #[test]
    fn runs_are_joined_where_they_touch() {
        let shape = Shape::new(&[3, 5]).expect("small");
        let tensor = TensorRef { file: FileId(0), offset: 0, dtype: Dtype::F32, shape };
        // lora_A [rank 3, in 5]: columns 1..3 are three runs of two, all columns are one run.
        let a = Factor::along(1, tensor.clone(), 1, 3, 5);
        let some = FactorRuns {
            first: 1,
            len: 2,
            step: 1,
            count: 3,
            stride: 5,
            position_stride: 1,
            inner_stride: 2,
        };
        let all = FactorRuns { len: 15, count: 1, stride: 15, inner_stride: 5, first: 0, ..some };
        assert_eq!((a.runs(&(1..3)), a.runs(&(0..5))), (some, all));
        // lora_B [out 3, rank 5]: any rows are one run.
        let b = Factor::along(0, tensor.clone(), 5, 5, 1);
        let rows = FactorRuns {
            first: 5,
            len: 10,
            step: 1,
            count: 1,
            stride: 10,
            position_stride: 5,
            inner_stride: 1,
        };
        assert_eq!(b.runs(&(1..3)), rows);
        // Every third column, from the second: picked from each row.
        let picked = Factor::along(0, tensor, 5, 2, 3).starting(1);
        let rows = FactorRuns {
            first: 6,
            len: 2,
            step: 3,
            count: 2,
            stride: 5,
            position_stride: 2,
            inner_stride: 1,
        };
        assert_eq!(picked.runs(&(1..3)), rows);
    }
}
