//! Entries of sparse matrices as methods keep them ([`Sparse`]): they are counted by rows when they are claimed, as the fullest row says how wide the
//! factor is that they are brought into ([`crate::ops::derived::scatter`]).

use std::ops::Range;

use crate::adapters::claim::context::ClaimContext;
use crate::error::Result;
use crate::error::claim::ClaimError;
use crate::ops::derived::scatter::{each_entry, entries};
use crate::ops::derived::{Derivation, RecipeKind};
use crate::ops::factor::Factor;
use crate::ops::op::Op;
use crate::ops::placement::Placement;
use crate::ops::sparse::Sparse;
use crate::tensor::dtype::{Dtype, bytes_of};
use crate::tensor::numbers::decoded;
use crate::tensor::reference::TensorRef;
use crate::tensor::shape::Shape;

/// Columns that a value of the factor can name.
const COLUMNS: u64 = 1 << 24;

/// Entries that a row may have beside four for each of its inputs: wavelets spread few over many. A file that has more of them in one row would
/// be brought into far more bytes than its weight has.
const SPREAD: u64 = 1 << 12;

/// Entries of a module's matrix.
pub(crate) struct SparseEntries {
    /// Where they stand.
    pub(crate) recipe: RecipeKind,
    /// The tensors that hold them; the first is named where one of them is wrong.
    pub(crate) sources: Vec<usize>,
    /// Outputs and inputs.
    pub(crate) size: (u64, u64),
}

impl SparseEntries {
    /// The op that adds them, times `scale`, to a weight that may be stored as `[in, out]`.
    ///
    /// # Errors
    /// As [`SparseEntries::factor`].
    pub(crate) fn op(self, context: &ClaimContext<'_>, scale: f64, is_transposed: bool) -> Result<Op> {
        let (out, input) = self.size;
        let (factor, _) = self.factor(context, |made, width| Factor::along(0, made, width, width, 1))?;
        let placement = Placement::matrix(out, input, is_transposed);
        Ok(Op::new(Sparse, placement, [factor].as_slice(), scale as f32))
    }

    /// The factor that they are brought into, as `laid` says for so many values of a row; and how many these are.
    ///
    /// # Errors
    /// [`ClaimError::EntryOutside`] for an entry that no element of the weight is; as reading does.
    pub(crate) fn factor(
        self,
        context: &ClaimContext<'_>,
        laid: fn(TensorRef, u64) -> Factor,
    ) -> Result<(Factor, u64)> {
        self.check_types(context)?;
        let sources = self.sources.iter().map(|&i| context.tensor(i).tensor.clone()).collect();
        let derivation = Derivation { recipe: self.recipe.clone(), sources };
        let width = 2 * self.fullest_row(context, &derivation)?;
        Ok((Factor::derived(derivation, [self.size.0, width], |made| laid(made, width)), width))
    }

    /// Sources that are read here must have numbers.
    fn check_types(&self, context: &ClaimContext<'_>) -> Result<()> {
        for (place, &i) in self.sources.iter().enumerate() {
            let (adapter, key) = (context.adapter.name.clone(), context.tensor(i).key.to_string());
            let found = context.tensor(i).tensor.dtype;
            let is_index = self.recipe.recipe().has_indices(place);
            let is_number = match found {
                Dtype::F32 => true,
                Dtype::BF16 | Dtype::F16 => !is_index,
                Dtype::U8 | Dtype::I16 | Dtype::I32 | Dtype::I64 => is_index,
                _ => false,
            };
            if !is_number && is_index {
                return Err(ClaimError::IndexDtype { adapter, key, found }.into());
            }
            if !is_number {
                return Err(ClaimError::FactorDtype { adapter, key, found }.into());
            }
        }
        Ok(())
    }

    /// Entries of the row that has the most.
    fn fullest_row(&self, context: &ClaimContext<'_>, derivation: &Derivation) -> Result<u64> {
        let (out, input) = self.size;
        let Some(scatter) = derivation.recipe().scatter() else { return Ok(1) };
        if input > COLUMNS {
            let expected = format!("no more than {COLUMNS} inputs of its layer, which has {input}");
            return Err(context.factor_shape(self.sources[0], expected));
        }
        let mut counts = vec![0u32; out as usize];
        let mut outside = None;
        let source = context.adapter.source.as_ref();
        let mut read = |tensor: &TensorRef, range: Range<u64>| {
            let size = bytes_of(tensor.dtype, 1).unwrap_or(1);
            let mut bytes = vec![0; ((range.end - range.start) * size) as usize];
            source.read_at(&mut bytes, tensor.offset + range.start * size)?;
            Ok(decoded(tensor.dtype, &bytes))
        };
        let places = scatter.places(entries(&derivation.sources));
        each_entry(scatter, (&derivation.sources, &places), &mut read, &mut |[row, column], _| {
            let is_one =
                |place: f64, count: u64| place >= 0.0 && place < count as f64 && place.fract() == 0.0;
            if is_one(row, out) && is_one(column, input) {
                counts[row as usize] += 1;
            } else {
                outside = outside.or(Some([row, column]));
            }
        })?;
        if let Some([row, column]) = outside {
            let (adapter, key) =
                (context.adapter.name.clone(), context.tensor(self.sources[0]).key.to_string());
            let layer = Shape::new(&[out, input]).expect("it is a matrix of the base");
            return Err(ClaimError::EntryOutside { adapter, key, row, column, layer }.into());
        }
        let most = u64::from(counts.into_iter().max().unwrap_or(0)).max(1);
        if most > input.saturating_mul(4) + SPREAD {
            let expected =
                format!("no more entries in a row than four for each of {input} inputs, and {SPREAD} more");
            return Err(context.factor_shape(self.sources[0], expected));
        }
        Ok(most)
    }
}

/// How many values a list of entries has.
///
/// # Errors
/// [`ClaimError::FactorShape`] for what is no list, or an empty one.
pub(crate) fn entry_count(context: &ClaimContext<'_>, values: usize) -> Result<u64> {
    match *context.tensor(values).tensor.shape.axes() {
        [count] if count > 0 => Ok(count),
        _ => Err(context.factor_shape(values, "[n] with an n above zero".to_owned())),
    }
}
