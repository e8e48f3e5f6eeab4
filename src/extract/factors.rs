//! [`FactoredModule`]: a module of the adapter, and how its two factors come to be.

use crate::diff::pieces::Watched;
use crate::error::Result;
use crate::extract::factored::factored;
use crate::extract::lora_file::{FileTensor, RankedModule};
use crate::extract::products::{product_rank, products};
use crate::linear::low_rank::SketchSize;
use crate::merge::values::{CheckpointValues, ValuePlace};
use crate::ops::op::Op;

/// What the factors are of.
#[derive(Clone, Debug)]
pub(crate) enum MatrixOf {
    /// The difference of two tensors, or one tensor: the best product of the rank is looked for.
    Values(Vec<ValuePlace>),
    /// Products that an adapter has already, on a matrix of so many columns.
    Products(Vec<Op>),
}

/// A module of the adapter.
#[derive(Clone, Debug)]
pub(crate) struct FactoredModule {
    /// Its path in the running model.
    pub(crate) path: String,
    /// What its factors are of.
    pub(crate) of: MatrixOf,
    /// Its matrix, as it is stored, and the rank that is looked for.
    pub(crate) size: SketchSize,
    /// The axes of a convolution's weight behind its first; empty for a linear layer.
    pub(crate) axes: Vec<u64>,
    /// Whether it is stored as `[in, out]`.
    pub(crate) is_turned: bool,
}

/// The factors of one module, as the file has them.
pub(crate) struct ModuleFactors {
    /// `lora_A`.
    pub(crate) a: Vec<f32>,
    /// `lora_B`.
    pub(crate) b: Vec<f32>,
    /// ‖Δ‖² and that of the product, where the one is not the other.
    pub(crate) squares: Option<[f64; 2]>,
}

impl FactoredModule {
    /// Its rank and alpha.
    pub(crate) fn ranked(&self) -> RankedModule {
        let (rank, alpha) = match &self.of {
            MatrixOf::Values(_) => (self.size.rank as u64, self.size.rank as f64),
            MatrixOf::Products(ops) => product_rank(ops),
        };
        RankedModule { path: self.path.clone(), rank, alpha }
    }

    /// Its tensors in the file.
    pub(crate) fn tensors(&self) -> [FileTensor; 2] {
        let [rows, cols] = [self.size.rows as u64, self.size.cols as u64];
        let [input, out] = if self.is_turned { [rows, cols] } else { [cols, rows] };
        let inputs = if self.axes.is_empty() { vec![input] } else { self.axes.clone() };
        FileTensor::factors(&self.path, (inputs, out), self.ranked().rank)
    }

    /// Makes its factors.
    ///
    /// # Errors
    /// As reading.
    pub(crate) fn factors(&self, values: &CheckpointValues, watched: Watched<'_>) -> Result<ModuleFactors> {
        let (tall, wide, squares) = match &self.of {
            MatrixOf::Values(places) => {
                let (factors, square) = factored(values, places, self.size, watched)?;
                places.iter().try_for_each(|place| values.check_unchanged(*place))?;
                (factors.tall(), factors.wide(), Some([square, factors.square()]))
            }
            MatrixOf::Products(ops) => {
                let (tall, wide) = products(values, ops, self.size)?;
                (tall, wide, None)
            }
        };
        if !self.is_turned {
            return Ok(ModuleFactors { a: wide, b: tall, squares });
        }
        Ok(ModuleFactors {
            a: turned(&tall, self.size.rows),
            b: turned(&wide, wide.len() / self.size.cols),
            squares,
        })
    }
}

/// A matrix of so many rows with its axes exchanged.
fn turned(values: &[f32], rows: usize) -> Vec<f32> {
    let cols = values.len().checked_div(rows).unwrap_or(0);
    (0..values.len()).map(|at| values[at % rows * cols + at / rows]).collect()
}

#[cfg(test)]
mod tests {
    use super::turned;

    #[test]
    fn axes_are_exchanged() {
        assert_eq!(turned(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 2), [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
    }
}
