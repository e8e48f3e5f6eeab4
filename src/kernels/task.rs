//! Loops of other rooms that are compiled once for each set of CPU features.

use crate::kernels::fused::vector::{CpuProof, FormulaVector, Real};

/// Something to be made with vectors of some type, by [`Precision::run`](crate::kernels::dispatch::Precision::run). Its `run` must
/// be inlined to gain by it.
pub(crate) trait VectorTask<T: Real> {
    /// Makes it.
    fn run<V: FormulaVector<Value = T>>(self, cpu: CpuProof<V>);
}
