//! Factors that are repacked before they are read: those of which every op needs a little of every row.
//!
//! PEFT keeps `B` of fused experts as `[width, rank · experts]`, so that one expert's part is a few values of each row. Read
//! expert by expert, all of it would be read as often as there are experts. Where that is much, it is written once, expert
//! after expert, into a scratch file, in time linear in its bytes, and read from there like any other factor. So are factors
//! that no file holds ([`crate::ops::derived`]).

use std::collections::HashMap;

use crate::ops::derived::Derivation;
use crate::ops::factor::{Factor, FactorIndex};
use crate::plan::out_tensor::{Content, Plan};
use crate::tensor::dtype::bytes_of;
use crate::tensor::reference::{FileId, TensorRef};

/// Strided reads are accepted as long as it comes to fewer bytes than this.
pub(crate) const MUCH: u64 = 64 << 20;

/// Bytes of a strip of rows that is written at a time, and of what is gathered from it: far below what a run takes afterwards.
pub(crate) const STRIP: u64 = 1 << 20;

/// A factor that is written in another order into the scratch file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FactorRepack {
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

impl FactorRepack {
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
        Factor::along(index.axis, tensor, self.inner, factor.inner, 1).starting(start)
    }
}

/// A factor that is made before a run, of tensors of an adapter.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct DerivedFactor {
    /// How.
    pub derivation: Derivation,
    /// Its rows, and the values of each.
    pub size: [u64; 2],
    /// First byte in the scratch file, where it is F32, row by row.
    pub at: u64,
}

impl DerivedFactor {
    /// Its bytes.
    fn bytes(&self) -> u64 {
        self.size[0] * self.size[1] * size_of::<f32>() as u64
    }
}

/// What is written into the scratch file before a run.
#[derive(Clone, Debug, Default)]
pub(crate) struct ScratchFactors {
    /// In another order than their files have.
    pub repacks: Vec<FactorRepack>,
    /// What no file has.
    pub derived: Vec<DerivedFactor>,
    /// Bytes of all.
    pub bytes: u64,
}

impl ScratchFactors {
    /// The most bytes of sources that are held at once.
    pub(crate) fn whole_bytes(&self) -> u64 {
        self.derived.iter().map(|factor| factor.derivation.whole_bytes()).max().unwrap_or(0)
    }

    /// Where a factor is in the scratch file that no file has; it is added to those that are made if it is new.
    fn place(&mut self, factor: &Factor, places: &mut DerivedPlaces) -> Option<u64> {
        let derivation = factor.derivation.as_deref()?;
        let &[rows, width] = factor.tensor.shape.axes() else { return None };
        let first = derivation.sources.first()?;
        let alike = places.entry((first.file, first.offset)).or_default();
        let is_it = |made: &&DerivedFactor| made.size == [rows, width] && made.derivation == *derivation;
        if let Some(made) = alike.iter().map(|&place| &self.derived[place]).find(is_it) {
            return Some(made.at);
        }
        alike.push(self.derived.len());
        let made = DerivedFactor { derivation: derivation.clone(), size: [rows, width], at: self.bytes };
        self.bytes += made.bytes();
        self.derived.push(made);
        self.derived.last().map(|made| made.at)
    }
}

/// Derived factors by their first source.
type DerivedPlaces = HashMap<(FileId, u64), Vec<usize>>;

/// The factors of one tensor that are read elsewhere than the plan says, by op and factor.
pub(crate) type TensorLocations = HashMap<(usize, usize), Factor>;

/// Where factors are read that were repacked: an overlay of the plan, which stays as it was hashed.
#[derive(Clone, Debug, Default)]
pub(crate) struct FactorLocations(HashMap<(usize, usize), TensorLocations>);

impl FactorLocations {
    /// Those of one tensor, by the positions of its shard and in it; none if all of its factors are where the plan says.
    pub(crate) fn of_tensor(&self, shard: usize, tensor: usize) -> Option<&TensorLocations> {
        self.0.get(&(shard, tensor))
    }
}

/// Finds the factors of `plan` to make, and those to repack, which would be read `much` or more; and where its ops read them then:
/// from the scratch file, which is the file behind all inputs of the plan.
pub(crate) fn repack_factors(plan: &Plan, much: u64) -> (ScratchFactors, FactorLocations) {
    let scratch = FileId(plan.inputs.len() as u32);
    let mut uses: HashMap<(FileId, u64), u64> = HashMap::new();
    for (_, factor) in factors(plan).filter(|(_, factor)| strided(factor).is_some()) {
        *uses.entry(key(factor)).or_default() += 1;
    }
    let (mut found, mut places, mut derived) = (ScratchFactors::default(), HashMap::new(), HashMap::new());
    let mut locations = FactorLocations::default();
    for ((tensor, of), factor) in factors(plan) {
        if let Some(offset) = found.place(factor, &mut derived) {
            let made = TensorRef { file: scratch, offset, ..factor.tensor.clone() };
            let made = Factor { tensor: made, derivation: None, ..factor.clone() };
            locations.0.entry(tensor).or_default().insert(of, made);
            continue;
        }
        let key = key(factor);
        let Some((index, repack)) = strided(factor) else { continue };
        if uses.get(&key).copied().unwrap_or(0).saturating_mul(factor.tensor.bytes()) < much {
            continue;
        }
        let place = *places.entry(key).or_insert_with(|| {
            let bytes = repack.tensor.bytes();
            found.repacks.push(FactorRepack { at: found.bytes, ..repack });
            found.bytes += bytes;
            found.repacks.len() - 1
        });
        let repacked = found.repacks[place].repacked(factor, index, scratch);
        locations.0.entry(tensor).or_default().insert(of, repacked);
    }
    (found, locations)
}

/// What tells one factor's tensor from another.
fn key(factor: &Factor) -> (FileId, u64) {
    (factor.tensor.file, factor.tensor.offset)
}

/// How a factor is repacked, if each op has a little of every row of it.
fn strided(factor: &Factor) -> Option<(FactorIndex, FactorRepack)> {
    let index = factor.index().filter(|_| factor.derivation.is_none())?;
    let &[rows, width] = factor.tensor.shape.axes() else { return None };
    let is_grouped = factor.inner_stride == 1;
    let parts = width.checked_div(factor.inner)?;
    let is_one = index.stride == width
        && parts > 1
        && parts * factor.inner == width
        && (is_grouped || factor.inner_stride == parts);
    let tensor = factor.tensor.clone();
    is_one.then_some((index, FactorRepack { tensor, rows, parts, inner: factor.inner, is_grouped, at: 0 }))
}

/// A tensor, by the positions of its shard and in it, and a factor of it, by the positions of its op and in that.
type FactorPlace = ((usize, usize), (usize, usize));

/// Every factor of the plan.
fn factors(plan: &Plan) -> impl Iterator<Item = (FactorPlace, &Factor)> {
    let tensors = plan.shards.iter().enumerate();
    let tensors = tensors.flat_map(|(i, shard)| (0..).zip(&shard.tensors).map(move |(j, out)| ((i, j), out)));
    let ops = tensors.flat_map(|(tensor, out)| {
        let ops = match &out.content {
            Content::Compute { ops, .. } => ops.as_slice(),
            Content::Copy { .. } => &[],
        };
        (0..).zip(ops).map(move |(op, of)| (tensor, op, of))
    });
    ops.flat_map(|(tensor, i, op)| (0..).zip(&op.factors).map(move |(j, factor)| ((tensor, (i, j)), factor)))
}

/// Bytes of one value.
pub(crate) fn value_bytes(repack: &FactorRepack) -> u64 {
    bytes_of(repack.tensor.dtype, 1).expect("factors are plain floats")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encodings::logical::Logical;
    use crate::formats::header_bytes::HeaderBytes;
    use crate::ops::low_rank::LowRank;
    use crate::ops::op::Op;
    use crate::ops::placement::Placement;
    use crate::plan::out_tensor::{OutHeader, OutShard, OutTensor};
    use crate::schedule::cut::MergedTensor;
    use crate::schedule::reduces::Reduces;
    use crate::tensor::dtype::Dtype;
    use crate::tensor::rect::View;
    use crate::tensor::shape::Shape;

    #[test]
    fn only_strided_factors_are_repacked() {
        let tensor = |axes: &[u64]| TensorRef {
            file: FileId(0),
            offset: 8,
            dtype: Dtype::BF16,
            shape: Shape::new(axes).expect("small"),
        };
        // `B [5, rank 2 · experts 3]`, expert 1, from row 2 on: columns 1 and 4, or 2 and 3.
        for (start, step, is_grouped) in [(2 * 6 + 1, 3, false), (2 * 6 + 2, 1, true)] {
            let factor = Factor::along(0, tensor(&[5, 6]), 6, 2, step).starting(start);
            let (index, repack) = strided(&factor).expect("a little of every row");
            assert_eq!((repack.rows, repack.parts, repack.inner, repack.is_grouped), (5, 3, 2, is_grouped));
            let found = repack.repacked(&factor, index, FileId(9));
            assert_eq!((found.start, found.inner_stride), ((5 + 2) * 2, 1), "part 1, row 2");
            assert_eq!(found.index(), Some(FactorIndex { axis: 0, stride: 2 }));
        }
        // Rows of their own lie together already, whole or not.
        assert!(strided(&Factor::along(0, tensor(&[5, 6]), 6, 6, 1)).is_none());
        assert!(strided(&Factor::along(1, tensor(&[2, 6]), 1, 2, 6)).is_none());
        assert!(strided(&Factor::whole(tensor(&[5, 6]))).is_none());
    }

    #[test]
    fn the_plan_stays_and_the_overlay_says_where() {
        let shape = Shape::new(&[2, 5, 4]).expect("small");
        let base = TensorRef { file: FileId(0), offset: 10, dtype: Dtype::BF16, shape: shape.clone() };
        let shape_of = |axes: &[u64]| Shape::new(axes).expect("small");
        let stack = TensorRef { file: FileId(0), offset: 90, dtype: Dtype::F32, shape: shape_of(&[5, 6]) };
        let op = |expert: u64| {
            Op::new(
                LowRank::ADDED,
                Placement { start: expert * 20, ..Placement::matrix(5, 4, false) },
                vec![Factor::along(0, stack.clone(), 6, 3, 2).starting(expert)],
                1.0,
            )
        };
        let start = Logical::plain(&base).expect("floats");
        let view = View { rows: 10, cols: 4 };
        let content =
            Content::Compute { start, claim: None, ops: vec![op(0), op(1)], view, form: None, fresh: false };
        let (name, dtype, encoding) = ("t".into(), Dtype::BF16, "bf16".into());
        let tensors =
            vec![OutTensor { name, shape, dtype, encoding, part: 0, offset: 10, bytes: 80, content }];
        let shards = vec![OutShard {
            name: "s".to_owned(),
            header: OutHeader::Made(HeaderBytes::new(Vec::new())),
            tensors,
            bytes: 90,
        }];
        let plan = Plan { shards, ..Plan::default() };
        let (found, locations) = repack_factors(&plan, 0);
        assert_eq!((found.repacks.len(), found.bytes), (1, 120), "both experts share one");
        let merged = MergedTensor::located(&plan, (0, 0), &locations).expect("it is merged");
        let second = merged.location(1, 0);
        assert_eq!((second.start, second.inner_stride, second.tensor.offset), (15, 1, 0));
        assert_eq!(
            merged.reduction(Reduces::Op(1)).location(0, 0),
            second,
            "whatever part of the ops is looked at"
        );
        assert_eq!(merged.ops[1].factors[0].tensor, stack);
        let (none, locations) = repack_factors(&plan, 241);
        assert!(none.repacks.is_empty() && locations.of_tensor(0, 0).is_none(), "less than is worth it");
    }
}
