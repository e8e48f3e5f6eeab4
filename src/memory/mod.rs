//! What memory may be used, what is used, and how sizes are written.

pub(crate) mod limits;
pub(crate) mod pool;
pub(crate) mod process;
pub(crate) mod size;
