//! What memory may be used, what is used, and how sizes are written.

pub(crate) mod cgroup;
pub(crate) mod limit;
pub(crate) mod limits;
pub(crate) mod pool;
#[cfg(all(test, shardfold_model))]
mod pool_model;
pub(crate) mod process;
pub(crate) mod rlimit;
pub(crate) mod slurm;
