//! Factors that are made by going through all rows of a tensor of the base, as often as it takes.

use crate::ops::derived::bad_source::BadSource;

/// How a factor is made so.
pub(crate) trait Passes {
    /// Bytes that are held meanwhile, the factor itself included, where rows have so many values.
    fn bytes(&self, row: usize) -> u64;

    /// What takes in rows of so many values, of what the sources hold that are held whole.
    fn begin(&self, row: usize, whole: Vec<Vec<f64>>) -> Box<dyn Pass>;
}

/// A factor under way.
pub(crate) trait Pass {
    /// Takes in a row.
    fn add(&mut self, row: usize, values: &[f64]);

    /// Behind the last row: whether all are to be gone through again.
    ///
    /// # Errors
    /// Of what a source holds there is no such factor.
    fn turn(&mut self) -> Result<bool, BadSource>;

    /// The factor, row by row.
    fn made(self: Box<Self>) -> Vec<f64>;
}
