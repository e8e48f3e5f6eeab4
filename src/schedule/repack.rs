//! Factors that are packed anew before they are read: those of which every op needs a little of every row.
//!
//! PEFT keeps `B` of fused experts as `[width, rank · experts]`, so that one expert's part is a few values of each row. Read
//! expert by expert, all of it would be read as often as there are experts. Where that is much, it is written once, expert
//! after expert, into a scratch file, in time linear in its bytes, and read from there like any other factor.

use std::collections::HashMap;

use crate::ops::factor::{Factor, FactorIndex};
use crate::plan::out_tensor::{Making, Plan};
use crate::tensor::dtype::bytes_of;
use crate::tensor::reference::{FileId, TensorRef};

/// Reading in pieces is accepted as long as it comes to fewer bytes than this.
pub(crate) const MUCH: u64 = 64 << 20;

/// A factor that is packed anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Packing {
    /// Where it is now: `[rows, parts · inner]`.
    pub tensor: TensorRef,
    /// Its rows.
    pub rows: u64,
    /// Parts that ops take of it, one each.
    pub parts: u64,
    /// Values of a part in each row.
    pub inner: u64,
    /// Whether the values of a part lie together in a row; else every `parts`-th is one's.
    pub is_grouped: bool,
    /// First byte in the scratch file. There part follows part, and in each row follows row.
    pub at: u64,
}

impl Packing {
    /// Elements of a row.
    pub(crate) fn width(&self) -> u64 {
        self.parts * self.inner
    }

    /// The factor as it is in the scratch file `file`.
    fn repacked(&self, factor: &Factor, index: FactorIndex, file: FileId) -> Factor {
        let (row, within) = (factor.start / self.width(), factor.start % self.width());
        let part = if self.is_grouped { within / self.inner } else { within };
        let tensor = TensorRef { file, offset: self.at, ..self.tensor.clone() };
        let start = (part * self.rows + row) * self.inner;
        let index = Some(FactorIndex { stride: self.inner, ..index });
        Factor { tensor, start, index, inner_stride: 1, ..factor.clone() }
    }
}

/// Finds the factors of `plan` to pack anew, those that would be read `much` or more, and makes its ops read them from the scratch file, which is the file behind all
/// of its inputs.
pub(crate) fn pack_factors(plan: &mut Plan, much: u64) -> Vec<Packing> {
    let scratch = FileId(plan.inputs.len() as u32);
    let mut uses: HashMap<(FileId, u64), u64> = HashMap::new();
    for factor in factors(plan).filter(|factor| scattered(factor).is_some()) {
        *uses.entry((factor.tensor.file, factor.tensor.offset)).or_default() += 1;
    }
    let (mut packings, mut places, mut at) = (Vec::new(), HashMap::new(), 0);
    for factor in factors_mut(plan) {
        let key = (factor.tensor.file, factor.tensor.offset);
        let Some((index, mut packing)) = scattered(factor) else { continue };
        if uses.get(&key).copied().unwrap_or(0).saturating_mul(factor.tensor.bytes()) < much {
            continue;
        }
        let place = *places.entry(key).or_insert_with(|| {
            packing.at = at;
            at += packing.tensor.bytes();
            packings.push(packing.clone());
            packings.len() - 1
        });
        *factor = packings[place].repacked(factor, index, scratch);
    }
    packings
}

/// How a factor is packed, if each op has a little of every row of it.
fn scattered(factor: &Factor) -> Option<(FactorIndex, Packing)> {
    let index = factor.index?;
    let &[rows, width] = factor.tensor.shape.axes() else { return None };
    let is_grouped = factor.inner_stride == 1;
    let parts = width.checked_div(factor.inner)?;
    let is_one = index.stride == width
        && parts > 1
        && parts * factor.inner == width
        && (is_grouped || factor.inner_stride == parts);
    let tensor = factor.tensor.clone();
    is_one.then_some((index, Packing { tensor, rows, parts, inner: factor.inner, is_grouped, at: 0 }))
}

fn factors(plan: &Plan) -> impl Iterator<Item = &Factor> {
    plan.tensors()
        .filter_map(|tensor| match &tensor.making {
            Making::Merge { ops, .. } => Some(ops),
            Making::Copy { .. } => None,
        })
        .flatten()
        .flat_map(|op| &op.factors)
}

fn factors_mut(plan: &mut Plan) -> impl Iterator<Item = &mut Factor> {
    plan.shards
        .iter_mut()
        .flat_map(|shard| &mut shard.tensors)
        .filter_map(|tensor| match &mut tensor.making {
            Making::Merge { ops, .. } => Some(ops),
            Making::Copy { .. } => None,
        })
        .flatten()
        .flat_map(|op| &mut op.factors)
}

/// Bytes of the scratch file.
pub(crate) fn scratch_bytes(packings: &[Packing]) -> u64 {
    packings.last().map_or(0, |last| last.at + last.tensor.bytes())
}

/// Bytes of one value.
pub(crate) fn value_bytes(packing: &Packing) -> u64 {
    bytes_of(packing.tensor.dtype, 1).expect("factors are plain floats")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::dtype::Dtype;
    use crate::tensor::shape::Shape;

    #[test]
    fn only_scattered_factors_are_packed() {
        let tensor = |axes: &[u64]| TensorRef {
            file: FileId(0),
            offset: 8,
            dtype: Dtype::BF16,
            shape: Shape::new(axes).expect("small"),
        };
        // `B [5, rank 2 · experts 3]`, expert 1, from row 2 on: columns 1 and 4, or 2 and 3.
        for (start, step, is_grouped) in [(2 * 6 + 1, 3, false), (2 * 6 + 2, 1, true)] {
            let factor = Factor::along(0, tensor(&[5, 6]), 6, 2, step).starting(start);
            let (index, packing) = scattered(&factor).expect("a little of every row");
            assert_eq!(
                (packing.rows, packing.parts, packing.inner, packing.is_grouped),
                (5, 3, 2, is_grouped)
            );
            let found = packing.repacked(&factor, index, FileId(9));
            assert_eq!((found.start, found.inner_stride), ((5 + 2) * 2, 1), "part 1, row 2");
            assert_eq!(found.index, Some(FactorIndex { axis: 0, stride: 2 }));
        }
        // Rows of their own lie together already, whole or not.
        assert!(scattered(&Factor::along(0, tensor(&[5, 6]), 6, 6, 1)).is_none());
        assert!(scattered(&Factor::along(1, tensor(&[2, 6]), 1, 2, 6)).is_none());
        assert!(scattered(&Factor::whole(tensor(&[5, 6]))).is_none());
    }
}
