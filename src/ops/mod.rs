//! TODO ('ops',)

pub(crate) mod block;
pub(crate) mod op;
pub(crate) mod placement;
