//! Loops of other rooms that are compiled once for each set of CPU features.

/// Something to be made by [`Kernels::run`](crate::kernels::dispatch::Kernels::run). Its `run` must be inlined to gain by it.
pub(crate) trait CpuTask {
    /// What it makes.
    type Output;
    /// Makes it.
    fn run(self) -> Self::Output;
}
