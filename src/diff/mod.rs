//! Two checkpoints held against each other, tensor by tensor, as values of the running model.
//!
//! [`pairs`] brings tensors together by name, [`sums`] is what two of one shape come to, [`pieces`] reads them piece by piece, a few
//! pairs at once ([`compare`]), and [`differences`] is all of it as text and as JSON. Nothing is written.

pub(crate) mod compare;
pub(crate) mod differences;
pub(crate) mod pairs;
pub(crate) mod pieces;
pub(crate) mod sums;
