//! Makes factors that no file holds before the run: of the first sources all values, of the others strips of rows.

use std::ops::Range;

use smallvec::SmallVec;

use crate::cancel::Cancel;
use crate::error::adapter::AdapterError;
use crate::error::{Error, Result};
use crate::ops::derived::bad_source::BadSource;
use crate::ops::derived::passes::Passes;
use crate::ops::derived::{DerivedFrom, RowSum};
use crate::pipeline::scatter::write_scattered;
use crate::pipeline::stored_values::read_values;
use crate::plan::out_tensor::{Plan, Role};
use crate::schedule::repack::{DerivedFactor, STRIP};
use crate::storage::sink::Scratch;
use crate::storage::source::Source;
use crate::tensor::reference::TensorRef;

/// What factors are made of, and where they are written.
pub(crate) struct Making<'m> {
    /// The plan, whose inputs the sources are.
    pub(crate) plan: &'m Plan,
    /// Its inputs.
    pub(crate) sources: &'m [Box<dyn Source>],
    /// The scratch file.
    pub(crate) scratch: &'m dyn Scratch,
    /// What stops it.
    pub(crate) cancel: &'m Cancel,
}

/// What helps where a part of the base cannot be told from the rest of it.
const CONVERT: &str = "convert the adapter where it was trained, or merge it with PEFT";

impl Making<'_> {
    /// Writes one factor to its place in the scratch file.
    ///
    /// # Errors
    /// As reading and writing do; [`AdapterError::BadSource`]; [`crate::error::kind::ErrorKind::Stopped`] when a signal came.
    pub(crate) fn write(&self, factor: &DerivedFactor) -> Result<()> {
        let recipe = factor.derivation.recipe();
        if let Some(scatter) = recipe.scatter() {
            return write_scattered(factor, scatter, self.sources, self.scratch, self.cancel);
        }
        let (whole, others) = factor.derivation.sources.split_at(recipe.whole());
        let whole = whole.iter().map(|tensor| self.rows(tensor, 0..rows_of(tensor)));
        let mut whole = whole.collect::<Result<Vec<Vec<f64>>>>()?;
        recipe.prepare(&mut whole);
        match (recipe.passes(), recipe.sum(), others) {
            (Some(passes), _, [tensor]) => self.write_passes(factor, (passes, tensor), whole),
            (_, Some(sum), [tensor]) => self.write_sum(factor, (sum, tensor), &whole),
            _ => self.write_rows(factor, &whole, others),
        }
    }

    /// Makes a factor row by row.
    fn write_rows(&self, factor: &DerivedFactor, whole: &[Vec<f64>], by_row: &[TensorRef]) -> Result<()> {
        let [rows, width] = factor.size;
        let at_once = strip_rows(by_row.iter().map(row_values).fold(width, u64::max)).min(rows.max(1));
        let mut made = vec![0.0f32; (at_once * width) as usize];
        let mut in_order = factor.derivation.recipe().in_order();
        for first in (0..rows).step_by(at_once as usize) {
            self.cancel.check()?;
            let strip = first..rows.min(first + at_once);
            let parts = by_row.iter().map(|tensor| self.rows(tensor, strip.clone()));
            let parts = parts.collect::<Result<Vec<Vec<f64>>>>()?;
            let made = &mut made[..((strip.end - strip.start) * width) as usize];
            for (place, values) in made.chunks_exact_mut(width.max(1) as usize).enumerate() {
                let mut of_parts = SmallVec::<[&[f64]; 4]>::new();
                for (part, tensor) in parts.iter().zip(by_row) {
                    let len = row_values(tensor) as usize;
                    of_parts.push(&part[place * len..(place + 1) * len]);
                }
                match &mut in_order {
                    Some(next) => next.next(&DerivedFrom { whole, rows: &of_parts }, values),
                    None => self.make(factor, first as usize + place, (whole, &of_parts), values)?,
                }
            }
            let bytes: &[u8] = bytemuck::cast_slice(made);
            self.scratch.write_at(bytes, factor.at + first * width * size_of::<f32>() as u64)?;
        }
        Ok(())
    }

    /// Makes a factor of a sum over all rows of a tensor.
    fn write_sum(
        &self,
        factor: &DerivedFactor,
        (sum, tensor): (&dyn RowSum, &TensorRef),
        whole: &[Vec<f64>],
    ) -> Result<()> {
        let mut sums = vec![0.0; sum.len(row_values(tensor) as usize)];
        self.for_each_row(tensor, |row, values| sum.add(row, values, whole, &mut sums))?;
        let mut made = vec![0.0f32; (factor.size[0] * factor.size[1]) as usize];
        self.make(factor, 0, (whole, &[&sums]), &mut made)?;
        self.scratch.write_at(bytemuck::cast_slice(&made), factor.at)
    }

    /// Makes a factor by going through all rows of a tensor as often as it takes.
    fn write_passes(
        &self,
        factor: &DerivedFactor,
        (passes, tensor): (&dyn Passes, &TensorRef),
        whole: Vec<Vec<f64>>,
    ) -> Result<()> {
        let mut pass = passes.begin(row_values(tensor) as usize, whole);
        loop {
            self.for_each_row(tensor, |row, values| pass.add(row, values))?;
            let refused = |bad| self.refused(factor, bad).hint(CONVERT);
            if !pass.turn().map_err(refused)? {
                break;
            }
        }
        let made: Vec<f32> = pass.made().into_iter().map(|value| value as f32).collect();
        self.scratch.write_at(bytemuck::cast_slice(&made), factor.at)
    }

    /// Gives every row of a tensor to `see`, in order.
    fn for_each_row(&self, tensor: &TensorRef, mut see: impl FnMut(usize, &[f64])) -> Result<()> {
        let (rows, len) = (rows_of(tensor), row_values(tensor));
        let at_once = strip_rows(len);
        for first in (0..rows).step_by(at_once as usize) {
            self.cancel.check()?;
            let strip = self.rows(tensor, first..rows.min(first + at_once))?;
            for (place, values) in strip.chunks_exact(len.max(1) as usize).enumerate() {
                see(first as usize + place, values);
            }
        }
        Ok(())
    }

    /// Makes one row.
    fn make(
        &self,
        factor: &DerivedFactor,
        row: usize,
        (whole, rows): (&[Vec<f64>], &[&[f64]]),
        values: &mut [f32],
    ) -> Result<()> {
        let made = factor.derivation.recipe().make(row, &DerivedFrom { whole, rows }, values);
        made.map_err(|bad| self.refused(factor, bad))
    }

    /// The refusal of a source that holds what cannot be.
    fn refused(&self, factor: &DerivedFactor, BadSource { source, why }: BadSource) -> Error {
        let tensor = &factor.derivation.sources[source];
        let file = match self.plan.input(tensor.file).role {
            Role::Adapter(i) => self.plan.adapters[i as usize].name.clone(),
            _ => self.plan.input(tensor.file).name.clone(),
        };
        AdapterError::BadSource { file, offset: tensor.offset, shape: tensor.shape.clone(), why }.into()
    }

    /// Some of a tensor's rows, decoded.
    fn rows(&self, tensor: &TensorRef, rows: Range<u64>) -> Result<Vec<f64>> {
        let len = row_values(tensor);
        let source = self.sources[tensor.file.0 as usize].as_ref();
        read_values(source, tensor, rows.start * len..rows.end * len)
    }
}

/// Rows of so many values that are looked at together.
fn strip_rows(values: u64) -> u64 {
    (STRIP / (values.max(1) * size_of::<f64>() as u64)).max(1)
}

/// Rows of a tensor: positions of its first axis.
fn rows_of(tensor: &TensorRef) -> u64 {
    tensor.shape.axes().first().copied().unwrap_or(1)
}

/// Values of a row.
fn row_values(tensor: &TensorRef) -> u64 {
    tensor.shape.axes().iter().skip(1).product()
}
